import asyncio
import collections

import pytest

from controller.cell.dynamics import CAUSES
from controller.policies import baselines
from controller.policies.policy import Policy
from controller.record.request_log import RequestRecord
from controller.testbed.interface import run_frames
from controller.testbed.simulated import SimulatedTestbed
from protos.seeds import stream
from tests.unit.controller.scenarios import scenario, table


def run(policy: Policy, seed: int = 0, **changes) -> list[RequestRecord]:
    """Return the records of a run, the last slot's included."""
    testbed = SimulatedTestbed(scenario(**changes), table(**changes), seed)
    records: list[RequestRecord] = []
    collect = testbed.collect_outcomes

    async def kept() -> tuple[RequestRecord, ...]:
        ended = await collect()
        records.extend(ended)
        return ended

    testbed.collect_outcomes = kept
    asyncio.run(run_frames(testbed, policy, num_frames=3, slots_per_frame=5))
    return records


@pytest.mark.parametrize("name", ["random", "lru-exact", "static-genetic"])
@pytest.mark.parametrize("num_nodes", [1, 2])
def test_a_run_on_the_simulated_testbed_ends_every_request_in_one_record(name, num_nodes):
    policy = baselines.build(name, scenario(num_nodes=num_nodes), stream(0, "policy"))
    records = run(policy, num_nodes=num_nodes)
    assert 20 < len(records) <= 60
    assert max(collections.Counter(one.request_id for one in records).values()) == 1
    for one in records:
        assert one.status == "served"
        assert one.is_hit == (one.role == "edge") == one.node_id.startswith("edge-")
        assert sum(getattr(one, cause) for cause in CAUSES) == pytest.approx(one.total_s)
        assert (one.backhaul_s > 0) != one.is_hit


def test_frames_are_observed_in_order():
    testbed = SimulatedTestbed(scenario(), table(), 0)
    with pytest.raises(ValueError, match="the next frame is 0, got 1"):
        asyncio.run(testbed.observe_frame(1))


def test_an_allocation_needs_a_slot():
    testbed = SimulatedTestbed(scenario(), table(), 0)
    with pytest.raises(ValueError, match="needs an observe_slot before it"):
        asyncio.run(testbed.apply_allocations(None))
