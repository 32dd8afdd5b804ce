"""What the critic is shown of a raw action is what the amender makes of it, up to rounding."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from controller.agents.networks import Slot, slot_of
from controller.agents.soft_amender import SoftAmender, compute_needs
from controller.cell.config import RadioConfig
from controller.cell.observations import MISS, SlotObservation, slot_features
from controller.policies.amender import LOGIT_SCALE, amend
from tests.property.test_amender import slots
from tests.unit.controller.scenarios import slot


def read(seen: SlotObservation) -> Slot:
    features = slot_features(seen, RadioConfig(), slot_s=1.0)
    arrays = (features.user_features, features.user_mask, features.context, compute_needs(seen))
    return slot_of(*(torch.from_numpy(array) for array in arrays))


def shown(seen: SlotObservation, raw: np.ndarray) -> np.ndarray:
    soft = SoftAmender(seen.bounds.min_num_steps, seen.num_nodes)
    return soft(read(seen), torch.from_numpy(raw.astype(np.float32))).numpy()


@given(seen=slots(), seed=st.integers(0, 2**32 - 1))
def test_it_shows_the_amenders_shares_and_its_steps_before_rounding(seen, seed):
    raw = np.random.default_rng(seed).uniform(-1, 1, (*seen.asks.shape, 2))

    action, found = amend(raw, seen), shown(seen, raw)

    shares = np.exp((found[..., 0] - 1) * LOGIT_SCALE)[seen.asks]
    extra = (found[..., 1] + 1) / 2 * (seen.useful_num_steps - seen.bounds.min_num_steps)
    steps = np.where(seen.nodes == MISS, seen.max_num_steps, seen.bounds.min_num_steps + extra)
    assert shares == pytest.approx(action.shares[seen.asks], abs=1e-5)
    assert np.abs(steps - action.num_steps)[seen.asks].max(initial=0.0) <= 1.001
    assert not found[~seen.asks].any()


def test_one_users_gradient_reaches_all_who_share_with_it():
    seen = slot([0, 1, 2, -1], nodes=[0, 0, -1, -1])  # a and b on the node, c a miss
    soft = SoftAmender(seen.bounds.min_num_steps, seen.num_nodes)
    raw = torch.full((1, 4, 2), 0.5, requires_grad=True)

    of_share, of_steps = (
        torch.autograd.grad(soft(read(seen), raw)[0, 0, column], raw)[0][0] for column in (0, 1)
    )

    assert of_share[0, 0] > 0
    assert (of_share[1:3, 0] < 0).all()
    assert of_steps[0, 1] > 0  # the node is short of compute: more for one is less for the other
    assert of_steps[1, 1] < 0
    assert of_steps[2, 1] == 0
    assert not of_share[3].any()
    assert not of_steps[3].any()
