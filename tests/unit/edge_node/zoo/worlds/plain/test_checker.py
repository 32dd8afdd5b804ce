"""What the plain world's exact check promises: it reads renderings, and nothing else passes."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from edge_node.zoo.worlds.plain import checker, scenes
from protos.seeds import stream


def drawn(count, image_px=64):
    rng = stream(3, "test")
    found = scenes.draw(rng, count, "held-out")
    return found, scenes.render(found, rng, image_px)


@pytest.mark.parametrize("sigma_px", [0, 1])
def test_rendered_scenes_are_read_also_when_blurred(sigma_px):
    found, images = drawn(200)
    blurred = ndimage.gaussian_filter(images.astype(np.float32), (0, sigma_px, sigma_px, 0))
    blurred = blurred.astype(np.uint8)

    right = [checker.matches(i, s) for i, s in zip(blurred, found, strict=True)]

    assert np.mean(right) >= 0.99


def test_a_larger_image_is_read_as_well():
    found, images = drawn(40, image_px=128)

    assert all(checker.matches(image, scene) for image, scene in zip(images, found, strict=True))


def test_a_scene_with_one_thing_changed_is_rejected():
    found, images = drawn(150)
    rng = stream(9, "spoil")
    wrong = [scenes.spoiled(scene, rng) for scene in found]

    # a pair with its two things swapped and its relation reversed is the same scene: not drawn here
    matches = [checker.matches(image, scene) for image, scene in zip(images, wrong, strict=True)]

    assert not any(matches)


def test_a_pair_said_from_the_other_side_is_the_same_scene():
    rng = stream(1, "pair")
    pair = scenes.draw_pair(rng, "train")
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    mirrored = replace(pair, first=pair.second, second=pair.first, relation=opposite[pair.relation])
    image = scenes.render([pair], rng)[0]

    assert checker.matches(image, pair)
    assert checker.matches(image, mirrored)


def test_a_caption_is_one_atom_that_holds_or_not():
    (scene, other), (image, _) = drawn(2)

    assert checker.held_frac(image, scene) == 1
    assert checker.held_frac(image, other) == 0


def test_an_empty_or_noisy_image_matches_nothing():
    rng = stream(2, "noise")
    scene = scenes.draw_single(rng, "train")

    assert not checker.matches(np.full((64, 64, 3), 128, np.uint8), scene)
    assert not checker.matches(rng.integers(0, 256, (64, 64, 3), np.uint8), scene)
