"""D3PG: shapes, masks, exploration, and what an update moves."""

import numpy as np
import pytest
import torch

from controller.agents.d3pg import D3pg, D3pgConfig, replay_fields
from controller.agents.networks import NetConfig, SlotSizes
from controller.agents.replay import Replay

SIZES = SlotSizes(num_users=3, user_dim=2, context_dim=1)
ALL_NETS = [
    NetConfig(actor=actor, architecture=architecture, parametrisation=parametrisation)
    for architecture in ("mlp", "deep_sets")
    for actor, parametrisation in (("mlp", "clean"), ("diffusion", "clean"), ("diffusion", "noise"))
]
KINDS = [f"{nets.architecture} {nets.actor} {nets.parametrisation}" for nets in ALL_NETS]


def agent(**config) -> D3pg:
    return D3pg(D3pgConfig(**config), SIZES, np.random.default_rng(0))


def observation(num_envs: int = 50) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "user_features": rng.standard_normal((num_envs, 3, 2), dtype=np.float32),
        "user_mask": rng.random((num_envs, 3)) < 0.6,
        "context": rng.standard_normal((num_envs, 1), dtype=np.float32),
    }


def filled(config: D3pgConfig) -> Replay:
    replay = Replay(replay_fields(config, SIZES), 100, np.random.default_rng(2))
    seen = observation()
    rng = np.random.default_rng(3)
    transitions = seen | {
        "raw_action": rng.uniform(-1, 1, (50, 3, 2)).astype(np.float32),
        "reward": rng.random((50, 3), dtype=np.float32),
    }
    if config.discount:
        transitions |= {f"next_{name}": values for name, values in seen.items()}
        transitions["continues"] = rng.random(50) < 0.5
    replay.add(transitions)
    return replay


@pytest.mark.parametrize("nets", ALL_NETS, ids=KINDS)
@pytest.mark.parametrize("explore", [True, False])
def test_raw_actions_are_in_bounds_and_0_for_inactive_users(nets, explore):
    seen = observation()

    raw = agent(nets=nets, exploration_std=0.5).act(**seen, explore=explore)

    assert raw.shape == (50, 3, 2)
    assert raw.dtype == np.float32
    assert np.abs(raw).max() <= 1
    assert not raw[~seen["user_mask"]].any()
    assert raw[seen["user_mask"]].std() > 0.01


@pytest.mark.parametrize("nets", ALL_NETS, ids=KINDS)
@pytest.mark.parametrize("discount", [0.0, 0.9])
def test_an_update_moves_critic_and_actor_and_tells_what_it_saw(nets, discount):
    config = D3pgConfig(nets=nets, discount=discount, critic_warmup_updates=0)
    learner = D3pg(config, SIZES, np.random.default_rng(0))
    before = {name: tensor.clone() for name, tensor in learner.tensors().items()}

    metrics = learner.update(filled(config).sample(32))

    moved = {name for name, now in learner.tensors().items() if not torch.equal(now, before[name])}
    assert {"critic", "target_critic"} <= moved
    assert {"actor", "target_actor"} <= moved
    assert set(metrics) == {"d3pg/critic_loss", "d3pg/actor_value", "d3pg/saturated_frac"}
    assert np.isfinite(list(metrics.values())).all()


def test_the_critic_learns_alone_during_its_warm_up():
    config = D3pgConfig(critic_warmup_updates=2)
    learner, replay = D3pg(config, SIZES, np.random.default_rng(0)), filled(config)
    start = learner.tensors()["actor"].clone()

    for _ in range(2):
        learner.update(replay.sample(8))
    assert torch.equal(learner.tensors()["actor"], start)

    learner.update(replay.sample(8))
    assert not torch.equal(learner.tensors()["actor"], start)


def test_the_first_exploring_decisions_are_uniform_and_later_ones_follow_the_actor():
    learner = agent(learning_starts=1, exploration_std=0.0, nets=NetConfig(actor="mlp"))
    seen = observation(2000) | {"user_mask": np.ones((2000, 3), bool)}

    random, followed = (learner.act(**seen, explore=True) for _ in range(2))

    assert random.std() == pytest.approx(3**-0.5, abs=0.02)
    np.testing.assert_array_equal(followed, learner.act(**seen, explore=False))


def test_a_slot_without_users_is_no_lesson():
    config = D3pgConfig(critic_warmup_updates=0)
    learner = D3pg(config, SIZES, np.random.default_rng(0))
    nobody = filled(config).sample(4)
    nobody["user_mask"] = torch.zeros_like(nobody["user_mask"])

    metrics = learner.update(nobody)

    assert metrics["d3pg/critic_loss"] == 0.0
    assert metrics["d3pg/actor_value"] == 0.0


def test_the_next_slot_is_stored_only_where_it_counts():
    myopic = replay_fields(D3pgConfig(discount=0.0), SIZES)
    foresighted = replay_fields(D3pgConfig(discount=0.5), SIZES)

    assert not any(name.startswith("next_") for name in myopic)
    assert foresighted.keys() - myopic.keys() == {
        "next_user_features",
        "next_user_mask",
        "next_context",
        "continues",
    }


@pytest.mark.parametrize("name", ["user_features", "user_mask", "context"])
def test_an_observation_of_another_shape_is_refused_by_name(name):
    seen = observation()
    seen[name] = np.concatenate([seen[name]] * 2, axis=1)

    with pytest.raises(ValueError, match=f"{name} must have shape .*'env'"):
        agent().act(**seen, explore=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("decay_updates", -1),
        ("discount", 1.5),
        ("tau", 0.0),
        ("actor_learning_rate", 0.0),
        ("exploration_std", -1),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"{field} must be .*{value}"):
        D3pgConfig(**{field: value})
