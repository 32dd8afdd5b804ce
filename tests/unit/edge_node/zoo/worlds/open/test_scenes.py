"""What the open world's captions promise: exact words, one reading, a clean held-out split."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.zoo.worlds.open import scenes
from edge_node.zoo.worlds.open.scenes import Group, Relation, Scene, Thing
from protos.seeds import stream

RED_STARS = Group(2, Thing("red", "star"))
BLUE_RING = Group(1, Thing("blue", "ring"))
GREEN_BALLS = Group(3, Thing("green", "ball"))
YELLOW_BALL = Group(1, Thing("yellow", "ball"))
RELATION = Relation(BLUE_RING.thing, "above", YELLOW_BALL.thing)

SEEDS = st.integers(0, 2**32)
SPLITS = st.sampled_from(["train", "held-out"])


def drawn(seed, split, count=1):
    return scenes.draw(stream(seed, "test"), count, split)


@pytest.mark.parametrize(
    ("scene", "caption"),
    [
        (Scene((RED_STARS, BLUE_RING)), "two red stars and a blue ring"),
        (
            Scene((RED_STARS, BLUE_RING, GREEN_BALLS)),
            "two red stars, a blue ring and three green balls",
        ),
        (
            Scene((YELLOW_BALL, RED_STARS, BLUE_RING), RELATION),
            "a yellow ball, two red stars and a blue ring; the blue ring above the yellow ball",
        ),
    ],
)
def test_the_caption_says_counts_colours_kinds_and_the_relation(scene, caption):
    assert scene.caption == caption
    assert scenes.parse(caption) == scene


def test_a_description_puts_each_things_cell_behind_its_group():
    scene = Scene((YELLOW_BALL, RED_STARS, BLUE_RING), RELATION)

    said = scene.described([(0.0, 0.99), (0.5, 0.126), (0.49, 0.124), (0.3, 0.6)])

    assert said == (
        "a yellow ball A 8, two red stars E 2 D 1 and a blue ring C 5; "
        "the blue ring above the yellow ball"
    )


def test_objects_and_atoms_are_counted():
    plain, related = Scene((RED_STARS, BLUE_RING)), Scene((BLUE_RING, YELLOW_BALL), RELATION)

    assert (plain.num_objects, plain.num_atoms) == (3, 2)  # 2 + 1; two groups
    assert (related.num_objects, related.num_atoms) == (2, 3)  # 1 + 1; two groups, a relation


@given(seed=SEEDS, split=SPLITS)
def test_parsing_a_caption_gives_the_scene_back(seed, split):
    (scene,) = drawn(seed, split)

    assert scenes.parse(scene.caption) == scene


@pytest.mark.parametrize(
    ("caption", "complaint"),
    [
        ("", r"'' is not of the open world: it names a/two/three red/yellow/"),
        ("a large red circle at the top on a white background", r"'a large red circle at .* not"),
        ("a red circle left of a blue square on a white background", r"'a red circle left of .*"),
        ("two red stars and a pink ball", r"'a pink ball' is not of the open world"),
        ("two red stars and a blue cube", r"'a blue cube' is not of the open world"),
        ("two red star and a blue ball", r"'two red star' is not of the open world"),
        ("a red stars and two blue balls", r"'a red stars' is not of the open world"),
        ("Two red stars and a blue ball", r"'Two red stars' is not of the open world"),
        ("40 red stars and a blue ball", r"'40 red stars' is not of the open world"),
        ("two red stars and a blue ball, ", r"'' is not of the open world"),
        (
            "three red stars, three blue balls and three cyan rings",
            r"it shows 3 to 8 objects, got 9",
        ),
        ("a red star and a blue ball", r"it shows 3 to 8 objects, got 2"),
        ("three red stars", r"it names 2 to 4 different things, got 1"),
        (
            "a red star, a red ball, a red ring, a green ball and a blue star",
            r"it names 2 to 4 different things, got 5",
        ),
        ("two red stars and a red star", r"it names a thing once, got 'red star' 2 times"),
        (
            "two red stars and a blue ring and a red ball",
            r"which says 'two red stars, a blue ring and a red ball'",
        ),
        (
            "two red stars, a blue ring and a red ball; the blue ring above the green star",
            r"it relates single things \(blue ring, red ball\), got 'green star'",
        ),
        (
            "two red stars, a blue ring and a red ball; the red star above the blue ring",
            r"it relates single things \(blue ring, red ball\), got 'red star'",
        ),
        (
            "two red stars and two blue rings; the red star above the blue ring",
            r"it relates single things \(none\), got 'red star'",
        ),
        (
            "two red stars, a blue ring and a red ball; the red ball above the red ball",
            r"it relates two things, got 'red ball' and itself",
        ),
        (
            "two red stars, a blue ring and a red ball; the blue ring near the red ball",
            r"'the blue ring near the red ball' is no relation .* left of/right of/above/below",
        ),
        ("two red stars, a blue ring and a red ball; ", r"'' is no relation of the open world"),
    ],
)
def test_what_is_no_caption_is_refused_and_named(caption, complaint):
    with pytest.raises(ValueError, match=complaint):
        scenes.parse(caption)


def test_the_words_are_those_of_captions_and_descriptions_and_no_others():
    rng = stream(1, "centres")
    said = {
        word
        for scene in drawn(1, "train", 3000)
        for word in scene.described(zip(rng.random(8), rng.random(8), strict=True))
        .replace(",", " ,")
        .replace(";", " ;")
        .split()
    }

    assert said == {*scenes.words()}


@given(seed=SEEDS, split=SPLITS)
def test_a_drawn_scene_has_3_to_8_objects_in_groups_of_different_things(seed, split):
    (scene,) = drawn(seed, split)
    things = [group.thing for group in scene.groups]

    assert 3 <= scene.num_objects <= 8
    assert 2 <= len(things) <= 4
    assert len({*things}) == len(things)
    assert all(1 <= group.count <= 3 for group in scene.groups)


@given(seed=SEEDS, split=SPLITS)
def test_the_split_knows_neither_the_order_of_groups_nor_the_relation(seed, split):
    (scene,) = drawn(seed, split)

    for groups in permutations(scene.groups):
        assert scenes.split_of(replace(scene, groups=groups)) == split
        assert scenes.split_of(Scene(groups)) == split


def test_train_and_held_out_share_no_combination():
    train, held_out = (
        {frozenset(scene.groups) for scene in drawn(2, split, 3000)}
        for split in ("train", "held-out")
    )

    assert not train & held_out


def test_a_fifth_of_the_combinations_is_held_out():
    rng = stream(0, "split")
    split = [scenes.split_of(scenes._scene(rng)) for _ in range(4000)]

    # four standard deviations of a share of 4000: 4 * sqrt(0.2 * 0.8 / 4000) = 0.025
    assert split.count("held-out") / 4000 == pytest.approx(0.2, abs=0.025)


def test_relations_are_drawn_for_three_tenths_of_the_scenes_with_two_single_things():
    able = [
        scene
        for scene in drawn(4, "train", 4000)
        if sum(group.count == 1 for group in scene.groups) >= 2
    ]
    named = [scene.relation.name for scene in able if scene.relation]

    assert len(able) > 1000
    # four standard deviations of a share of 1000: 4 * sqrt(0.3 * 0.7 / 1000) = 0.058
    assert len(named) / len(able) == pytest.approx(0.3, abs=0.058)
    assert {*named} == {*scenes.RELATIONS}


@given(seed=SEEDS, split=SPLITS)
def test_a_spoiled_scene_is_another_one_of_the_same_world(seed, split):
    (scene,) = drawn(seed, split)

    changed = scenes.spoiled(scene, stream(seed, "spoil"))

    assert changed.caption != scene.caption
    assert scenes.parse(changed.caption) == changed


@given(seed=SEEDS)
def test_spoiling_changes_one_group_or_the_relation(seed):
    (scene,) = drawn(seed, "train")

    changed = scenes.spoiled(scene, stream(seed, "spoil"))

    pairs = zip(scene.groups, changed.groups, strict=True)
    differing = [(one, other) for one, other in pairs if one != other]
    if differing:
        ((one, other),) = differing
        assert (
            (one.count != other.count)
            + (one.thing.colour != other.thing.colour)
            + (one.thing.kind != other.thing.kind)
        ) == 1
    else:
        assert scene.relation.name != changed.relation.name


def test_a_relation_goes_along_with_a_changed_thing():
    scene = Scene((YELLOW_BALL, RED_STARS, BLUE_RING), RELATION)
    rng = stream(6, "spoil")

    changed = [scenes.spoiled(scene, rng) for _ in range(200)]

    turned = [one for one in changed if one.groups[0].thing.colour not in ("yellow", "blue")]
    assert turned
    assert all(one.relation.second == one.groups[0].thing for one in turned)
    assert {np.sign(one.num_objects - 4) for one in changed} == {-1, 0, 1}
