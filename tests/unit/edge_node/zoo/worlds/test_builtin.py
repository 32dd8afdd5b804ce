"""What every built-in world promises: captions, splits, hard negatives, renderings, the check."""

from dataclasses import replace

import numpy as np
import pytest

from edge_node.zoo import text
from edge_node.zoo.worlds.builtin import PLAIN, WORLDS
from protos.seeds import stream

pytestmark = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)


def test_held_out_captions_never_occur_in_training(world):
    train, held_out = (world.draw(stream(3, "test"), 2000, s) for s in ("train", "held-out"))

    assert len(train) == len(held_out) == 2000
    assert not {s.caption for s in train} & {s.caption for s in held_out}


def test_drawing_is_a_function_of_its_seed(world):
    first, again, other = (world.draw(stream(seed, "test"), 20, "train") for seed in (3, 3, 4))

    assert first == again
    assert first != other


def test_distinct_scenes_differ_and_more_of_them_keep_the_first(world):
    few, many = (world.distinct(stream(5, "test"), count, "held-out") for count in (20, 60))

    assert len({scene.caption for scene in many}) == 60
    assert many[:20] == few


def test_more_distinct_scenes_than_there_are_are_refused_with_the_split_named(world):
    scene = world.draw(stream(3, "test"), 1, "train")
    narrow = replace(world, draw=lambda *_: scene)

    with pytest.raises(ValueError, match=f"train split of the {world.name} world holds .* than 2"):
        narrow.distinct(stream(3, "test"), 2, "train")


def test_every_caption_is_tokenised_without_unknowns_and_fits(world):
    words = text.tokenizer(world)
    drawn = world.draw(stream(3, "test"), 1000, "held-out")
    captions = [scene.caption for scene in drawn]
    rows = words([*captions, *world.described(drawn, stream(4, "test"))])["input_ids"]

    assert all(words.unk_token_id not in row for row in rows)
    assert max(map(len, rows)) <= world.max_tokens
    assert text.token_ids(words, captions).shape == (1000, world.max_tokens)


def test_a_spoiled_scene_says_something_else_in_the_same_words(world):
    rng = stream(9, "spoil")
    drawn = world.draw(rng, 500, "train")
    words = {*world.words}

    for scene in drawn:
        said = world.spoiled(scene, rng).caption
        assert said != scene.caption
        assert {*said.replace(",", " ,").replace(";", " ;").split()} <= words


def test_rendering_is_a_function_of_its_seed(world):
    drawn = world.draw(stream(3, "test"), 20, "held-out")
    first, again, other = (world.render(drawn, stream(seed, "test"), 64) for seed in (4, 4, 5))

    assert first.shape == (20, 64, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("image_px", [64, 128])
def test_a_rendering_holds_its_caption_and_not_a_spoiled_one(world, image_px):
    rng = stream(3, "test")
    drawn = world.draw(rng, 100, "held-out")
    images = world.render(drawn, rng, image_px)
    wrong = [world.spoiled(scene, rng) for scene in drawn]

    told, spoiled = (
        [world.held_frac(image, scene) for image, scene in zip(images, asked, strict=True)]
        for asked in (drawn, wrong)
    )

    assert np.mean(told) >= 0.98
    # a plain pair with its things swapped and its relation reversed would hold: not drawn here
    assert np.mean(np.array(spoiled) < 1) >= 0.98


def test_no_scenes_render_to_no_images(world):
    assert world.render([], stream(3, "test"), 64).shape == (0, 64, 64, 3)


def test_a_name_finds_its_world(world):
    assert WORLDS[world.name] is world
    assert WORLDS["plain"] is PLAIN
