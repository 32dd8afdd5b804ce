"""What the open world's renderings promise: room for all, the relation, shapes of their area."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.zoo.worlds.open import atoms, painting, scenes
from protos.seeds import stream

SEEDS = st.integers(0, 2**32)


def laid_out(seed):
    rng = stream(seed, "test")
    (scene,) = scenes.draw(rng, 1, "train")
    return scene, painting.lay_out(scene, rng)


@given(seed=SEEDS)
def test_every_thing_of_the_caption_gets_a_place(seed):
    scene, placed = laid_out(seed)

    asked = [str(group.thing) for group in scene.groups for _ in range(group.count)]
    assert sorted(str(one.thing) for one in placed) == sorted(asked)


@given(seed=SEEDS)
def test_circumscribed_circles_never_overlap_and_lie_inside_the_image(seed):
    _, placed = laid_out(seed)

    for index, one in enumerate(placed):
        assert one.radius <= one.x <= 64 - one.radius
        assert one.radius <= one.y <= 64 - one.radius
        for other in placed[:index]:
            assert np.hypot(one.x - other.x, one.y - other.y) > one.radius + other.radius


@given(seed=SEEDS)
def test_a_relation_that_is_asked_for_holds(seed):
    rng = stream(seed, "test")
    scene = next(s for s in scenes.draw(rng, 200, "train") if s.relation)

    places = {one.thing: one for one in painting.lay_out(scene, rng)}

    first, second = places[scene.relation.first], places[scene.relation.second]
    right, down = first.x - second.x, first.y - second.y
    along, across = {
        "left of": (-right, down),
        "right of": (right, down),
        "above": (-down, right),
        "below": (down, right),
    }[scene.relation.name]
    assert along > abs(across)


def test_a_larger_image_is_the_same_scene_at_a_finer_grain():
    drawn = scenes.draw(stream(3, "test"), 20, "held-out")
    small, large = (painting.render(drawn, stream(4, "test"), px) for px in (64, 128))

    mean = large.reshape(20, 64, 2, 64, 2, 3).mean(axis=(2, 4))

    assert np.abs(mean - small).mean() < 2  # outlines and stripes differ a little


def test_a_description_tells_where_the_things_of_its_image_are():
    drawn = scenes.draw(stream(3, "test"), 40, "train")
    images = painting.render(drawn, stream(4, "test"))

    descriptions = painting.described(drawn, stream(4, "test"))

    right = 0
    for image, said in zip(images, descriptions, strict=True):
        found = atoms.read(image)
        cells = Counter(f"{'ABCDEFGH'[int(f.x / 8)]} {1 + int(f.y / 8)}" for f in found)
        right += (Counter(re.findall(r"[A-H] [1-8]", said)) & cells).total()
    num_things = sum(scene.num_objects for scene in drawn)
    assert right / num_things > 0.9  # centres on a border of cells are read on either side of it


def test_grounds_are_muted_and_things_are_not():
    drawn = scenes.draw(stream(3, "test"), 50, "held-out")
    images = painting.render(drawn, stream(4, "test")).astype(int)
    chroma = images.max(axis=-1) - images.min(axis=-1)

    assert chroma[:, [0, 0, -1, -1], [0, -1, 0, -1]].max() < 25
    assert (chroma.max(axis=(1, 2)) > 100).all()


# areas at radius R: a disc pi R^2; a ring between 0.48 R and R; a star of ten triangles with sides
# R and 0.4 R at 36 degrees, each R * 0.4 R * sin(36) / 2
AREAS = {
    "ball": np.pi,  # 3.142
    "ring": np.pi * (1 - 0.48**2),  # 2.418
    "star": 10 * 0.4 * np.sin(np.deg2rad(36)) / 2,  # 1.176
}


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_the_inside_of_an_outline_has_the_area_of_its_kind(kind):
    radius, step = 10.0, 0.05
    axis = np.arange(-11, 11, step) + step / 2
    x, y = axis[None, :], axis[:, None]

    is_inside = painting.signed_distance(kind, x, y, radius) < 0

    assert is_inside.sum() * step**2 == pytest.approx(AREAS[kind] * radius**2, rel=0.01)
    assert not is_inside[np.hypot(x, y) > radius + step].any()


@pytest.mark.parametrize(
    ("kind", "x", "y", "distance"),
    [
        ("ball", 0, 0, -10),
        ("ball", 6, 8, 0),
        ("ring", 0, 0, 4.8),  # the hole's radius
        ("ring", 0, -7.4, -2.6),  # half way between 4.8 and 10
        ("star", 0, -10, 0),  # a point is up
        ("star", 0, 4.0, 0),  # and a notch down, at 0.4 R
    ],
)
def test_distances_by_hand(kind, x, y, distance):
    found = painting.signed_distance(kind, np.array(float(x)), np.array(float(y)), 10.0)

    assert found == pytest.approx(distance, abs=1e-3)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown kind 'cube'"):
        painting.signed_distance("cube", np.zeros(1), np.zeros(1), 10.0)


def test_axes_turned_by_a_quarter_read_x_where_y_was():
    # the new first axis points down (0, 1), the new second one to the left (-1, 0)
    x, y = painting.turned(np.array([3.0, 0.0]), np.array([0.0, 5.0]), np.pi / 2)

    assert x == pytest.approx([0, 5])
    assert y == pytest.approx([-3, 0])


@given(
    x=st.floats(-50, 50),
    y=st.floats(-50, 50),
    angle=st.floats(-10, 10),
)
def test_turning_keeps_lengths_and_turning_back_gives_the_point(x, y, angle):
    turned = painting.turned(np.array(x), np.array(y), angle)
    back = painting.turned(*turned, -angle)

    assert np.hypot(*turned) == pytest.approx(np.hypot(x, y), abs=1e-9)
    assert back == (pytest.approx(x, abs=1e-9), pytest.approx(y, abs=1e-9))
