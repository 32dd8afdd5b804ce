"""The testbed as the run loop sees it: real nodes (live.py) or a simulator (simulated.py).

    observe_frame -> decide_caches -> apply_caches, then per slot
    observe_slot -> decide_allocations -> apply_allocations; outcomes are collected in between.

Arrays have one environment. The calls are coroutines: the live testbed waits for the slot's clock,
a simulator returns at once.
"""

from typing import ClassVar, Protocol

from controller.cell.observations import Allocation, Bools, FrameObservation, SlotObservation
from controller.policies.policy import Policy
from controller.record.request_log import RequestRecord


class Testbed(Protocol):
    """What decisions are applied to."""

    __test__: ClassVar[bool] = False  # pytest: not a class of tests

    async def observe_frame(self, frame: int) -> FrameObservation:
        """Return what is known at the start of a frame."""
        ...

    async def apply_caches(self, caches: Bools) -> None:
        """Make the nodes hold [1, node, model]; until a model is loaded its requests miss."""
        ...

    async def observe_slot(self, frame: int, slot: int) -> SlotObservation:
        """Return the requests that wait when the slot begins; live there may be none."""
        ...

    async def apply_allocations(self, allocation: Allocation) -> None:
        """Grant the observed requests what was decided."""
        ...

    async def collect_outcomes(self) -> tuple[RequestRecord, ...]:
        """Return the requests that ended since the last call."""
        ...


async def run_frames(
    testbed: Testbed, policy: Policy, *, num_frames: int, slots_per_frame: int
) -> None:
    """Run the two nested loops; every decision is validated before it is applied."""
    for frame in range(num_frames):
        known = await testbed.observe_frame(frame)
        caches = policy.decide_caches(known)
        known.validate(caches)
        await testbed.apply_caches(caches)
        for slot in range(slots_per_frame):
            waiting = await testbed.observe_slot(frame, slot)
            if waiting.asks.size:
                allocation = policy.decide_allocations(waiting)
                allocation.validate(waiting)
                await testbed.apply_allocations(allocation)
            await testbed.collect_outcomes()
