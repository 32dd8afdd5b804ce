"""Stable-Baselines3's agents behind the calls of our own."""

import numpy as np
import pytest
import torch

from controller.agents.d3pg import D3pgConfig, replay_fields
from controller.agents.networks import NetConfig, SlotSizes
from controller.agents.replay import Replay
from controller.training.sb3_agents import Sb3Agent
from protos.config import ConfigError

AGENTS = ("sb3-ddpg", "sb3-td3", "sb3-sac")
SIZES = SlotSizes(num_users=3, user_dim=2, context_dim=1)


def config(**changes) -> D3pgConfig:
    return D3pgConfig(
        nets=NetConfig(hidden=16),
        exploration_std=0.3,
        actor_learning_rate=3e-3,
        critic_learning_rate=3e-3,
        **changes,
    )


def reference(kind: str, seed: int = 0, **changes) -> Sb3Agent:
    return Sb3Agent(kind, config(**changes), SIZES, np.random.default_rng(seed))


def slots(num_envs: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    mask = np.ones((num_envs, 3), bool)
    mask[:, 2] = False
    features = rng.uniform(-1, 1, (num_envs, 3, 2)).astype(np.float32) * mask[:, :, None]
    return {
        "user_features": features,
        "user_mask": mask,
        "context": rng.uniform(-1, 1, (num_envs, 1)).astype(np.float32),
    }


def learn(agent: Sb3Agent, replay: Replay, num_slots: int) -> list[float]:
    """Run the identity task: a user is paid for answering with its own features."""
    rng, losses = np.random.default_rng(1), []
    for _ in range(num_slots):
        slot = slots(16, rng)
        raw = agent.act(**slot, explore=True)
        reward = -np.square(raw - slot["user_features"]).sum(axis=2)
        replay.add({**slot, "raw_action": raw, "reward": reward.astype(np.float32)})
        losses.append(agent.update(replay.sample(32))["sb3/critic_loss"])
    return losses


def empty_replay() -> Replay:
    return Replay(replay_fields(config(), SIZES), 5000, np.random.default_rng(2))


def error(agent: Sb3Agent) -> float:
    slot = slots(256, np.random.default_rng(3))
    raw = agent.act(**slot, explore=False)
    return float(np.square(raw - slot["user_features"]).mean())


@pytest.mark.parametrize("agent", AGENTS)
def test_a_reference_agent_learns_the_identity(agent):
    one = reference(agent)
    before = error(one)
    learn(one, empty_replay(), 600)
    assert error(one) < before / 4


@pytest.mark.parametrize("agent", AGENTS)
def test_who_does_not_ask_gets_nothing_and_noise_stays_within_bounds(agent):
    one, slot = reference(agent, learning_starts=1), slots(64, np.random.default_rng(0))
    for _ in range(2):  # uniform, then its own
        raw = one.act(**slot, explore=True)
        assert raw.shape == (64, 3, 2)
        assert raw.dtype == np.float32
        assert np.abs(raw).max() <= 1
        assert not raw[:, 2].any()
        assert np.ptp(raw[:, :2]) > 0


@pytest.mark.parametrize("agent", AGENTS)
def test_saved_and_loaded_it_goes_on_as_if_never_stopped(agent, tmp_path):
    first, second, replay = reference(agent), reference(agent, seed=9), empty_replay()
    learn(first, replay, 11)  # an odd number: TD3's next update is a delayed one
    first.save(tmp_path / "agent")
    second.load(tmp_path / "agent")
    minibatches = [replay.sample(32) for _ in range(5)]
    slot = slots(4, np.random.default_rng(4))

    went_on = [[one.update(each) for each in minibatches] for one in (first, second)]
    acted = [one.act(**slot, explore=True) for one in (first, second)]

    assert went_on[0] == went_on[1]
    assert np.array_equal(*acted)


def test_another_agents_checkpoint_is_refused(tmp_path):
    reference("sb3-td3").save(tmp_path / "agent")
    with pytest.raises(ConfigError, match="'sb3-td3' in the checkpoint and 'sb3-ddpg' here"):
        reference("sb3-ddpg").load(tmp_path / "agent")


@pytest.mark.parametrize("agent", AGENTS)
def test_its_draws_leave_the_global_generator_alone(agent):
    before = torch.get_rng_state()
    learn(reference(agent), empty_replay(), 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_next_slot_counts_as_far_as_it_continues():
    fields = replay_fields(config(discount=0.9), SIZES)
    rng = np.random.default_rng(0)
    minibatch = {
        name: torch.from_numpy(rng.uniform(-1, 1, (8, *shape)).astype(np.float32)).to(kind)
        for name, (shape, kind) in fields.items()
    }
    minibatch["user_mask"] = torch.ones(8, 3, dtype=torch.bool)

    def loss(goes: bool) -> dict[str, float]:
        given = minibatch | {"continues": torch.full((8,), goes)}
        return reference("sb3-ddpg", discount=0.9).update(given)

    assert loss(True) == loss(True) != loss(False)
