"""The step batcher: which requests share the next call of a model.

Continuous batching at step granularity. Each call to ``next_turn`` picks one model and the
requests of it that take one denoising step together, whatever their step counts and progress; a
request joins before its first step and leaves after its last, or at any turn between. Texts to
encode before the first step, and images to decode after the last, share calls of their own; who
waits for one takes no place in a step.

Three rules, in this order:
  1. Models take turns by device time: the model that has used the least of it per unit of weight
     goes next. A model's weight is what the controller granted: the sum of its requests' steps.
     A model that comes back from idling starts level with the others and has no time saved up.
  2. Within a model the earliest deadline goes first, ties by arrival.
  3. Nobody waits for ever: a request passed over ``MAX_PASSED`` times goes before every deadline,
     the longest waiting first.

Responsible for the order. Not: a clock, torch, a lock; one thread calls it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

MAX_PASSED = 16
"""Turns of its model that a request may be passed over."""


class Stage(Enum):
    """What a request wants next."""

    TEXT = "encoding"
    STEP = "a denoising step"
    IMAGE = "decoding"


@dataclass(eq=False, kw_only=True, slots=True)
class BatchRequest:
    """A request as the batcher sees it."""

    model_id: str
    batch_size: int
    """Samples that its step adds to a denoiser call: 2 with classifier-free guidance, else 1."""
    num_steps: int
    """Denoising steps granted."""
    deadline_s: float
    """Monotonic clock; infinite: none."""
    stage: Stage = Stage.STEP
    num_texts: int = 0
    """Texts of it that are not encoded yet."""
    num_passed: int = 0
    """Calls of its stage since it last took part."""

    @property
    def size(self) -> int:
        """Its part of a call of its stage: texts, samples or images."""
        if self.stage is Stage.STEP:
            return self.batch_size
        return self.num_texts if self.stage is Stage.TEXT else 1


L = TypeVar("L", bound=BatchRequest)


@dataclass(slots=True)
class _Queue(Generic[L]):
    requests: list[L]  # by arrival
    used: float  # device seconds over weight


class StepBatcher(Generic[L]):
    """Requests that want steps, by model."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue[L]] = {}

    def __iter__(self) -> Iterator[L]:
        return (request for queue in self._queues.values() for request in queue.requests)

    def join(self, request: L) -> None:
        """Let a request take part from the next turn on."""
        if request.model_id not in self._queues:
            level = min((queue.used for queue in self._queues.values()), default=0.0)
            self._queues[request.model_id] = _Queue([], level)
        self._queues[request.model_id].requests.append(request)

    def leave(self, request: L) -> None:
        """Take a request out; it may be out already."""
        queue = self._queues.get(request.model_id)
        if queue is None or request not in queue.requests:
            return
        queue.requests.remove(request)
        if not queue.requests:
            del self._queues[request.model_id]

    def next_model(self) -> str | None:
        """Return the model whose turn it is; None where nobody waits."""
        return min(self._queues, key=lambda name: self._queues[name].used, default=None)

    def next_turn(self, model_id: str, max_size: int, stage: Stage = Stage.STEP) -> list[L]:
        """Return the requests of a model that take part in a call together.

        Args:
            model_id: of the model.
            max_size: texts, samples or images of the call; a single request may exceed it.
            stage: which kind of call; where requests of the model want it, at least one takes part.
        """
        queue = self._queues.get(model_id)
        waiting = [one for one in queue.requests if one.stage is stage] if queue else []
        if not waiting:
            return []
        chosen: list[L] = []
        free = max_size
        for request in sorted(waiting, key=_urgency):
            if request.size <= free or not chosen:
                chosen.append(request)
                free -= request.size
            if free <= 0:
                break
        for request in waiting:
            request.num_passed += 1
        for request in chosen:
            request.num_passed = 0
        return chosen

    def charge(self, model_id: str, device_s: float) -> None:
        """Account device time to a model; nothing where all of its requests have left."""
        if queue := self._queues.get(model_id):
            queue.used += device_s / sum(request.num_steps for request in queue.requests)


def _urgency(request: BatchRequest) -> tuple[int, float]:
    """Sort key; Python's sort is stable, so ties keep the order of arrival."""
    if request.num_passed >= MAX_PASSED:
        return -request.num_passed, request.deadline_s
    return 0, request.deadline_s
