"""Double DQN against optimal values: a four-state chain, and a knapsack decided in sequence."""

import itertools

import numpy as np
import pytest
import torch

from controller.agents.ddqn import Ddqn, DdqnConfig, replay_fields
from controller.agents.replay import Replay
from controller.agents.sequential_cache import SequentialCache
from controller.agents.sequential_cache import replay_fields as sequential_fields
from protos.seeds import stream

# Four states in a row. Action 0 earns 0.1 and returns to the first; action 1 goes on, and from the
# last state ends with 4; action 2 ends with 5, but is infeasible by the time of every decision.
DISCOUNT = 0.9
ON = [0.9**3 * 4, 0.9**2 * 4, 0.9 * 4, 4.0]
OPTIMAL = np.array([[0.1 + DISCOUNT * ON[0], on, 5.0] for on in ON])


def test_double_dqn_finds_the_optimal_values_of_a_chain():
    config = DdqnConfig(discount=DISCOUNT, hidden=32, learning_rate=3e-3, tau=0.02)
    agent = Ddqn(config, 4, 3, stream(0, "agent"))
    replay = Replay(replay_fields(4, 3), 12, stream(0, "replay"))
    states = np.eye(4, dtype=np.float32)
    feasible = np.tile([True, True, False], (4, 1))
    always, last = np.ones(4, bool), np.arange(4) == 3
    for action, reward, goes_to, ends in (
        (0, np.full(4, 0.1), np.zeros(4, int), ~always),
        (1, np.where(last, 4.0, 0.0), np.array([1, 2, 3, 3]), last),
        (2, np.full(4, 5.0), np.arange(4), always),
    ):
        replay.add(
            {
                "features": states,
                "action": np.full(4, action),
                "reward": reward.astype(np.float32),
                "continues": ~ends,
                "next_features": states[goes_to],
                "next_feasible": feasible,
            }
        )

    for _ in range(2000):
        agent.update(replay.sample(32))

    assert agent.values(states) == pytest.approx(OPTIMAL, abs=0.05)
    assert agent.act(states, feasible, explore=False).tolist() == [1, 1, 1, 1]


def test_a_sequence_of_small_decisions_finds_the_best_subset():
    sizes, worth = np.array([6, 5, 5, 4, 3]), np.array([0.6, 0.5, 0.5, 0.3, 0.25])
    subsets = np.array(list(itertools.product([False, True], repeat=5)))
    best = subsets[np.where(subsets @ sizes <= 10, subsets @ worth, -1).argmax()]
    assert best.tolist() == [False, True, True, False, False]  # most valuable first: 0 and 3
    config = DdqnConfig(
        discount=0.0, learning_rate=3e-3, tau=0.05, epsilon_end=0.2, epsilon_decisions=200
    )
    agent = SequentialCache(config, 1, tuple(sizes.tolist()), 10, stream(0, "agent"))
    replay = Replay(sequential_fields(1, 5), 5000, stream(0, "replay"))
    features = np.ones((16, 1), np.float32)

    for _ in range(500):
        subset = agent.choose(features, explore=True)
        replay.add(
            {
                "features": features,
                "subset": subset,
                "reward": (subset @ worth).astype(np.float32),
                "continues": np.ones(16, bool),
                "next_features": features,
            }
        )
        agent.update(replay.sample(32))

    assert agent.choose(features[:1], explore=False)[0].tolist() == best.tolist()


def test_a_frames_small_decisions_earn_its_reward_once_and_lead_to_the_next_frame():
    config = DdqnConfig(discount=0.5, learning_rate=0.01, tau=1.0)
    agent = SequentialCache(config, 1, (1, 1), 1, stream(0, "agent"))  # room for one model
    frame = {
        "features": torch.ones(1, 1),
        "subset": torch.tensor([[True, False]]),
        "reward": torch.tensor([4.0]),
        "continues": torch.tensor([False]),
        "next_features": torch.ones(1, 1),
    }

    for _ in range(600):
        metrics = agent.update(frame)

    # Both small decisions are worth 4: the last earns it, the first leads there undiscounted.
    assert metrics["ddqn/q_mean"] == pytest.approx(4.0, abs=0.05)
