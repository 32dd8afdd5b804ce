"""The evaluation's arithmetic, by hand."""

import numpy as np
import pytest

from edge_node.zoo.evaluation import measures
from protos.seeds import stream


def test_an_estimate_is_the_mean_and_its_interval_holds_it():
    values = np.array([0.0, 1.0] * 50)

    found = measures.estimate(values, stream(0, "test"))

    # 100 draws of a fair coin: the mean's standard error is 0.05.
    assert found.mean == 0.5
    assert found.low == pytest.approx(0.4, abs=0.02)
    assert found.high == pytest.approx(0.6, abs=0.02)


def test_equal_values_are_no_gain_and_a_gain_in_every_prompt_is_one():
    values = np.linspace(0, 1, 40)

    assert measures.better_p(values, values, stream(0, "test")) == 1.0
    assert measures.better_p(values + 0.1, values, stream(0, "test")) < 0.001
    assert measures.better_p(values, values + 0.1, stream(0, "test")) > 0.999


def test_the_distance_of_equal_sets_is_0_and_of_a_shifted_set_the_shift_squared():
    features = stream(1, "test").standard_normal((60, 3))

    assert measures.Reference(features).distance(features) == pytest.approx(0, abs=1e-9)
    # The covariance stays, the means are 3 and 4 apart in two of three features: 9 + 16.
    assert measures.Reference(features).distance(features + np.array([3, 0, 4])) == pytest.approx(
        25
    )


def test_the_distance_of_a_set_twice_as_wide_is_its_variance():
    features = np.array([[-1.0], [1.0]] * 30)

    # Var is v and 4 v: v + 4 v - 2 sqrt(4 v v) = v, with v = 60 / 59.
    assert measures.Reference(features).distance(2 * features) == pytest.approx(60 / 59)


def test_the_set_that_is_nearer_to_the_real_one_is_found_and_the_other_is_not():
    rng = stream(2, "test")
    real, near, far = rng.standard_normal((3, 80, 4))
    far += 0.8

    reference = measures.Reference(real)

    assert reference.nearer_p(near, far, rng) < 0.01
    assert reference.nearer_p(far, near, rng) > 0.99
    assert reference.nearer_p(near, near, rng) == 1.0


QUALITY = {1: 0.1, 2: 0.3, 4: 0.4, 8: 0.64, 50: 0.7}


def test_a_share_of_the_range_counts_from_the_fewest_steps_to_the_best():
    assert measures.share_of_range(QUALITY, 1) == 0
    assert measures.share_of_range(QUALITY, 4) == 0.5  # (0.4 - 0.1) / (0.7 - 0.1)
    assert measures.share_of_range(QUALITY, 50) == 1


def test_a_model_that_never_gets_better_needs_its_fewest_steps():
    assert measures.steps_to_share({1: 0.5, 4: 0.5, 8: 0.4}, 0.9) == 1


def test_the_fewest_steps_that_reach_a_share_are_found():
    assert measures.steps_to_share(QUALITY, 0.9) == 8  # 0.54 of 0.6
    assert measures.steps_to_share(QUALITY, 0.91) == 50


def test_a_model_that_another_beats_in_both_is_not_on_the_front():
    points = [("slow", 2.0, 0.6), ("fast", 1.0, 0.6), ("best", 3.0, 0.9), ("worst", 4.0, 0.1)]

    front = measures.pareto(points)

    assert [name for name, _, _ in front] == ["fast", "best"]
