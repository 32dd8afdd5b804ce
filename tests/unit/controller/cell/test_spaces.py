import math

import pytest

from controller.cell.spaces import Allocation, CacheDecision
from tests.unit.controller.observations import frame, request, slot_of

SLOT = slot_of(request(0, "e", 0.1), request(1, "e", 0.1))


@pytest.mark.parametrize(
    ("resident", "complaint"),
    [
        ({"x": ()}, "no edge node 'x'"),
        ({"e": ("z",)}, "different ones of"),
        ({"e": ("c", "c")}, "different ones of"),
        ({"e": ("a", "b")}, "'e' holds 100 bytes, got .* of 110 bytes"),
    ],
)
def test_an_infeasible_cache_is_named(resident, complaint):
    with pytest.raises(ValueError, match=complaint):
        CacheDecision(resident=resident).validate(frame(()))


def test_a_cache_that_fits_exactly_is_feasible():
    CacheDecision(resident={"e": ("a", "c")}).validate(frame(()))


@pytest.mark.parametrize(
    ("shares", "num_steps", "complaint"),
    [
        ((0.5,), (1, 1), "2 requests, got 1 shares"),
        ((0.5, 0.5), (1,), "and 1 step counts"),
        ((-0.1, 0.5), (1, 1), "a share must be >= 0, got -0.1"),
        ((math.nan, 0.5), (1, 1), "got nan"),
        ((math.inf, 0.5), (1, 1), "got inf"),
        ((0.6, 0.5), (1, 1), "sum to <= 1, got 1.1"),
        ((0.5, 0.5), (0, 1), r"integer in 1\.\.20, got 0"),
        ((0.5, 0.5), (21, 1), "got 21"),
        ((0.5, 0.5), (1.5, 1), "got 1.5"),
        ((0.5, 0.5), (11, 10), "'e' has 2 s of compute, got 2.1 s"),
    ],
)
def test_an_infeasible_allocation_is_named(shares, num_steps, complaint):
    with pytest.raises(ValueError, match=complaint):
        Allocation(shares=shares, num_steps=num_steps).validate(SLOT)


def test_the_whole_budget_may_be_used():
    Allocation(shares=(0.5, 0.5), num_steps=(10, 10)).validate(SLOT)


def test_the_fewest_steps_are_feasible_however_small_the_budget():
    slow = slot_of(request(0, "e", 5.0), request(1, "e", 5.0))
    Allocation(shares=(0.5, 0.5), num_steps=(1, 1)).validate(slow)
    with pytest.raises(ValueError, match="has 10 s of compute, got 15 s"):
        Allocation(shares=(0.5, 0.5), num_steps=(2, 1)).validate(slow)


def test_the_clouds_steps_are_on_nobodys_budget():
    misses = slot_of(request(0, "", 5.0), request(1, "", 5.0))
    Allocation(shares=(0.5, 0.5), num_steps=(20, 20)).validate(misses)
