"""The step batcher: which requests share the next denoiser call.

Continuous batching at step granularity. Each call to ``next_turn`` picks one model and the
requests of it that take one denoising step together, whatever their step counts and progress; a
request joins before its first step and leaves after its last, or at any turn between.

Three rules, in this order:
  1. Models take turns by device time: the model that has used the least of it per unit of weight
     goes next. A model's weight is what the controller granted: the sum of its requests' steps.
     A model that comes back from idling starts level with the others and has no time saved up.
  2. Within a model the earliest deadline goes first, ties by arrival.
  3. Nobody waits for ever: a request passed over ``MAX_PASSED`` times goes before every deadline,
     the longest waiting first.

Owns the order, and nothing else: no clock, no torch, no lock. One thread calls it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

MAX_PASSED = 16
"""Turns of its model that a request may be passed over."""


@dataclass(eq=False, kw_only=True, slots=True)
class Lane:
    """A request's seat."""

    model_id: str
    num_rows: int
    """Denoiser rows of a step: 2 with classifier-free guidance, else 1."""
    num_steps: int
    """Denoising steps granted."""
    deadline_s: float
    """Monotonic clock; infinite: none."""
    num_passed: int = 0
    """Turns of its model since it last took part."""


L = TypeVar("L", bound=Lane)


@dataclass(slots=True)
class _Queue(Generic[L]):
    lanes: list[L]  # by arrival
    used: float  # device seconds over weight


class StepBatcher(Generic[L]):
    """Requests that want steps, by model."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue[L]] = {}

    def __iter__(self) -> Iterator[L]:
        return (lane for queue in self._queues.values() for lane in queue.lanes)

    def join(self, lane: L) -> None:
        """Let a request take part from the next turn on."""
        if lane.model_id not in self._queues:
            level = min((queue.used for queue in self._queues.values()), default=0.0)
            self._queues[lane.model_id] = _Queue([], level)
        self._queues[lane.model_id].lanes.append(lane)

    def leave(self, lane: L) -> None:
        """Take a request out; it may be out already."""
        queue = self._queues.get(lane.model_id)
        if queue is None or lane not in queue.lanes:
            return
        queue.lanes.remove(lane)
        if not queue.lanes:
            del self._queues[lane.model_id]

    def next_model(self) -> str | None:
        """Return the model whose turn it is; None where nobody waits."""
        return min(self._queues, key=lambda name: self._queues[name].used, default=None)

    def next_turn(self, model_id: str, max_rows: int) -> list[L]:
        """Return the requests of a model that take a step together: at least one.

        Args:
            model_id: a model with requests.
            max_rows: most denoiser rows of the call; a single request may exceed it.
        """
        lanes = self._queues[model_id].lanes
        chosen: list[L] = []
        free = max_rows
        for lane in sorted(lanes, key=_urgency):
            if lane.num_rows <= free or not chosen:
                chosen.append(lane)
                free -= lane.num_rows
            if free <= 0:
                break
        for lane in lanes:
            lane.num_passed += 1
        for lane in chosen:
            lane.num_passed = 0
        return chosen

    def charge(self, model_id: str, device_s: float) -> None:
        """Account a turn's device time to its model, before anybody leaves."""
        queue = self._queues[model_id]
        queue.used += device_s / sum(lane.num_steps for lane in queue.lanes)


def _urgency(lane: Lane) -> tuple[int, float]:
    """Sort key; Python's sort is stable, so ties keep the order of arrival."""
    if lane.num_passed >= MAX_PASSED:
        return -lane.num_passed, lane.deadline_s
    return 0, lane.deadline_s
