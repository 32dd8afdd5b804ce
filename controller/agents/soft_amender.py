"""The action amender once more, differentiable: what the critic is shown of a raw action.

amender.py makes raw actions feasible, and couples users in two ways: shares are a softmax over who
asks, and a node's compute is filled in like water where it does not last. A critic that reads raw
actions has to find that out by trial. One that reads what the amender makes of them has not: what a
request is worth depends on its own share and its own steps, and the policy's gradient passes
through these formulas to the raw actions of all users.

Owns the formulas of amender.py and water_filling.py on tensors, up to the rounding of steps, which
has no gradient (tested against amender.py). Refuses nets.
"""

import torch
from torch import Tensor

from controller.agents.networks import Slot
from controller.cell.config import AllocationConfig
from controller.cell.dynamics import ModelTable
from controller.cell.observations import USER_FEATURES
from controller.policies.amender import LOGIT_SCALE, WISH_SCALE
from controller.policies.water_filling import LEAST_COST

_KNEE, _STEP_COST, _MAX_STEPS, _NODE = (
    USER_FEATURES.index(name) for name in ("second_knee", "step_cost", "max_steps", "node")
)
_NOBODY = -1e9


class SoftAmender:
    """Raw actions -> log shares and fills, of requests for the models of one table."""

    def __init__(self, table: ModelTable, bounds: AllocationConfig, num_nodes: int) -> None:
        self._most = float(table.max_num_steps.max())
        self._fewest = float(bounds.min_num_steps)
        self._largest_cost = float(table.step_s.max()) / bounds.compute_budget_s
        self._num_nodes = num_nodes

    def __call__(self, slot: Slot, raw: Tensor) -> Tensor:
        """Return ``1 + log share / LOGIT_SCALE`` and ``2 fill - 1``, both about -1..1.

        Args:
            slot: whose features are those of ``observations.slot_features``.
            raw: [env, user, 2], -1..1.

        Returns:
            [env, user, 2], 0 where nobody asks; of a miss, which gets its model's most steps, the
            fill is 1.
        """
        log_share = (LOGIT_SCALE * raw[..., 0] + _NOBODY * (1 - slot.mask)).log_softmax(1)
        shown = torch.stack(
            (1 + log_share / LOGIT_SCALE, 2 * self._fills(slot, raw[..., 1]) - 1), 2
        )
        return shown * slot.mask.unsqueeze(2)

    def _fills(self, slot: Slot, raw: Tensor) -> Tensor:
        features = slot.features
        useful = self._most * torch.minimum(features[..., _KNEE], features[..., _MAX_STEPS])
        extra = (useful - self._fewest).clamp(min=0.0)
        number = (features[..., _NODE] * self._num_nodes).round()
        members = number.unsqueeze(1) == torch.arange(1, self._num_nodes + 1).unsqueeze(1)
        cost = self._largest_cost * features[..., _STEP_COST].unsqueeze(1) * members  # in budgets
        spare = (1 - self._fewest * cost.sum(2)).clamp(min=0.0)
        wishes = torch.exp(WISH_SCALE * raw).unsqueeze(1).expand_as(cost)
        at_node = fills(wishes, cost * extra.unsqueeze(1), spare)
        return torch.where(members, at_node, 0.0).sum(1) + (number == 0)


def fills(wishes: Tensor, costs: Tensor, budget: Tensor) -> Tensor:
    """Return ``water_filling.fills`` of tensors of the same shapes."""
    wish, order = wishes.sort(dim=-1, descending=True)
    cost = costs.gather(-1, order)
    full = cost.cumsum(-1) - cost
    rest = (cost * wish).flip(-1).cumsum(-1).flip(-1).clamp(min=LEAST_COST)
    levels = (budget.unsqueeze(-1) - full) / rest
    return (levels.amax(-1, keepdim=True).clamp(0.0, 1.0) * wishes).clamp(max=1.0)
