"""The action amender once more, differentiable: what the critic is shown of a raw action.

amender.py makes raw actions feasible, and couples users in two ways: shares are a softmax over who
asks, and steps shrink together where a node's budget is too small. A critic that reads raw actions
has to find that out by trial. One that reads what the amender makes of them has not: what a request
is worth depends on its own share and its own steps, and the policy's gradient passes through these
formulas to the raw actions of all users.

Owns the formulas of amender.py on tensors, up to the rounding of steps, which has no gradient
(tested against amender.py). Refuses nets.
"""

import torch
from torch import Tensor

from controller.amender import LOGIT_SCALE, STEP_POWER
from controller.config import AllocationConfig
from controller.dynamics import ModelTable
from controller.networks import Slot
from controller.observations import USER_FEATURES

_STEP_COST, _MAX_STEPS, _NODE = (
    USER_FEATURES.index(name) for name in ("step_cost", "max_steps", "node")
)
_NOBODY = -1e9
_LEAST_WANTED = 1e-9


class SoftAmender:
    """Raw actions -> log shares and steps, of requests for the models of one table."""

    def __init__(self, table: ModelTable, bounds: AllocationConfig, num_nodes: int) -> None:
        self._most = float(table.max_num_steps.max())
        self._fewest = float(bounds.min_num_steps)
        self._largest_cost = float(table.step_s.max()) / bounds.compute_budget_s
        self._num_nodes = num_nodes

    def __call__(self, slot: Slot, raw: Tensor) -> Tensor:
        """Return ``1 + log share / LOGIT_SCALE`` and ``2 steps / most - 1``, both about -1..1.

        Args:
            slot: whose features are those of ``observations.slot_features``.
            raw: [env, user, 2], -1..1.

        Returns:
            [env, user, 2], 0 where nobody asks.
        """
        log_share = (LOGIT_SCALE * raw[..., 0] + _NOBODY * (1 - slot.mask)).log_softmax(1)
        most = (self._most * slot.features[..., _MAX_STEPS]).clamp(min=self._fewest)
        shown = torch.stack(
            (1 + log_share / LOGIT_SCALE, 2 * self._steps(slot, raw[..., 1], most) / most - 1), 2
        )
        return shown * slot.mask.unsqueeze(2)

    def _steps(self, slot: Slot, raw: Tensor, most: Tensor) -> Tensor:
        """Return real numbers of steps [env, user]; a miss gets its model's most."""
        cost = self._largest_cost * slot.features[..., _STEP_COST]  # of a step, in budgets
        extra = ((raw + 1) / 2) ** STEP_POWER * (most - self._fewest)
        number = (slot.features[..., _NODE] * self._num_nodes).round()
        steps = most
        for node in range(1, self._num_nodes + 1):
            own = torch.where(number == node, cost, 0.0)
            spare = (1 - self._fewest * own.sum(1, keepdim=True)).clamp(min=0.0)
            wanted = (own * extra).sum(1, keepdim=True).clamp(min=_LEAST_WANTED)
            given = self._fewest + extra * (spare / wanted).clamp(max=1.0)
            steps = torch.where(number == node, given, steps)
        return steps
