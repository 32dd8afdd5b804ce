"""Whatever a net puts out is a feasible allocation, or refused."""

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from controller.cell.config import AllocationConfig
from controller.cell.observations import MISS, SlotObservation
from controller.policies.amender import LOGIT_SCALE, amend
from tests.unit.controller.scenarios import curves, scenario, slot, table

finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def slots(draw: st.DrawFn) -> SlotObservation:
    """Draw any slot: nobody asks, budgets too small for anything, several nodes included."""
    num_envs, num_users, num_nodes = (draw(st.integers(1, most)) for most in (3, 6, 3))
    least = draw(st.integers(1, 8))
    bounds = AllocationConfig(
        min_num_steps=least,
        max_num_steps=draw(st.integers(least, 60)),
        compute_budget_s=draw(st.floats(1e-6, 100)),
    )
    models = tuple(
        curves(name, step_s=draw(st.floats(1e-6, 2)), max_num_steps=draw(st.integers(least, 60)))
        for name in "abc"
    )
    shape = (num_envs, num_users)
    asks = draw(arrays.arrays(bool, shape))
    nodes = draw(arrays.arrays(np.int64, shape, elements=st.integers(MISS, num_nodes - 1)))
    return SlotObservation(
        table=table(synthetic_models=models, allocation=bounds),
        bounds=bounds,
        num_nodes=num_nodes,
        asks=asks,
        models=draw(arrays.arrays(np.int64, shape, elements=st.integers(0, 2))),
        nodes=np.where(asks, nodes, MISS),
        gains=np.full(shape, 1e-12),
        waiting_s=np.zeros(shape),
    )


@given(data=st.data(), seen=slots())
def test_every_finite_raw_action_becomes_feasible(data, seen):
    raw = data.draw(arrays.arrays(np.float64, (*seen.asks.shape, 2), elements=finite))
    action = amend(raw, seen)
    action.validate(seen)
    assert action.shares[seen.asks].min(initial=1) > 0
    assert not action.shares[~seen.asks].any()
    assert action.shares.sum(axis=1) == pytest.approx(seen.asks.any(axis=1).astype(float))
    misses = seen.nodes == MISS
    assert (action.num_steps[misses] == seen.max_num_steps[misses]).all()


@given(data=st.data(), seen=slots())
def test_actions_of_float32_nets_are_amended_alike(data, seen):
    elements = st.floats(-1, 1, width=32)
    raw = data.draw(arrays.arrays(np.float32, (*seen.asks.shape, 2), elements=elements))
    single, double = amend(raw, seen), amend(raw.astype(np.float64), seen)
    assert np.array_equal(single.num_steps, double.num_steps)
    assert np.array_equal(single.shares, double.shares)


@given(seen=slots(), value=st.sampled_from([np.inf, -np.inf, np.nan]), data=st.data())
def test_what_is_not_finite_is_refused(seen, value, data):
    raw = np.zeros((*seen.asks.shape, 2))
    raw.flat[data.draw(st.integers(0, raw.size - 1))] = value
    with pytest.raises(ValueError, match="must be finite, got"):
        amend(raw, seen)


@given(seen=slots(), order=st.randoms(use_true_random=False))
def test_users_are_exchangeable_but_for_ties(seen, order):
    rng = np.random.default_rng(order.getrandbits(32))
    raw = rng.uniform(-1, 1, (*seen.asks.shape, 2))
    mixed = rng.permutation(seen.asks.shape[1])
    names = ("asks", "models", "nodes", "gains", "waiting_s")
    swapped = dataclasses.replace(seen, **{name: getattr(seen, name)[:, mixed] for name in names})
    one, other = amend(raw, seen), amend(raw[:, mixed], swapped)
    assert one.shares[:, mixed] == pytest.approx(other.shares)
    assert np.abs(one.num_steps[:, mixed] - other.num_steps).max() <= 1


@given(low=st.floats(-1, 1), high=st.floats(-1, 1))
@example(low=-1.0, high=1.0)
def test_more_is_given_to_who_asks_for_more(low, high):
    low, high = sorted((low, high))
    action = amend([[[low, low], [high, high]]], slot([0, 0], allocation=AllocationConfig()))
    assert action.shares[0, 0] <= action.shares[0, 1] * (1 + 1e-12)
    is_tie = high - low < 1e-9  # then the first is rounded up first
    assert action.num_steps[0, 0] <= action.num_steps[0, 1] + is_tie


def test_the_shares_are_the_softmax_of_the_scaled_logits():
    action = amend([[[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]], slot([0, 0, -1]))
    ratio = np.exp(2 * LOGIT_SCALE)
    assert action.shares[0] == pytest.approx([ratio / (1 + ratio), 1 / (1 + ratio), 0])


def test_steps_within_the_budget_are_those_asked_for_and_rounded_up():
    ample = AllocationConfig(min_num_steps=1, max_num_steps=20, compute_budget_s=50.0)
    # Of model a's 9 useful steps more than 1: exp(-5) and exp(-1), 0.06 and 3.3, all, all; of
    # model c's 3: exp(-1), 1.1, and all.
    raw = [[[0, -1.0], [0, -0.2], [0, 0.0], [0, 1.0], [0, -0.2], [0, 9.0]]]
    action = amend(raw, slot([0, 0, 0, 0, 2, 2], allocation=ample))
    assert action.num_steps.tolist() == [[2, 5, 10, 10, 3, 4]]


def test_steps_beyond_the_budget_are_shared_by_those_who_wish_less():
    # 3 s: the fewest steps of 0.1 and 0.2 s take 0.3 s. Of the 2.7 s left 9 more of the first take
    # 0.9 s, and 9 of the other would take exactly the rest.
    assert amend([[[0, 1.0], [0, 1.0]]], slot([0, 1])).num_steps.tolist() == [[10, 10]]
    # of four at 0.1 s: 26 extra steps fit, 6.5 each; two of the equal remainders are rounded up
    assert sorted(amend([[[0, 1.0]] * 4], slot([0] * 4)).num_steps[0].tolist()) == [7, 7, 8, 8]
    # two wish much more: they have their 9, the others 4 each
    raw = [[[0, 1.0], [0, 0.0], [0, 1.0], [0, 0.0]]]
    assert amend(raw, slot([0] * 4)).num_steps.tolist() == [[10, 5, 10, 5]]


def test_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 2, 2\), got \(1, 4\)"):
        amend(np.zeros((1, 4)), slot([0, 0]))


def test_the_amender_never_changes_what_it_is_given():
    raw = np.full((1, 2, 2), 5.0)
    amend(raw, slot([0, 1], **{"num_users": scenario().num_users}))
    assert (raw == 5.0).all()
