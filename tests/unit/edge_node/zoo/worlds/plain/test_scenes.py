"""What the plain world promises: captions, the held-out split, the renderer."""

import numpy as np
import pytest

from edge_node.zoo.worlds.plain import scenes
from protos.seeds import stream


def test_the_caption_says_every_attribute():
    single = scenes.Single(scenes.Thing("red", "circle"), "small", "left", "gray")
    pair = scenes.Pair(
        scenes.Thing("red", "circle"), scenes.Thing("blue", "square"), "left of", "white"
    )

    assert single.caption == "a small red circle at the left on a gray background"
    assert pair.caption == "a red circle left of a blue square on a white background"


def test_a_fifth_of_the_combinations_is_held_out():
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


def test_a_square_is_painted_in_its_colour_on_its_background():
    scene = scenes.Single(scenes.Thing("green", "square"), "large", "center", "white")

    image = scenes.render([scene], stream(0, "x"))[0]

    assert image[0, 0].tolist() == [245, 245, 245]
    assert image[32, 32].tolist() == [40, 165, 60]


def test_a_larger_image_is_the_same_scene_at_a_finer_grain():
    drawn = scenes.draw(stream(3, "test"), 40, "held-out")
    small, large = (scenes.render(drawn, stream(4, "test"), px) for px in (64, 128))

    assert large.shape == (40, 128, 128, 3)
    mean = large.reshape(40, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(mean - small).mean() < 1  # antialiased edges differ a little


def test_a_square_covers_its_area():
    # side 2 * 10 px, centred on a pixel corner: exactly 400 pixels, no partial ones
    assert scenes.coverage("square", 32, 32, 10).sum() == pytest.approx(400)


def test_a_circle_covers_its_area():
    assert scenes.coverage("circle", 32, 32, 15).sum() == pytest.approx(np.pi * 225, rel=0.01)


def test_an_unknown_shape_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown shape 'blob'; known: circle, square"):
        scenes.coverage("blob", 32, 32, 10)
