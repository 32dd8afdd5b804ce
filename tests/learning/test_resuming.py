"""The same seed gives the same bytes; saved and loaded goes on as if never stopped."""

import json

import numpy as np
import pytest

from controller.agents import d3pg, ddqn
from controller.agents.networks import NetConfig, SlotSizes
from controller.agents.replay import Replay
from controller.agents.sequential_cache import SequentialCache
from controller.agents.sequential_cache import replay_fields as sequential_fields
from protos.config import ConfigError
from protos.seeds import stream

SIZES = SlotSizes(num_users=3, user_dim=2, context_dim=1)
ENVS = 4


class Slots:
    """D3PG on random slots."""

    def __init__(self, seed: int) -> None:
        config = d3pg.D3pgConfig(discount=0.9, critic_warmup_updates=5, learning_starts=3)
        self.agent = d3pg.D3pg(config, SIZES, stream(seed, "agent"))
        self.replay = Replay(d3pg.replay_fields(config, SIZES), 30, stream(seed, "replay"))

    def step(self, rng: np.random.Generator) -> dict[str, float]:
        seen, following = self._observe(rng), self._observe(rng)
        raw = self.agent.act(**seen, explore=True)
        transitions = {
            **seen,
            **{f"next_{name}": part for name, part in following.items()},
            "raw_action": raw,
            "reward": raw.mean(2),
            "continues": rng.random(ENVS) < 0.9,
        }
        self.replay.add(transitions)
        return self.agent.update(self.replay.sample(8))

    def _observe(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {
            "user_features": rng.standard_normal((ENVS, 3, 2), dtype=np.float32),
            "user_mask": rng.random((ENVS, 3)) < 0.7,
            "context": rng.standard_normal((ENVS, 1), dtype=np.float32),
        }


class Frames:
    """Double DQN on random frames."""

    def __init__(self, seed: int) -> None:
        config = ddqn.DdqnConfig(epsilon_decisions=20)
        self.agent = ddqn.Ddqn(config, 3, 5, stream(seed, "agent"))
        self.replay = Replay(ddqn.replay_fields(3, 5), 30, stream(seed, "replay"))

    def step(self, rng: np.random.Generator) -> dict[str, float]:
        features = rng.standard_normal((2, ENVS, 3), dtype=np.float32)
        feasible = rng.random((2, ENVS, 5)) < 0.5
        feasible[..., 0] = True
        action = self.agent.act(features[0], feasible[0], explore=True)
        self.replay.add(
            {
                "features": features[0],
                "action": action,
                "reward": action.astype(np.float32),
                "continues": np.ones(ENVS, bool),
                "next_features": features[1],
                "next_feasible": feasible[1],
            }
        )
        return self.agent.update(self.replay.sample(8))


class Sequences:
    """Double DQN, model by model, on random frames."""

    def __init__(self, seed: int) -> None:
        config = ddqn.DdqnConfig(epsilon_decisions=20)
        self.agent = SequentialCache(config, 3, (3, 1, 2), 4, stream(seed, "agent"))
        self.replay = Replay(sequential_fields(3, 3), 30, stream(seed, "replay"))

    def step(self, rng: np.random.Generator) -> dict[str, float]:
        features = rng.standard_normal((2, ENVS, 3), dtype=np.float32)
        subset = self.agent.choose(features[0], explore=True)
        self.replay.add(
            {
                "features": features[0],
                "subset": subset,
                "reward": subset.sum(1).astype(np.float32),
                "continues": np.ones(ENVS, bool),
                "next_features": features[1],
            }
        )
        return self.agent.update(self.replay.sample(8))


LEARNERS = [Slots, Frames, Sequences]


def metrics_of(learner, rng: np.random.Generator, steps: int) -> bytes:
    return json.dumps([learner.step(rng) for _ in range(steps)]).encode()


@pytest.mark.parametrize("kind", LEARNERS)
def test_the_same_seed_gives_byte_equal_metrics(kind):
    first, again, other = (metrics_of(kind(s), stream(s, "world"), 20) for s in (7, 7, 8))

    assert first == again
    assert first != other


@pytest.mark.parametrize("kind", LEARNERS)
def test_saved_and_loaded_goes_on_as_if_never_stopped(kind, tmp_path):
    world, unbroken = stream(0, "world"), kind(0)
    metrics_of(unbroken, world, 12)
    unbroken.agent.save(tmp_path / "agent")
    unbroken.replay.save(tmp_path / "replay")
    worlds = [stream(1, "world") for _ in range(2)]
    expected = metrics_of(unbroken, worlds[0], 15)

    resumed = kind(99)
    resumed.agent.load(tmp_path / "agent")
    resumed.replay.load(tmp_path / "replay")

    assert metrics_of(resumed, worlds[1], 15) == expected


def test_a_checkpoint_of_another_architecture_is_refused_and_names_both_sides(tmp_path):
    Slots(0).agent.save(tmp_path / "agent")
    mlp = d3pg.D3pgConfig(
        nets=NetConfig(architecture="mlp"), discount=0.9, critic_warmup_updates=5, learning_starts=3
    )

    with pytest.raises(
        ConfigError,
        match=r"config\.nets\.architecture is 'deep_sets' in the checkpoint and 'mlp' here",
    ):
        d3pg.D3pg(mlp, SIZES, stream(0, "agent")).load(tmp_path / "agent")


def test_a_checkpoint_of_another_scenario_or_learner_is_refused_and_names_both_sides(tmp_path):
    slots = Slots(0)
    slots.agent.save(tmp_path / "agent")
    more_users = SlotSizes(num_users=9, user_dim=2, context_dim=1)
    config = d3pg.D3pgConfig(discount=0.9, critic_warmup_updates=5, learning_starts=3)

    with pytest.raises(ConfigError, match=r"sizes\.num_users is 3 in the checkpoint and 9 here"):
        d3pg.D3pg(config, more_users, stream(0, "agent")).load(tmp_path / "agent")
    with pytest.raises(ConfigError, match="kind is 'd3pg' in the checkpoint and 'ddqn' here"):
        Frames(0).agent.load(tmp_path / "agent")
