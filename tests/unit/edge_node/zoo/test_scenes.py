"""What the zoo's world promises: captions, the held-out split, the renderer, the exact checker."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from edge_node.zoo import checker, scenes, text
from edge_node.zoo.judge import spoiled
from edge_node.zoo.styles import STYLES
from protos.seeds import stream


def drawn(count, split="held-out", seed=3, **how):
    rng = stream(seed, "test")
    found = scenes.draw(rng, count, split)
    return found, scenes.render(found, rng, **how)


def test_the_caption_says_every_attribute():
    single = scenes.Single(scenes.Thing("red", "circle"), "small", "left", "gray")
    pair = scenes.Pair(
        scenes.Thing("red", "circle"), scenes.Thing("blue", "square"), "left of", "white"
    )

    assert single.caption == "a small red circle at the left on a gray background"
    assert pair.caption == "a red circle left of a blue square on a white background"


def test_held_out_combinations_never_occur_in_training():
    train, _ = drawn(2000, "train")
    held_out, _ = drawn(2000, "held-out")

    assert not {s.caption for s in train} & {s.caption for s in held_out}


def test_a_fifth_of_the_combinations_is_held_out():
    rng = stream(0, "split")
    singles = [
        scenes.Single(scenes.Thing(colour, shape), size, position, background)
        for colour in scenes.COLOURS
        for shape in scenes.SHAPES
        for size in scenes.SIZES
        for position in scenes.POSITIONS
        for background in scenes.BACKGROUNDS
    ]
    held_out = [s for s in singles if scenes.split_of(s) == "held-out"]

    assert 0.17 < len(held_out) / len(singles) < 0.23
    assert len(scenes.distinct(rng, 256, scenes.Single, "held-out")) == 256


def test_too_many_distinct_scenes_are_refused_with_the_split_named():
    with pytest.raises(ValueError, match="held-out split holds fewer than 2000 Single"):
        scenes.distinct(stream(0, "x"), 2000, scenes.Single, "held-out")


def test_every_caption_is_tokenised_without_unknowns_and_fits():
    tokenizer = text.tokenizer()
    found, _ = drawn(500)
    ids = tokenizer([s.caption for s in found])["input_ids"]

    assert all(tokenizer.unk_token_id not in row for row in ids)
    assert max(map(len, ids)) <= text.MAX_TOKENS


@pytest.mark.parametrize("style", STYLES)
def test_rendering_is_a_function_of_its_seed(style):
    assert np.array_equal(drawn(20, style=style)[1], drawn(20, style=style)[1])


def test_styles_of_the_same_seed_differ_in_paint_and_not_in_layout():
    found, plain = drawn(40)

    for style in ("neon", "sketch"):
        _, styled = drawn(40, style=style)
        assert not np.array_equal(styled, plain)
        for scene, one, other in zip(found, plain, styled, strict=True):
            ours, theirs = checker.read(one), checker.read(other, style)
            assert theirs is not None, scene.caption
            places = [sorted(o.x + o.y for o in reading.objects) for reading in (ours, theirs)]
            assert places[1] == pytest.approx(places[0], abs=1.5)


def test_a_larger_image_is_the_same_scene_at_a_finer_grain():
    found, images = drawn(40, image_px=128)

    assert images.shape == (40, 128, 128, 3)
    assert all(checker.matches(image, scene) for image, scene in zip(images, found, strict=True))
    mean = images.reshape(40, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(mean - drawn(40)[1]).mean() < 1  # antialiased edges differ a little


def test_a_style_paints_the_colours_that_its_definition_says():
    # a square over the whole height of its box: its middle is body, its ground untouched
    scene = scenes.Single(scenes.Thing("green", "square"), "large", "center", "white")
    neon = scenes.render([scene], stream(0, "x"), style="neon")[0]
    sketch = scenes.render([scene], stream(0, "x"), style="sketch")[0]

    assert neon[0, 0].tolist() == [71, 66, 91]  # (10, 5, 30) + 0.25 * 245
    assert neon[32, 32].tolist() == [26, 107, 39]  # 0.65 * (40, 165, 60)
    assert sketch[0, 0].tolist() == [241, 231, 212]  # 0.6 * paper + 0.4 * 245
    tones = {tuple(pixel) for pixel in sketch[28:36, 28:36].reshape(-1, 3).tolist()}
    assert tones == {(40, 165, 60), (109, 185, 106)}  # strokes and 0.35 of paper between them


def test_a_square_covers_its_area():
    # side 2 * 10 px, centred on a pixel corner: exactly 400 pixels, no partial ones
    assert scenes.coverage("square", 32, 32, 10).sum() == pytest.approx(400)


def test_a_circle_covers_its_area():
    assert scenes.coverage("circle", 32, 32, 15).sum() == pytest.approx(np.pi * 225, rel=0.01)


@pytest.mark.parametrize(
    ("style", "sigma_px"),
    [("plain", 0), ("plain", 1), ("neon", 0), ("neon", 0.5), ("sketch", 0), ("sketch", 0.5)],
)
def test_the_checker_reads_rendered_scenes_also_when_blurred(style, sigma_px):
    found, images = drawn(200, style=style)
    blurred = ndimage.gaussian_filter(images.astype(np.float32), (0, sigma_px, sigma_px, 0))
    blurred = blurred.astype(np.uint8)

    right = [checker.matches(i, s, style) for i, s in zip(blurred, found, strict=True)]

    assert np.mean(right) >= 0.99


@pytest.mark.parametrize("style", STYLES)
def test_the_checker_rejects_a_scene_with_one_thing_changed(style):
    found, images = drawn(150, style=style)
    rng = stream(9, "spoil")
    wrong = [spoiled(scene, rng) for scene in found]

    # a pair with its two things swapped and its relation reversed is the same scene: not drawn here
    assert not any(
        checker.matches(image, scene, style) for image, scene in zip(images, wrong, strict=True)
    )


def test_a_pair_said_from_the_other_side_is_the_same_scene():
    rng = stream(1, "pair")
    pair = scenes.draw_pair(rng, "train")
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    mirrored = replace(pair, first=pair.second, second=pair.first, relation=opposite[pair.relation])
    image = scenes.render([pair], rng)[0]

    assert checker.matches(image, pair)
    assert checker.matches(image, mirrored)


def test_an_empty_or_noisy_image_matches_nothing():
    rng = stream(2, "noise")
    scene = scenes.draw_single(rng, "train")

    assert not checker.matches(np.full((64, 64, 3), 128, np.uint8), scene)
    assert not checker.matches(rng.integers(0, 256, (64, 64, 3), np.uint8), scene)
