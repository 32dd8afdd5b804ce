"""One resource that does not suffice: the budget is kept and used, who wishes more comes first."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from controller.agents import soft_amender
from controller.policies.water_filling import fills


def filled(wishes, costs, budget) -> list[float]:
    numbers = [np.array(value) for value in (wishes, costs, budget)]
    found = fills(*numbers).tolist()
    assert soft_amender.fills(*map(torch.tensor, numbers)).tolist() == pytest.approx(found)
    return found


def test_by_hand():
    assert filled([2.0, 1.0], [1.0, 1.0], 1.2) == pytest.approx([0.8, 0.4])  # level 1.2 / 3
    assert filled([2.0, 1.0], [1.0, 1.0], 1.6) == pytest.approx([1.0, 0.6])  # (1.6 - 1) / 1
    assert filled([1.0, 2.0], [3.0, 1.0], 2.5) == pytest.approx([0.5, 1.0])  # either order
    assert filled([2.0, 0.5], [1.0, 1.0], 9.0) == [1.0, 0.5]  # nobody gets more than the wish
    assert filled([2.0, 1.0], [1.0, 0.0], 0.0) == [0.0, 0.0]


@given(data=st.data(), count=st.integers(1, 8), budget=st.floats(0, 20))
def test_the_budget_is_kept_and_used(data, count, budget):
    wishes, costs = (
        data.draw(arrays.arrays(np.float64, count, elements=st.floats(low, high)))
        for low, high in ((1e-3, 150), (0, 5))
    )
    found = np.array(filled(wishes, costs, budget))
    used = float(costs @ found)
    assert ((found >= 0) & (found <= 1)).all()
    assert used <= budget + 1e-9
    is_ample = found == pytest.approx(np.minimum(wishes, 1))
    assert is_ample or used == pytest.approx(budget, abs=1e-9)
    assert (np.diff(found[np.argsort(wishes, kind="stable")]) >= 0).all()


def test_more_budget_goes_to_those_who_are_not_full():
    budget = torch.tensor(1.6, requires_grad=True)
    got = soft_amender.fills(torch.tensor([2.0, 1.0]), torch.ones(2), budget)
    (slope,) = torch.autograd.grad(got[1], budget, retain_graph=True)
    assert slope == pytest.approx(1.0)
    assert torch.autograd.grad(got[0], budget)[0] == 0
