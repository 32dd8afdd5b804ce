import doctest
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from controller.cell.simulator import serve
from controller.policies import baselines
from controller.training import rewards
from controller.training.rewards import Normaliser, compress_tail, rewards_of
from tests.unit.controller.scenarios import scenario, slot

REQUESTS = slot([0, 1, 2, -1], [0, 0, -1, 0])


def utility_of(allocation) -> np.ndarray:
    return serve(REQUESTS, allocation, scenario()).utility


def test_equal_allocation_gains_nothing_for_a_slot():
    reward, _ = rewards_of(
        REQUESTS, utility_of(baselines.equal(REQUESTS)), scenario(), "gain", "log"
    )
    assert reward.tolist() == [[0, 0, 0, 0]]


def test_what_is_taken_off_does_not_depend_on_the_decision():
    allocations = [baselines.equal(REQUESTS), baselines.allocation_rule("exact", scenario(), None)]
    utilities = [utility_of(allocations[0]), utility_of(allocations[1](REQUESTS))]
    gains = [rewards_of(REQUESTS, utility, scenario(), "gain", "log") for utility in utilities]

    assert gains[1][0].sum() > 0
    assert gains[1][0] - gains[0][0] == pytest.approx(utilities[1] - utilities[0])
    whole = (utilities[1] - utilities[0]).sum() / 3.2  # 4 users, each asks with chance 0.8
    assert gains[1][1] - gains[0][1] == pytest.approx(whole)


def test_a_miss_gains_nothing_over_the_cloud_and_a_hit_does():
    missed, hit = slot([0, -1, -1, -1], [-1] * 4), slot([0, -1, -1, -1])
    gains = [
        rewards_of(
            seen,
            serve(seen, baselines.equal(seen), scenario()).utility,
            scenario(),
            "gain",
            "clipped",
        )[1]
        for seen in (missed, hit)
    ]
    assert gains[0].tolist() == [0]
    assert gains[1] > 0


def test_a_clipped_deep_fade_counts_no_less_than_minus_1():
    utility = np.array([[0.5, -300.0, 0.3, 0.0]])
    reward, frame = rewards_of(REQUESTS, utility, scenario(), "utility", "clipped")
    assert reward.tolist() == [[0.5, -1.0, 0.3, 0.0]]
    assert frame.tolist() == pytest.approx([-0.2 / 3.2])


@given(st.lists(st.floats(-1e6, 1.0), min_size=2))
def test_on_a_logarithm_the_order_of_utilities_stays_and_so_do_those_above_minus_1(utilities):
    ranked = np.sort(utilities)
    found = compress_tail(ranked, "log")
    assert (np.diff(found) >= 0).all()
    assert (np.diff(found)[np.diff(ranked) > 1e-9 * np.abs(ranked[1:])] > 0).all()
    assert np.array_equal(found[ranked >= -1], ranked[ranked >= -1])
    near = compress_tail(np.array([-1 - 1e-6, -1.0]), "log")
    assert (near[1] - near[0]) / 1e-6 == pytest.approx(1.0, rel=1e-3)  # no kink at -1


@given(st.lists(st.lists(st.floats(-10, 10), max_size=5), min_size=1, max_size=5))
def test_moments_in_parts_are_those_of_the_whole(parts):
    seen = Normaliser()
    for part in parts:
        seen.observe(np.array(part))

    whole = np.array([value for part in parts for value in part])
    if len(whole):
        assert seen.mean == pytest.approx(whole.mean(), abs=1e-9)
        assert seen.std == pytest.approx(max(whole.std(), 1e-6), abs=1e-6)
    else:
        assert (seen.mean, seen.std) == (0.0, 1.0)


def test_rewards_are_brought_to_scale_and_the_rest_is_left():
    seen = Normaliser()
    seen.observe(np.array([1.0, 3.0]))
    found = seen.applied({"reward": torch.tensor([4.0]), "action": torch.tensor([7])})
    assert found["reward"].tolist() == [2.0]
    assert found["action"].tolist() == [7]
    assert Normaliser(**asdict(seen)) == seen


def test_the_examples_in_the_docstrings_are_true():
    found = doctest.testmod(rewards)
    assert found.attempted > 0
    assert found.failed == 0
