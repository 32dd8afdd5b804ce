"""The testbed as the run loop sees it: the live system now, a simulator of it as well.

    observe_frame -> decide_cache -> apply_cache, then per slot
    observe_slot -> decide_allocation -> apply_allocation; outcomes are collected in between.

The calls are coroutines: the live testbed waits for the slot's clock, a simulator returns at once.
"""

from typing import ClassVar, Protocol

from controller.cell.spaces import Allocation, CacheDecision, FrameObservation, SlotObservation
from controller.policies.policy import Policy
from controller.record.request_log import RequestRecord


class Testbed(Protocol):
    """What decisions are applied to."""

    __test__: ClassVar[bool] = False  # pytest: not a class of tests

    async def observe_frame(self, frame: int) -> FrameObservation:
        """Return what is known at the frame's begin."""
        ...

    async def apply_cache(self, decision: CacheDecision) -> None:
        """Make the nodes hold what was decided; until a model is loaded its requests miss."""
        ...

    async def observe_slot(self, frame: int, slot: int) -> SlotObservation:
        """Return the requests that wait when the slot begins."""
        ...

    async def apply_allocation(self, allocation: Allocation) -> None:
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
        frame_observation = await testbed.observe_frame(frame)
        cache = policy.decide_cache(frame_observation)
        cache.validate(frame_observation)
        await testbed.apply_cache(cache)
        for slot in range(slots_per_frame):
            observation = await testbed.observe_slot(frame, slot)
            allocation = policy.decide_allocation(observation)
            allocation.validate(observation)
            await testbed.apply_allocation(allocation)
            await testbed.collect_outcomes()
