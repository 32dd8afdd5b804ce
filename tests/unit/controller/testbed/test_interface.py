import asyncio

import pytest

from controller.cell.spaces import Allocation, CacheDecision
from controller.policies.policy import MostPopularEqual
from controller.testbed.interface import run_frames
from tests.unit.controller.observations import frame, request, slot_of


class Script:
    """A testbed that writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def observe_frame(self, number):
        self.calls.append(f"frame {number}")
        return frame(())

    async def apply_cache(self, decision):
        self.calls.append(f"cache {','.join(decision.resident['e'])}")

    async def observe_slot(self, number, slot):
        self.calls.append(f"slot {number}.{slot}")
        return slot_of(request(0, "e", 0.1))

    async def apply_allocation(self, allocation):
        self.calls.append(f"steps {allocation.num_steps[0]}")

    async def collect_outcomes(self):
        return ()


def test_frames_hold_slots_and_every_decision_is_applied_in_turn():
    testbed = Script()
    asyncio.run(run_frames(testbed, MostPopularEqual(), num_frames=2, slots_per_frame=2))
    slots = [["slot {0}.0", "steps 20", "slot {0}.1", "steps 20"]] * 2
    expected = [
        line.format(number)
        for number, lines in enumerate(slots)
        for line in ["frame {0}", "cache a,c", *lines]
    ]
    assert testbed.calls == expected


class Greedy(MostPopularEqual):
    """Wants more than there is."""

    def decide_cache(self, _observation):
        return CacheDecision(resident={"e": ("a", "b", "c")})


class Wasteful(MostPopularEqual):
    """Gives more than there is."""

    def decide_allocation(self, _observation):
        return Allocation(shares=(2.0,), num_steps=(1,))


@pytest.mark.parametrize(
    ("policy", "calls"),
    [(Greedy(), ["frame 0"]), (Wasteful(), ["frame 0", "cache a,c", "slot 0.0"])],
)
def test_an_infeasible_decision_is_never_applied(policy, calls):
    testbed = Script()
    with pytest.raises(ValueError, match=r"holds 100 bytes|sum to <= 1"):
        asyncio.run(run_frames(testbed, policy, num_frames=1, slots_per_frame=1))
    assert testbed.calls == calls
