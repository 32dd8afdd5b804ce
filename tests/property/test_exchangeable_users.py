"""The set nets see users as a set: order and inactive users change nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.agents.networks import NetConfig, SlotSizes, build_actor, build_critic, slot_of


@st.composite
def cases(draw: st.DrawFn):
    sizes = SlotSizes(
        num_users=draw(st.integers(1, 7)),
        user_dim=draw(st.integers(1, 4)),
        context_dim=draw(st.integers(0, 3)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    envs = draw(st.integers(1, 4))
    arrays = (
        _tensor(rng, envs, sizes.num_users, sizes.user_dim),
        torch.from_numpy(rng.random((envs, sizes.num_users)) < draw(st.floats(0, 1))),
        _tensor(rng, envs, sizes.context_dim),
    )
    order = torch.from_numpy(rng.permutation(sizes.num_users))
    return sizes, arrays, order, rng


def _tensor(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(3 * rng.standard_normal(shape, dtype=np.float32))


@pytest.mark.parametrize("kind", ["mlp", "diffusion"])
@settings(max_examples=15)
@given(case=cases())
def test_permuting_users_permutes_the_actors_answer(kind, case):
    sizes, (features, mask, context), order, rng = case
    actor = build_actor(NetConfig(actor=kind, hidden=16), sizes, rng)
    noise = _tensor(rng, actor.num_noises, *mask.shape, 2)

    raw = actor(slot_of(features, mask, context), noise)
    permuted = actor(slot_of(features[:, order], mask[:, order], context), noise[:, :, order])

    torch.testing.assert_close(permuted, raw[:, order], rtol=1e-4, atol=1e-4)


@settings(max_examples=15)
@given(case=cases())
def test_permuting_users_permutes_the_critics_answer(case):
    sizes, (features, mask, context), order, rng = case
    critic = build_critic(NetConfig(hidden=16), sizes, rng)
    action = _tensor(rng, *mask.shape, 2)

    q = critic(slot_of(features, mask, context), action)
    permuted = critic(slot_of(features[:, order], mask[:, order], context), action[:, order])

    torch.testing.assert_close(permuted, q[:, order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["mlp", "deep_sets"])
@settings(max_examples=15)
@given(case=cases())
def test_what_inactive_users_look_like_changes_nothing_for_active_ones(architecture, case):
    sizes, (features, mask, context), _, rng = case
    actor = build_actor(NetConfig(architecture=architecture, actor="mlp", hidden=16), sizes, rng)
    other = torch.where(mask.unsqueeze(2), features, 100 * _tensor(rng, *features.shape))
    none = torch.zeros(0, *mask.shape, 2)

    raw, changed = (actor(slot_of(seen, mask, context), none) for seen in (features, other))

    torch.testing.assert_close(raw[mask], changed[mask])
