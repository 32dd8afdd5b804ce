"""What every policy promises: feasible decisions for anything that a run may show it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given

from controller.cell.dynamics import ModelTable
from controller.cell.simulator import Simulator
from controller.cell.spaces import FrameObservation, NodeCacheState, SlotObservation
from controller.policies import baselines
from controller.policies import policy as policies
from controller.policies.policy import ForOneRun, Policy
from protos.seeds import stream
from tests.unit.controller.observations import frames, slots
from tests.unit.controller.scenarios import curves, scenario, table

PAIRS = [name for name in baselines.BASELINES if name not in (baselines.ORACLE, "static-genetic")]


def adapted(name: str, known: ModelTable) -> Policy:
    """Return an array policy for one run; the oracle's allocation, not its clairvoyant caching."""
    sim = Simulator(scenario(), known, num_envs=1, seed=0)
    return ForOneRun(baselines.build(name, sim, stream(0, "policy")), known, history_frames=2)


def named(observation: FrameObservation) -> ModelTable:
    """Return a table of the same models in another order."""
    return table(synthetic_models=tuple(curves(name) for name in reversed(observation.models)))


def matching(observation: SlotObservation) -> ModelTable:
    """Return a table of one model for each request, so that the policy knows what it reads."""
    models = tuple(
        curves(
            request.model_id,
            step_s=max(request.step_s, 1e-9),
            curve=request.curve,
            max_num_steps=observation.max_num_steps,
        )
        for request in observation.requests
    )
    bounds = dataclasses.replace(scenario().allocation, max_num_steps=observation.max_num_steps)
    return table(synthetic_models=models or (curves("m"),), allocation=bounds)


@pytest.mark.parametrize("name", PAIRS)
@given(observation=frames())
def test_every_caching_decision_is_feasible(name, observation):
    decision = adapted(name, named(observation)).decide_cache(observation)
    decision.validate(observation)
    assert set(decision.resident) == {node.node_id for node in observation.nodes}


def told_apart(observation: SlotObservation) -> SlotObservation:
    """Return the slot with a model of its own for each request."""
    requests = tuple(
        dataclasses.replace(request, model_id=f"m{index}", step_s=max(request.step_s, 1e-9))
        for index, request in enumerate(observation.requests)
    )
    return dataclasses.replace(observation, requests=requests)


@pytest.mark.parametrize("name", ["lru-oracle", "lru-equal"])
@given(observation=slots().map(told_apart))
def test_every_allocation_is_feasible(name, observation):
    policy = adapted(name, matching(observation))
    policy.decide_allocation(observation).validate(observation)


@given(observation=slots().map(told_apart))
def test_equal_allocation_is_the_same_in_both_forms(observation):
    found = adapted("lru-equal", matching(observation)).decide_allocation(observation)
    expected = policies.equal_allocation(observation)
    assert found.shares == pytest.approx(expected.shares)
    assert np.abs(np.subtract(found.num_steps, expected.num_steps)).max(initial=0) <= 1  # rounding


def test_a_run_of_other_models_is_refused_with_both_named():
    observation = FrameObservation(
        frame=0,
        models=("x",),
        request_counts=(),
        model_bytes=(1,),
        load_s=(1.0,),
        nodes=(NodeCacheState(node_id="e", capacity_bytes=1, free_bytes=1, resident=()),),
    )
    with pytest.raises(ValueError, match=r"decides on \('a', 'b', 'c'\), the run has \('x',\)"):
        adapted("lru-equal", table()).decide_cache(observation)
