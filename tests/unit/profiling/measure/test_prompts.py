import dataclasses

import numpy as np
import pytest
from PIL import Image

from edge_node.zoo.worlds.builtin import WORLDS
from edge_node.zoo.worlds.open import scenes as open_scenes
from edge_node.zoo.worlds.plain import scenes as plain_scenes
from profiling.measure import prompts
from protos.config import ConfigError


def scorer(choice, **changes):
    return dataclasses.replace(choice, scorer=dataclasses.replace(choice.scorer, **changes))


def of_world(choice, world):
    judge = f"builtin:{WORLDS[world].prefix}judge"
    return scorer(choice, world=world, clip=judge, fid=judge)


def test_prompts_of_ones_own_that_are_captions_of_the_world_are_checked(choice, tmp_path):
    lines = ["two red stars and a blue ring", "a red circle", "40 red stars and a blue ring"]
    (tmp_path / "prompts.txt").write_text("\n".join(lines))
    choice = scorer(of_world(choice, "open"), prompts=str(tmp_path / "prompts.txt"))

    asked = prompts.prompts(choice, 3)
    (image,) = WORLDS["open"].render([asked[0].scene], np.random.default_rng(0), 64)

    assert [prompt.text for prompt in asked] == lines
    assert prompts.rendered(choice, asked) is None
    assert prompts.atoms_frac(choice, np.stack([image] * 3), asked) == [1, None, None]


def test_more_prompts_keep_the_first(choice):
    assert prompts.prompts(choice, 20)[:5] == prompts.prompts(choice, 5)
    assert len({prompt.seed for prompt in prompts.prompts(choice, 20)}) == 20


@pytest.mark.parametrize(("world", "scenes"), [("plain", plain_scenes), ("open", open_scenes)])
def test_prompts_are_held_out_captions_of_the_world_that_is_named(choice, world, scenes):
    drawn = [prompt.scene for prompt in prompts.prompts(of_world(choice, world), 100)]

    assert {scenes.split_of(scene) for scene in drawn} == {"held-out"}


def test_another_seed_draws_other_prompts(choice):
    other = dataclasses.replace(choice, seed=1)

    assert prompts.prompts(other, 5) != prompts.prompts(choice, 5)


@pytest.mark.parametrize("world", WORLDS)
def test_renderings_of_the_prompts_show_their_atoms_and_those_of_others_do_not(choice, world):
    choice = of_world(choice, world)
    asked = prompts.prompts(choice, 30)
    images = prompts.rendered(choice, asked)

    assert np.mean(prompts.atoms_frac(choice, images, asked)) > 0.9
    assert np.mean(prompts.atoms_frac(choice, images[::-1], asked)) < 0.3


def test_larger_images_are_read_too_and_other_shapes_are_not(choice):
    asked = prompts.prompts(choice, 10)
    drawn = [prompt.scene for prompt in asked]
    large = plain_scenes.render(drawn, np.random.default_rng(0), image_px=128)

    assert np.mean(prompts.atoms_frac(choice, large, asked)) > 0.9
    assert prompts.atoms_frac(choice, large[:, :, :64], asked) == [None] * 10
    assert prompts.atoms_frac(choice, large[:, :96, :96], asked) == [None] * 10


def test_nobody_can_tell_what_an_image_of_free_words_should_show(choice, tmp_path):
    (tmp_path / "prompts.txt").write_text("a cat\n\n  a dog \nno more\n")
    choice = scorer(choice, prompts=str(tmp_path / "prompts.txt"))

    asked = prompts.prompts(choice, 2)

    assert [prompt.text for prompt in asked] == ["a cat", "a dog"]
    assert prompts.rendered(choice, asked) is None
    assert prompts.atoms_frac(choice, np.zeros((2, 64, 64, 3), np.uint8), asked) == [None, None]


def test_real_images_come_from_a_folder_in_the_order_of_their_names(choice, tmp_path):
    for number in (2, 0, 1):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / f"{number}.png")
    choice = scorer(choice, reference=str(tmp_path))

    images = prompts.reference(choice, 2)

    assert images.shape == (2, 6, 8, 3)
    assert images[:, 0, 0, 0].tolist() == [0, 1]


def test_real_images_of_unlike_sizes_are_refused(choice, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 9)).save(tmp_path / "b.png")

    with pytest.raises(ConfigError, match="must all have the same size"):
        prompts.reference(scorer(choice, reference=str(tmp_path)), 2)


def test_drawn_real_images_show_the_zoos_world(choice):
    images = prompts.reference(choice, 4)

    assert images.shape == (4, 64, 64, 3)
    assert images.dtype == np.uint8
