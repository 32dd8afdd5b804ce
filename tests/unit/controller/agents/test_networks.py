"""Sizes, masks and weights of the nets; their symmetry is in tests/property."""

import numpy as np
import pytest
import torch

from controller.agents.networks import (
    NetConfig,
    SlotSizes,
    build_actor,
    build_critic,
    draw_weights,
    mlp,
    slot_of,
)

SIZES = SlotSizes(num_users=3, user_dim=2, context_dim=1)
ARCHITECTURES = ("mlp", "deep_sets")
ACTORS = ("mlp", "diffusion")


def slot(num_envs: int = 4):
    rng = np.random.default_rng(5)
    mask = torch.tensor([[True, True, False], [True] * 3, [False] * 3, [False, False, True]])
    return slot_of(
        torch.from_numpy(rng.standard_normal((4, 3, 2))).float()[:num_envs],
        mask[:num_envs],
        torch.from_numpy(rng.standard_normal((4, 1))).float()[:num_envs],
    )


def noise(actor, num_envs: int = 4) -> torch.Tensor:
    drawn = np.random.default_rng(6).standard_normal((actor.num_noises, num_envs, 3, 2))
    return torch.from_numpy(drawn).float()


def test_a_slot_holds_means_over_active_users_and_how_many_there_are():
    observed = slot()

    assert observed.weights.tolist() == [
        pytest.approx([1 / 2, 1 / 2, 0]),
        pytest.approx([1 / 3, 1 / 3, 1 / 3]),
        [0, 0, 0],
        [0, 0, 1],
    ]
    assert observed.context[:, 0, 1].tolist() == pytest.approx([2 / 3, 1, 0, 1 / 3])
    assert not observed.features[0, 2].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", ACTORS)
def test_every_actor_gives_two_numbers_in_bounds_for_each_user(architecture, kind):
    actor = build_actor(
        NetConfig(architecture=architecture, actor=kind), SIZES, np.random.default_rng(0)
    )

    raw = actor(slot(), noise(actor))

    assert raw.shape == (4, 3, 2)
    assert raw.abs().max() <= 1.0


@pytest.mark.parametrize(("architecture", "columns"), [("mlp", 1), ("deep_sets", 3)])
def test_the_mlp_critic_rates_the_slot_and_the_deep_sets_critic_each_user(architecture, columns):
    critic = build_critic(NetConfig(architecture=architecture), SIZES, np.random.default_rng(0))

    assert critic(slot(), torch.zeros(4, 3, 2)).shape == (4, columns)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", ACTORS)
def test_weights_are_those_of_the_generator_and_of_nothing_else(architecture, kind):
    config = NetConfig(architecture=architecture, actor=kind)

    first, again, other = (
        build_actor(config, SIZES, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )

    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(mine, same) for mine, same, _ in pairs)
    assert not any(torch.equal(mine, unlike) for mine, _, unlike in pairs)


def test_weights_lie_within_one_over_the_root_of_the_fan_in():
    before, net = torch.get_rng_state(), mlp(16, 100, 5)
    draw_weights(net, np.random.default_rng(0))

    assert 0.9 * 16**-0.5 < net[0].weight.abs().max() <= 16**-0.5
    assert 0.9 * 100**-0.5 < net[2].weight.abs().max() <= 100**-0.5
    assert torch.equal(torch.get_rng_state(), before)  # no global generator drew them


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_weight_of_a_diffusion_actor_gets_a_gradient(architecture):
    actor = build_actor(NetConfig(architecture=architecture), SIZES, np.random.default_rng(0))

    gradients = torch.autograd.grad(actor(slot(), noise(actor)).sum(), list(actor.parameters()))

    assert all(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize(
    ("field", "value"), [("hidden", 0), ("chain_len", 0), ("beta_min", 0.0), ("beta_max", 0.01)]
)
def test_nets_that_cannot_be_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        NetConfig(**{field: value})


@pytest.mark.parametrize("field", ["num_users", "user_dim"])
def test_a_slot_without_users_or_features_is_refused_by_name(field):
    with pytest.raises(ValueError, match=f"{field} must be > 0, got 0"):
        SlotSizes(**({"num_users": 2, "user_dim": 2, "context_dim": 0} | {field: 0}))
