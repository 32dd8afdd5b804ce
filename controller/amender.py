"""The action amender: any finite raw action becomes a feasible allocation.

Owns the map from a net's raw action to bandwidth shares on the simplex and integer denoising steps
within every node's budget. Total: out-of-range values are clipped; what is not finite is refused.

    raw bandwidth logit x   share = exp(SCALE x) / sum of the same over who asks
    raw steps y             wanted = fewest + ((y + 1) / 2)^STEP_POWER * (most - fewest), real

Most images of a crowded slot should get few of the many steps that they may get; on a straight
scale all of that would lie next to -1, where tanh is flat: hence the power.

Where a node's requests want more compute than the node has, the steps above the fewest shrink by
one common factor. Then every real number of steps is rounded down, and up again in order of the
remainder while the budget lasts.
"""

import numpy as np
from numpy.typing import ArrayLike

from controller.dynamics import Array, Ints
from controller.observations import RAW_ACTION, AllocationArrays, SlotArrays

LOGIT_SCALE = 3.0
"""The widest share is at most exp(2 * 3) = 403 times the narrowest."""

STEP_POWER = 2

_ROUNDING = 1e-12


def amend(raw: ArrayLike, slot: SlotArrays) -> AllocationArrays:
    """Return the feasible allocation that a raw action [env, user, 2] stands for.

    Raises:
        ValueError: another shape, or a value that is inf or nan.
    """
    actions = np.asarray(raw, dtype=np.float64)
    expected = (*slot.asks.shape, len(RAW_ACTION))
    if actions.shape != expected:
        raise ValueError(f"a raw action must have the shape {expected}, got {actions.shape}")
    if not np.isfinite(actions).all():
        raise ValueError(f"a raw action must be finite, got {actions[~np.isfinite(actions)][0]}")
    actions = np.clip(actions, -1.0, 1.0)
    return AllocationArrays(
        shares=_shares(actions[..., 0], slot), num_steps=_num_steps(actions[..., 1], slot)
    )


def _shares(logits: Array, slot: SlotArrays) -> Array:
    weights = np.exp(LOGIT_SCALE * logits) * slot.asks
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total > 0, total, 1.0)


def _num_steps(raw: Array, slot: SlotArrays) -> Ints:
    fewest = slot.bounds.min_num_steps
    extra = ((raw + 1) / 2) ** STEP_POWER * (slot.max_num_steps - fewest)
    step_s = slot.node_step_s  # [env, node, user], 0 where the request is not the node's
    spare_s = np.maximum(slot.bounds.compute_budget_s - fewest * step_s.sum(axis=-1), 0.0)
    wanted_s = (step_s * extra[:, None]).sum(axis=-1)
    factor = np.minimum(1.0, spare_s / np.where(wanted_s > 0, wanted_s, 1.0))
    real = np.where(slot.members, extra[:, None] * factor[..., None], 0.0)
    whole = np.floor(real)
    rest = real - whole
    left_s = spare_s - (step_s * whole).sum(axis=-1)
    order = np.argsort(-rest, axis=-1, kind="stable")
    needed_s = np.cumsum(np.take_along_axis(np.where(rest > 0, step_s, np.inf), order, -1), axis=-1)
    rounds_up = np.empty_like(slot.members)
    room_s = left_s + _ROUNDING * spare_s
    np.put_along_axis(rounds_up, order, needed_s <= room_s[..., None], axis=-1)
    at_edge = fewest + (whole + rounds_up).sum(axis=1).astype(np.int64)
    return np.where(slot.members.any(axis=1), at_edge, slot.max_num_steps)
