"""One turn of the device: texts to encode, a denoising step, images to decode, of one model.

A turn launches at most one call of each kind, so nobody's next step is further away than a call of
each, and those are sized to take no longer than a step (batch_limit.py). Where launches return
before their work is done, events of the turn before are told while the device is busy with this
one, and it is never given more than one turn beyond the one that it works at:

    launch turn k ─> make inputs of k + 1 ready ─> wait for k - 1 ─> tell its events ─> turn k + 1

Elsewhere the wait is for turn k itself. Responsible for requests on their way through turns, the
device time of each, and for what fails. Not: which requests share a call (step_batcher.py), the
step itself (batch.py), threads and event loops. Called in the device thread only.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

import torch

from edge_node.engine import denoising
from edge_node.engine.denoising import Model, Trajectory
from edge_node.engine.families import Condition
from edge_node.engine.interface import Event, ImageDone, Job, Started, StepDone
from edge_node.engine.memory import is_out_of_memory, release
from edge_node.engine.step_batcher import BatchRequest, Stage, StepBatcher
from edge_node.engine.stepping.batch import Batch
from edge_node.engine.stepping.clock import Clock
from protos.errors import EdgeError, GenerationError, OverloadedError

logger = logging.getLogger(__name__)


@dataclass(eq=False, kw_only=True, slots=True)
class TurnRequest(BatchRequest):
    """A request in the batcher, and what the device holds for it."""

    job: Job
    texts: list[str]
    encoded: dict[str, Condition] = field(default_factory=dict)
    """Its texts, as far as they are known."""
    trajectory: Trajectory | None = None
    """None before its first step."""
    is_started: bool = False
    """It has had a turn."""
    device_s: float = 0.0
    """Its share of the calls that it took part in."""

    @property
    def started(self) -> Trajectory:
        """The trajectory of a request that has had a step."""
        if self.trajectory is None:
            raise TypeError(f"request {self.job.request_id!r} has not started")
        return self.trajectory


R = TypeVar("R", bound=TurnRequest)
_Told: TypeAlias = list[tuple[R, Event | EdgeError]]


@dataclass(slots=True)
class _Launched(Generic[R]):
    """A call that the device was given."""

    model_id: str
    requests: list[R]
    sizes: list[int]
    """Each one's part of the call."""
    begun: Any
    ended: Any
    told: Callable[[], _Told[R]]
    """Who is told what when it is done."""


class Turns(Generic[R]):
    """The turns of one device.

    turns.join(request)
    while turns.turn():
        ...                # between turns: others join, batcher.leave(request), models come and go
    """

    def __init__(
        self,
        device: torch.device,
        clock: Clock,
        batcher: StepBatcher[R],
        models: Mapping[str, Model],
        limits: Mapping[str, dict[Stage, int]],
        post: Callable[[Iterable[tuple[R, Event | EdgeError]]], None],
    ) -> None:
        """Take turns for the requests that join.

        Args:
            device: what the models are on.
            clock: says when launched work is done.
            batcher: its requests.
            models: the resident ones.
            limits: most texts, samples and images of a call of each model; fewer after one that
                memory was too small for.
            post: hands events to those who listen.
        """
        self._device = device
        self._clock = clock
        self._models = models
        self._limits = limits
        self._post = post
        self._batcher = batcher
        self._batches: dict[str, Batch] = {}
        self._ahead: list[_Launched[R]] = []

    def join(self, request: R) -> None:
        """Let a request take part from the next turn on."""
        known = self._models[request.model_id].texts
        for text in request.texts:
            if (encoded := known.get(text)) is not None:
                request.encoded[text] = encoded
        _count_texts(request)
        self._batcher.join(request)

    def forget(self, model_id: str) -> None:
        """Finish what is launched, and drop what the device holds of a model besides its nets."""
        self.finish()
        self._batches.pop(model_id, None)
        if model_id in self._models:
            self._models[model_id].texts.clear()

    @torch.inference_mode()
    def turn(self) -> bool:
        """Let one model take a turn; False where there is nothing to do."""
        model_id = self._batcher.next_model()
        if model_id is None:
            self.finish()
            self._batches.clear()
            return False
        before, self._ahead = self._ahead, []
        self._launch(model_id)
        if batch := self._batches.get(model_id):
            with contextlib.suppress(Exception):  # the step does it again, and tells what fails
                batch.prepare()
        if not self._clock.runs_ahead:
            before, self._ahead = before + self._ahead, []
        self._settle(before)
        return True

    def finish(self) -> None:
        """Wait for what is launched, and tell its events."""
        before, self._ahead = self._ahead, []
        self._settle(before)

    def _launch(self, model_id: str) -> None:
        """Launch at most one call of each kind; more where one fails."""
        limits, next_turn = self._limits[model_id], self._batcher.next_turn
        encoding = next_turn(model_id, limits[Stage.TEXT], Stage.TEXT)
        self._announce(encoding)
        self._together(self._encode, encoding)
        stepping = next_turn(model_id, limits[Stage.STEP])
        self._announce(stepping)
        self._together(self._begin, [one for one in stepping if one.trajectory is None])
        self._together(self._step, [one for one in stepping if one.trajectory is not None])
        self._together(self._decode, next_turn(model_id, limits[Stage.IMAGE], Stage.IMAGE))

    def _announce(self, requests: list[R]) -> None:
        new = [request for request in requests if not request.is_started]
        if new:
            now = Started(time.perf_counter())
            self._post([(request, now) for request in new])
            for request in new:
                request.is_started = True

    def _together(
        self, call: Callable[[Model, list[R]], Callable[[], _Told[R]]], requests: list[R]
    ) -> None:
        """Launch one call for all requests; where that fails, one by one."""
        if not requests:
            return
        model_id, sizes = requests[0].model_id, [request.size for request in requests]
        try:
            begun = self._clock.mark()
            told = call(self._models[model_id], requests)
            ended = self._clock.mark()
        except Exception as error:  # noqa: BLE001 - nets and their libraries raise what they like
            failure = self._failure(requests, error)
        else:
            self._ahead.append(_Launched(model_id, requests, sizes, begun, ended, told))
            return
        release(self._device)  # outside of the except block: the error holds on to its tensors
        if len(requests) == 1:
            self._batcher.leave(requests[0])
            self._post([(requests[0], failure)])
            return
        for request in requests:
            self._together(call, [request])

    def _failure(self, requests: list[R], error: Exception) -> EdgeError:
        """Return the error of a failed call's request; after this fewer share such a call."""
        model_id, request_id = requests[0].model_id, requests[0].job.request_id
        if is_out_of_memory(error):
            size = sum(request.size for request in requests)
            self._limits[model_id][requests[0].stage] = max(1, size // 2)
            logger.warning("%s: out of memory with %d requests", model_id, len(requests))
            return OverloadedError(f"no memory left for request {request_id!r} of {model_id!r}")
        logger.warning("%s failed with %d requests", model_id, len(requests), exc_info=error)
        return GenerationError(f"model {model_id!r} failed on request {request_id!r}: {error}")

    def _encode(self, model: Model, requests: list[R]) -> Callable[[], _Told[R]]:
        texts = dict.fromkeys(
            text for one in requests for text in one.texts if text not in one.encoded
        )
        most = self._limits[requests[0].model_id][Stage.TEXT]  # one request may have more than that
        encoded = denoising.encode(model, list(texts)[:most])
        for one in requests:
            one.encoded |= {text: encoded[text] for text in one.texts if text in encoded}
            _count_texts(one)
        return list

    def _begin(self, model: Model, requests: list[R]) -> Callable[[], _Told[R]]:
        started = [denoising.begin(model, one.job, one.encoded) for one in requests]
        for one, trajectory in zip(requests, started, strict=True):
            one.trajectory, one.encoded = trajectory, {}
        return list

    def _step(self, model: Model, requests: list[R]) -> Callable[[], _Told[R]]:
        model_id = requests[0].model_id
        if model_id not in self._batches:
            self._batches[model_id] = Batch(model.family)
        self._batches[model_id].advance([one.started for one in requests])
        steps: _Told[R] = [(one, StepDone(one.started.step)) for one in requests]
        for one in requests:
            if one.started.is_finished:
                one.stage = Stage.IMAGE
        if all(one.stage is Stage.IMAGE for one in requests):
            del self._batches[model_id]  # nobody goes on with its tensors
        return lambda: steps

    def _decode(self, model: Model, requests: list[R]) -> Callable[[], _Told[R]]:
        images = denoising.decode(model.family, [one.started for one in requests])
        for one in requests:
            self._batcher.leave(one)
        return lambda: [
            (one, ImageDone(image, one.device_s))
            for one, image in zip(requests, images.numpy(), strict=True)
        ]

    def _settle(self, launched: list[_Launched[R]]) -> None:
        """Wait until calls are done; account for them and tell their events."""
        told: _Told[R] = []
        for one in launched:
            try:
                used_s = self._clock.wait_s(one.begun, one.ended)
            except Exception as error:  # noqa: BLE001 - a GPU tells here what broke in a call
                for request in one.requests:
                    self._batcher.leave(request)
                    told.append((request, self._failure([request], error)))
                continue
            total = sum(one.sizes)
            for request, size in zip(one.requests, one.sizes, strict=True):
                request.device_s += used_s * size / total
            self._batcher.charge(one.model_id, used_s)
            told += one.told()
        if told:
            self._post(told)


def _count_texts(request: TurnRequest) -> None:
    """Count what is still to be encoded; without any, the request is ready for its steps."""
    request.num_texts = len(set(request.texts).difference(request.encoded))
    request.stage = Stage.TEXT if request.num_texts else Stage.STEP
