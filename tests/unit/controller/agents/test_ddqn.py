"""Double DQN: masks, exploration and the metrics of an update."""

import numpy as np
import pytest
import torch

from controller.agents.ddqn import Ddqn, DdqnConfig, epsilon
from controller.agents.sequential_cache import SequentialCache


def agent(**config) -> Ddqn:
    return Ddqn(DdqnConfig(**config), 3, 6, np.random.default_rng(0))


def case(num_envs: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((num_envs, 3), dtype=np.float32)
    feasible = rng.random((num_envs, 6)) < 0.3
    feasible[:, 0] = True
    return features, feasible


@pytest.mark.parametrize("explore", [True, False])
def test_an_infeasible_action_is_never_chosen(explore):
    features, feasible = case()

    action = agent(epsilon_start=0.5).act(features, feasible, explore=explore)

    assert feasible[np.arange(200), action].all()
    assert len(set(action)) > 1


def test_random_actions_are_uniform_over_feasible_ones():
    feasible = np.tile([True, False, True, True, False, False], (3000, 1))

    action = agent(epsilon_start=1.0).act(np.zeros((3000, 3), np.float32), feasible, explore=True)

    assert np.bincount(action, minlength=6) == pytest.approx([1000, 0, 1000, 1000, 0, 0], abs=120)


def test_epsilon_falls_on_a_line_and_stays():
    config = DdqnConfig(epsilon_start=0.9, epsilon_end=0.1, epsilon_decisions=10)

    assert [epsilon(config, n) for n in (0, 5, 10, 99)] == pytest.approx([0.9, 0.5, 0.1, 0.1])


def test_values_of_taken_actions_move_to_the_target_of_the_masked_next_best():
    learner = agent(discount=0.5, learning_rate=0.01, tau=1.0)
    rows = {
        "features": torch.tensor([[1.0, 0.0, 0.0]]),
        "action": torch.tensor([2]),
        "reward": torch.tensor([3.0]),
        "continues": torch.tensor([False]),
        "next_features": torch.zeros(1, 3),
        "next_feasible": torch.ones((1, 6), dtype=torch.bool),
    }

    first = learner.update(rows)
    for _ in range(300):
        last = learner.update(rows)

    assert first["ddqn/target_mean"] == 3.0
    assert last["ddqn/q_mean"] == pytest.approx(3.0, abs=0.01)
    assert last["ddqn/td_loss"] < 1e-4 < first["ddqn/td_loss"]


def test_wrong_shapes_and_an_environment_without_a_feasible_action_are_refused():
    features, feasible = case()
    with pytest.raises(ValueError, match=r"features must have shape \('env', 3\) .*, got \(200, 2"):
        agent().act(features[:, :2], feasible, explore=False)
    with pytest.raises(ValueError, match=r"feasible must have shape \('env', 6\)"):
        agent().act(features, feasible[:100], explore=False)
    feasible[17] = False
    with pytest.raises(ValueError, match="environment 17 has no feasible action"):
        agent().act(features, feasible, explore=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [("discount", 1.1), ("epsilon_end", -0.1), ("tau", 0.0), ("learning_rate", 0.0)],
)
def test_settings_that_cannot_be_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"{field} must be .*{value}"):
        DdqnConfig(**{field: value})


@pytest.mark.parametrize("explore", [True, False])
def test_a_sequential_subset_always_fits(explore):
    sizes = (5, 3, 8, 1, 13, 2)
    cache = SequentialCache(DdqnConfig(epsilon_start=0.7), 3, sizes, 14, np.random.default_rng(4))

    subset = cache.choose(case()[0], explore=explore)

    assert subset.shape == (200, 6)
    assert (subset @ np.array(sizes)).max() <= 14
    assert subset.any() == explore  # untrained, this net leaves everything


def test_a_cache_of_no_bytes_is_refused():
    with pytest.raises(ValueError, match="capacity_bytes must be > 0, got 0"):
        SequentialCache(DdqnConfig(), 3, (1, 2), 0, np.random.default_rng(0))
