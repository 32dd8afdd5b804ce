"""What every policy promises: feasible decisions for anything that it may be shown."""

import itertools

import pytest
from hypothesis import given, settings

from controller.policies import baselines
from protos.seeds import stream
from tests.unit.controller.observations import frames, slots
from tests.unit.controller.scenarios import scenario

NAMES = ["-".join(pair) for pair in itertools.product(baselines.CACHINGS, ("equal", "exact"))]


def build(name: str):
    return baselines.build(name, scenario(), stream(0, "policy"))


@pytest.mark.parametrize("name", baselines.CACHINGS)
@given(frame=frames())
def test_every_caching_decision_is_feasible(name, frame):
    frame.validate(build(name).decide_caches(frame))


@pytest.mark.parametrize("name", baselines.ALLOCATIONS)
@settings(max_examples=25)
@given(slot=slots())
def test_every_allocation_is_feasible(name, slot):
    build(f"random-{name}").decide_allocations(slot).validate(slot)
