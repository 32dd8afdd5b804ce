"""The action amender once more, differentiable: what the critic is shown of a raw action.

amender.py makes raw actions feasible, and couples users in two ways: shares are a softmax over who
asks, and a node's compute is filled in like water where it does not last. A critic that reads raw
actions has to find that out by trial. One that reads what the amender makes of them has not: what a
request is worth depends on its own share and its own steps, and the policy's gradient passes
through these formulas to the raw actions of all users.

Responsible for the formulas of amender.py and water_filling.py on tensors, up to the rounding of
steps, which has no gradient (tested against amender.py). Not: nets.
"""

import numpy as np
import torch
from torch import Tensor

from controller.agents.networks import Slot
from controller.cell.observations import MISS, Features, SlotObservation
from controller.policies.amender import LOGIT_SCALE, WISH_SCALE
from controller.policies.water_filling import LEAST_COST

COMPUTE_NEEDS = (
    "extra_num_steps",  # useful denoising steps beyond the fewest
    "step_cost",  # compute of one step, in budgets of a node
    "node",  # that serves the request, or MISS
)
_NOBODY = -1e9


def compute_needs(slot: SlotObservation) -> Features:
    """Return what the fills of a slot's requests depend on [env, user, len(COMPUTE_NEEDS)]."""
    extra = slot.useful_num_steps - slot.bounds.min_num_steps
    step_cost = slot.step_s / slot.bounds.compute_budget_s
    return np.stack([extra, step_cost, slot.nodes], axis=2).astype(np.float32)


class SoftAmender:
    """Raw actions -> log shares and fills, where every image takes so many steps at least."""

    def __init__(self, min_num_steps: int, num_nodes: int) -> None:
        self._fewest = float(min_num_steps)
        self._num_nodes = num_nodes

    def __call__(self, slot: Slot, raw: Tensor) -> Tensor:
        """Return ``1 + log share / LOGIT_SCALE`` and ``2 fill - 1``, both about -1..1.

        ``raw`` [env, user, 2] is in -1..1, the slot holds its ``compute_needs``. The result
        [env, user, 2] is 0 where nobody asks; the fill of a miss, which gets its model's most
        steps, is 1.
        """
        log_share = (LOGIT_SCALE * raw[..., 0] + _NOBODY * (1 - slot.mask)).log_softmax(1)
        shown = torch.stack(
            (1 + log_share / LOGIT_SCALE, 2 * self._fills(slot, raw[..., 1]) - 1), 2
        )
        return shown * slot.mask.unsqueeze(2)

    def _fills(self, slot: Slot, raw: Tensor) -> Tensor:
        if slot.compute_needs is None:
            raise ValueError("a slot's compute_needs must be given where actions are amended")
        extra, step_cost, node = slot.compute_needs.unbind(2)
        members = node.unsqueeze(1) == torch.arange(self._num_nodes).unsqueeze(1)
        cost = step_cost.unsqueeze(1) * members
        spare = (1 - self._fewest * cost.sum(2)).clamp(min=0.0)
        wishes = torch.exp(WISH_SCALE * raw).unsqueeze(1).expand_as(cost)
        at_node = fills(wishes, cost * extra.unsqueeze(1), spare)
        return torch.where(members, at_node, 0.0).sum(1) + (node == MISS)


def fills(wishes: Tensor, costs: Tensor, budget: Tensor) -> Tensor:
    """Return ``water_filling.fills`` of tensors of the same shapes."""
    wish, order = wishes.sort(dim=-1, descending=True)
    cost = costs.gather(-1, order)
    full = cost.cumsum(-1) - cost
    rest = (cost * wish).flip(-1).cumsum(-1).flip(-1).clamp(min=LEAST_COST)
    levels = (budget.unsqueeze(-1) - full) / rest
    return (levels.amax(-1, keepdim=True).clamp(0.0, 1.0) * wishes).clamp(max=1.0)
