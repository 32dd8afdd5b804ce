import asyncio

import numpy as np
import pytest

from controller.cell.observations import Allocation, FrameObservation
from controller.policies.baselines import equal, most_popular
from controller.policies.policy import Pair
from controller.testbed.interface import run_frames
from tests.unit.controller.scenarios import slot, table

POLICY = Pair(most_popular, equal)


class Script:
    """A testbed that writes down what it gets."""

    def __init__(self, models=(0,)) -> None:
        self.calls: list[str] = []
        self.models = list(models)

    async def observe_frame(self, frame):
        self.calls.append(f"frame {frame}")
        return FrameObservation(
            frame=frame,
            table=table(),
            request_counts=np.zeros((1, 2, 3), dtype=np.int64),
            caches=np.zeros((1, 1, 3), dtype=bool),
            capacity_bytes=np.array([100]),
        )

    async def apply_caches(self, caches):
        self.calls.append(f"cache {caches[0, 0].astype(int).tolist()}")

    async def observe_slot(self, frame, number):
        self.calls.append(f"slot {frame}.{number}")
        return slot(self.models)

    async def apply_allocations(self, allocation):
        self.calls.append(f"steps {allocation.num_steps[0, 0]}")

    async def collect_outcomes(self):
        return ()


def test_frames_hold_slots_and_every_decision_is_applied_in_turn():
    testbed = Script()
    asyncio.run(run_frames(testbed, POLICY, num_frames=2, slots_per_frame=2))
    slots = ["slot {0}.0", "steps 20", "slot {0}.1", "steps 20"]
    expected = [
        line.format(frame)
        for frame in range(2)
        for line in ["frame {0}", "cache [1, 0, 1]", *slots]
    ]
    assert testbed.calls == expected


def test_a_slot_without_requests_needs_no_decision():
    testbed = Script(models=())
    asyncio.run(run_frames(testbed, POLICY, num_frames=1, slots_per_frame=2))
    assert testbed.calls == ["frame 0", "cache [1, 0, 1]", "slot 0.0", "slot 0.1"]


def everything(frame):
    return np.ones_like(frame.caches)


def twice_the_band(seen):
    return Allocation(shares=np.full(seen.asks.shape, 2.0), num_steps=seen.max_num_steps)


@pytest.mark.parametrize(
    ("policy", "calls"),
    [
        (Pair(everything, equal), ["frame 0"]),
        (Pair(most_popular, twice_the_band), ["frame 0", "cache [1, 0, 1]", "slot 0.0"]),
    ],
)
def test_an_infeasible_decision_is_never_applied(policy, calls):
    testbed = Script()
    with pytest.raises(ValueError, match=r"holds 100 bytes|sum to <= 1"):
        asyncio.run(run_frames(testbed, policy, num_frames=1, slots_per_frame=1))
    assert testbed.calls == calls
