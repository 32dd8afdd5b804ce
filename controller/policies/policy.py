"""Policies: who decides the caches per frame, and steps and bandwidth per slot.

Responsible for the interface, the same in the simulator, while rating and on real nodes, and for a
policy made of two rules. Not: the rules (baselines.py, exact.py) and what is learnt. A policy sees
observations only and answers with feasible decisions for every input.

    caches = policy.decide_caches(testbed.observe_frame())              # once a frame
    allocation = policy.decide_allocations(testbed.observe_slot())      # once a slot
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from controller.cell.observations import Allocation, Bools, FrameObservation, SlotObservation

Caching = Callable[[FrameObservation], Bools]
Allocating = Callable[[SlotObservation], Allocation]


class Policy(Protocol):
    """Decides for all environments at once."""

    def decide_caches(self, frame: FrameObservation) -> Bools:
        """Return the models [env, node, model] that each edge node holds in the coming frame."""
        ...

    def decide_allocations(self, slot: SlotObservation) -> Allocation:
        """Return shares and steps [env, user] for the requests that wait."""
        ...


@dataclass(frozen=True, slots=True)
class Pair:
    """A policy made of a caching rule and an allocation rule."""

    decide_caches: Caching
    decide_allocations: Allocating
