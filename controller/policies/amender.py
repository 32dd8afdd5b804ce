"""The action amender: any finite raw action becomes a feasible allocation.

Responsible for the map from a net's raw action to bandwidth shares on the simplex and integer
denoising steps within every node's budget. Total: out-of-range values are clipped; what is not
finite is refused.

    raw bandwidth logit x   share = exp(LOGIT_SCALE x) / sum of the same over who asks
    raw steps y             fill = min(1, level * exp(WISH_SCALE y))
                            real steps = fewest + fill * (useful - fewest)

useful: the curve's second knee, beyond which more steps improve nothing. level is 1 where a node's
compute lasts for that: then y >= 0 means all useful steps, and less a part of them. Where it does
not last, the level falls until it does, as in water filling: those of larger y stay full, the
others share the rest. Then every real number of steps is rounded down, and up again in order of the
remainder while the budget lasts.
"""

import numpy as np
from numpy.typing import ArrayLike

from controller.cell.dynamics import Array, Ints
from controller.cell.observations import RAW_ACTION, Allocation, SlotObservation
from controller.policies.water_filling import fills

LOGIT_SCALE = 3.0
"""The widest share is at most exp(2 * 3) = 403 times the narrowest."""

WISH_SCALE = 5.0
"""y = -1 asks for exp(-5), 0.7 %, of the useful steps; 0 for all; above 0 to have them first."""

_ROUNDING = 1e-12


def amend(raw: ArrayLike, slot: SlotObservation) -> Allocation:
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
    return Allocation(
        shares=_shares(actions[..., 0], slot), num_steps=_num_steps(actions[..., 1], slot)
    )


def _shares(logits: Array, slot: SlotObservation) -> Array:
    weights = np.exp(LOGIT_SCALE * logits) * slot.asks
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total > 0, total, 1.0)


def _num_steps(raw: Array, slot: SlotObservation) -> Ints:
    fewest = slot.bounds.min_num_steps
    extra = slot.useful_num_steps - fewest
    step_s = slot.node_step_s  # [env, node, user], 0 where the request is not the node's
    spare_s = np.maximum(slot.bounds.compute_budget_s - fewest * step_s.sum(axis=-1), 0.0)
    wishes = np.broadcast_to(np.exp(WISH_SCALE * raw)[:, None], step_s.shape)
    fill = fills(wishes, step_s * extra[:, None], spare_s)
    real = np.where(slot.members, fill * extra[:, None], 0.0)
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
