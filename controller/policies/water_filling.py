"""Who gets how much of one resource that does not suffice: as a share of the most of use to each.

    fill_u = min(1, level * wish_u)     the largest level <= 1 with sum_u cost_u fill_u <= budget

Total cost against level is concave and made of straight pieces: its k-th piece, with the k largest
wishes full, costs ``full_k + level * rest_k``. The total is the least of the pieces, so the level
is the largest of ``(budget - full_k) / rest_k``: exact, without a search, and differentiable.
"""

import numpy as np

from controller.cell.dynamics import Array

LEAST_COST = 1e-12


def fills(wishes: Array, costs: Array, budget: Array) -> Array:
    """Return the fills [..., user], each 0..1.

    >>> import numpy as np
    >>> fills(np.array([2.0, 1.0]), np.array([1.0, 1.0]), np.array(1.6))  # level (1.6 - 1) / 1
    array([1. , 0.6])

    Args:
        wishes: [..., user], > 0.
        costs: [..., user], >= 0, of a fill of 1, in the unit of the budget.
        budget: [...], >= 0.
    """
    order = np.argsort(-wishes, axis=-1)
    wish, cost = np.take_along_axis(wishes, order, -1), np.take_along_axis(costs, order, -1)
    full = cost.cumsum(axis=-1) - cost
    rest = np.flip(np.flip(cost * wish, -1).cumsum(axis=-1), -1)
    levels = (budget[..., None] - full) / np.maximum(rest, LEAST_COST)
    level = levels.max(axis=-1, keepdims=True).clip(0.0, 1.0)
    return np.asarray(np.minimum(level * wishes, 1.0))
