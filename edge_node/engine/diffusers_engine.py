"""The engine over diffusers pipelines: any folder or hub id of a known family, step by step.

The asyncio side asks and listens; one device thread (device_thread.py) loads, evicts and takes
turns. Responsible for requests on their way through turns, and for out of memory. Not: which
requests share a denoiser call (step_batcher.py), the step itself (denoising.py).
"""

import asyncio
import logging
import math
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import torch
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from transformers.utils import logging as transformers_logging

from edge_node.catalog import Entry, header
from edge_node.config import EngineConfig
from edge_node.engine import batch_limit, denoising, families
from edge_node.engine.denoising import Model, Trajectory
from edge_node.engine.device_thread import DeviceThread
from edge_node.engine.interface import Event, ImageDone, Job, Started, StepDone
from edge_node.engine.loader import Loader
from edge_node.engine.memory import is_out_of_memory, keep_freed, release
from edge_node.engine.step_batcher import BatchRequest, StepBatcher
from edge_node.engine.weights import Weights
from protos.errors import (
    EdgeError,
    GenerationError,
    InvalidRequestError,
    NotResidentError,
    OverloadedError,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")
_Events: TypeAlias = "asyncio.Queue[Event | BaseException]"

_ALL_THREADS = torch.get_num_threads()
"""torch's own choice; asked later, it is what some thread has set for itself."""


@dataclass(eq=False, kw_only=True, slots=True)
class _ActiveRequest(BatchRequest):
    """A request in the batcher, and who listens to it."""

    job: Job
    loop: asyncio.AbstractEventLoop
    events: _Events
    trajectory: Trajectory | None = None
    """None before its first turn."""
    device_s: float = 0.0
    """Its share of the turns that it took part in."""
    told_at: float = -1.0
    """When its listener last heard of a step, in whole ``job.progress_s``."""

    @property
    def started(self) -> Trajectory:
        """The trajectory of a request that has had a turn."""
        if self.trajectory is None:
            raise TypeError(f"request {self.job.request_id!r} has not started")
        return self.trajectory

    def hears(self, now_s: float) -> bool:
        """Return whether its listener hears of progress now: for the first time since a tick.

        The ticks are the clock's, the same for all requests, so that one wake-up serves a turn's.
        """
        interval_s = self.job.progress_s
        tick = now_s // interval_s if interval_s else now_s
        is_due = tick != self.told_at
        self.told_at = tick
        return is_due


_Action: TypeAlias = Callable[[Model, list[_ActiveRequest]], None]


class DiffusersEngine:
    """One device, its thread, and the models resident on it."""

    def __init__(self, config: EngineConfig) -> None:
        diffusers_logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
        keep_freed()
        has_cuda = torch.cuda.is_available()
        own = "cuda" if has_cuda else "cpu"
        self._device = torch.device(own if config.device == "auto" else config.device)
        if self._device.type == "cuda" and not has_cuda:
            raise ValueError(f"engine.device is {config.device!r}, but this machine has no CUDA")
        self._config = config
        self._dtype = getattr(torch, config.dtype)
        self._models: dict[str, Model] = {}
        self._batch_limits: dict[str, int] = {}
        self._batcher: StepBatcher[_ActiveRequest] = StepBatcher()
        self.thread = DeviceThread(self._turn, self._begin)
        """Whoever else runs nets on the device calls them here."""
        self._loader = Loader(
            self._device, self._dtype, self.thread, is_compiled=config.is_compiled
        )
        self._installed: dict[str, tuple[Weights, Tensor]] = {}
        self._working_bytes: dict[str, int] = {}
        self.device_name, self.device_uuid = "cpu", ""
        if self._device.type == "cuda":
            properties = torch.cuda.get_device_properties(self._device)
            self.device_name, self.device_uuid = properties.name, f"GPU-{properties.uuid}"

    def estimate_bytes(self, entry: Entry) -> int:
        """Return the safetensors' parameters at this engine's precision, from their headers."""
        if entry.folder is None:
            return 0
        entry.check()
        return self._dtype.itemsize * sum(
            math.prod(tensor["shape"])
            for file in entry.folder.rglob("*.safetensors")
            if file.parent.name != families.UNUSED_PART
            for tensor in header(file)[1].values()
        )

    async def stage(self, entry: Entry) -> int:
        """Read a model's weights into host memory, beside what runs; return their bytes."""
        return await self._loader.stage(entry)

    async def unstage(self, model_id: str) -> None:
        """Give a model's host memory back."""
        await self._loader.unstage(model_id)

    async def load(self, entry: Entry) -> int:
        """Make a model resident; return the bytes of its parameters and buffers."""
        built, block = await self._loader.fetch(entry)
        try:
            await self._guarded(entry, self._install, entry.model_id, built.weights, block)
            if entry.model_id not in self._batch_limits:
                await self._measure(built.model, entry)
            await self.thread.call(self._models.update, {entry.model_id: built.model})
        except BaseException:  # a cancelled call was made to its end too
            await self.evict(entry.model_id)
            raise
        return len(block)

    async def evict(self, model_id: str) -> None:
        """Drop a model's tensors and hand the memory back."""
        await self._loader.drop(await self.thread.call(self._evict, model_id))

    def working_bytes(self, model_id: str) -> int | None:
        """Return what the largest batch took when it was measured; None on a CPU."""
        return self._working_bytes.get(model_id)

    async def generate(self, job: Job) -> AsyncGenerator[Event, None]:
        """Yield Started with its first turn, StepDone after denoising steps, then ImageDone."""
        events: _Events = asyncio.Queue()
        loop = asyncio.get_running_loop()
        step, has_left = 0, False
        try:
            joined = self.thread.submit(self._join, job, loop, events)
            joined.add_done_callback(partial(_post_failure, loop, events))
            while not has_left:
                event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, StepDone):
                    step = event.step
                elif isinstance(event, ImageDone):
                    has_left = True  # a request is out before it is decoded
                    if step < job.num_steps:  # not told yet: no wake-up of its own so soon before
                        yield StepDone(job.num_steps)
                yield event
        finally:
            if not has_left:
                await self.thread.call(self._leave, events)

    async def close(self) -> None:
        """Evict everything and end the thread."""
        for model_id in list(self._models):
            await self.evict(model_id)
        await self._loader.close()
        self.thread.close()

    async def _guarded(self, entry: Entry, function: Callable[..., T], *args: Any) -> T:
        """Run a function of a load in the device thread, after a turn of another model."""

        def after_a_turn() -> T:  # however soon one call follows another, nobody waits for all
            self._turn()
            return self._loader.guarded(entry, function, *args)

        return await self.thread.call(after_a_turn)

    async def _measure(self, model: Model, entry: Entry) -> None:
        """Find a model's largest batch, and what it takes of the device's memory."""
        one = await self._guarded(entry, batch_limit.probe, model, entry)

        async def call_s(batch_size: int) -> float:
            return await self._guarded(entry, batch_limit.call_s, model, one, batch_size)

        limit = self._config.max_batch_size or await batch_limit.measured(call_s)
        if self._config.is_compiled:
            for size in sorted({1, 2, limit}):  # each may be compiled apart: now, not in a step
                await call_s(size)
        if self._device.type == "cuda":
            peak_bytes = await self._guarded(entry, batch_limit.peak_bytes, model, one, limit)
            self._working_bytes[entry.model_id] = peak_bytes
        self._batch_limits[entry.model_id] = limit
        await self._loader.drop(None)
        logger.info("%s: batches of at most %d", entry.model_id, limit)

    # Everything below runs in the device thread.

    def _begin(self) -> None:
        torch.get_num_threads()  # else a thread's first computation takes what another one has set
        torch.set_num_threads(self._config.num_threads or _useful_threads())

    def _join(self, job: Job, loop: asyncio.AbstractEventLoop, events: _Events) -> None:
        model = self._models.get(job.model_id)
        if model is None:
            raise NotResidentError(f"model {job.model_id!r} is not on the device")
        try:
            model.table(job)
        except ValueError as error:
            raise InvalidRequestError(f"model {job.model_id!r}: {error}") from error
        request = _ActiveRequest(
            model_id=job.model_id,
            batch_size=2 if denoising.is_guided(model.family, job) else 1,
            num_steps=job.num_steps,
            deadline_s=job.deadline_s,
            job=job,
            loop=loop,
            events=events,
        )
        self._batcher.join(request)

    def _leave(self, events: _Events) -> None:
        """Take out whoever listens there; also one whose caller was cancelled while it joined."""
        for request in [request for request in self._batcher if request.events is events]:
            self._batcher.leave(request)

    @torch.inference_mode()
    def _turn(self) -> bool:
        """Let one model take a denoising step; False where there is nothing to do."""
        model_id = self._batcher.next_model()
        if model_id is None:
            return False
        requests = self._batcher.next_turn(model_id, self._batch_limits[model_id])
        began_s = time.perf_counter()
        new = [request for request in requests if request.trajectory is None]
        _post((request, Started(began_s)) for request in new)
        failed = self._together(self._start, new)
        failed += self._together(self._advance, [s for s in requests if s not in failed])
        used_s = time.perf_counter() - began_s
        batch_size = sum(request.batch_size for request in requests)
        for request in requests:
            request.device_s += used_s * request.batch_size / batch_size
        self._batcher.charge(model_id, used_s)
        finished = [s for s in requests if s not in failed and s.started.is_finished]
        for request in (*failed, *finished):
            self._batcher.leave(request)
        self._together(self._decode, finished)
        return True

    def _together(self, action: _Action, requests: list[_ActiveRequest]) -> list[_ActiveRequest]:
        """Act for all requests at once; where that fails, one by one. Return those that fail."""
        if not requests:
            return []
        try:
            action(self._models[requests[0].model_id], requests)
        except Exception as error:  # noqa: BLE001 - nets and their libraries raise what they like
            failure = self._failure(requests, error)
        else:
            return []
        release(self._device)  # outside of the except block: the error holds on to its tensors
        if len(requests) == 1:
            _post([(requests[0], failure)])
            return requests
        return [failed for request in requests for failed in self._together(action, [request])]

    def _failure(self, requests: list[_ActiveRequest], error: Exception) -> EdgeError:
        """Return the error of a failed action's request; after this fewer share a step."""
        model_id, request_id = requests[0].model_id, requests[0].job.request_id
        if is_out_of_memory(error):
            batch_size = sum(request.batch_size for request in requests)
            self._batch_limits[model_id] = max(1, batch_size // 2)
            logger.warning("%s: out of memory with %d requests", model_id, len(requests))
            return OverloadedError(f"no memory left for request {request_id!r} of {model_id!r}")
        logger.warning("%s failed with %d requests", model_id, len(requests), exc_info=error)
        return GenerationError(f"model {model_id!r} failed on request {request_id!r}: {error}")

    def _start(self, model: Model, requests: list[_ActiveRequest]) -> None:
        started = denoising.start(model, [request.job for request in requests])
        for request, trajectory in zip(requests, started, strict=True):
            request.trajectory = trajectory

    def _advance(self, model: Model, requests: list[_ActiveRequest]) -> None:
        denoising.advance(model.family, [request.started for request in requests])
        _post((request, StepDone(request.started.step)) for request in requests)

    def _decode(self, model: Model, requests: list[_ActiveRequest]) -> None:
        began_s = time.perf_counter()
        images = denoising.finish(model.family, [request.started for request in requests])
        share_s = (time.perf_counter() - began_s) / len(requests)
        _post(
            (request, ImageDone(image, request.device_s + share_s))
            for request, image in zip(requests, images, strict=True)
        )

    def _install(self, model_id: str, weights: Weights, block: Tensor) -> None:
        self._installed[model_id] = (weights, block)
        weights.install(block)

    def _evict(self, model_id: str) -> Tensor | None:
        """Take a model's block from its nets, and return it."""
        self._models.pop(model_id, None)
        weights, block = self._installed.pop(model_id, (None, None))
        if weights:
            weights.install(None)
        return block


def _useful_threads() -> int:
    """Return torch's own choice; outside of the main thread at most one less than the cores.

    OpenMP sleeps at every barrier where its threads, the main thread counted, exceed the cores.
    """
    if threading.current_thread() is threading.main_thread():
        return _ALL_THREADS
    return min(_ALL_THREADS, max(1, (os.cpu_count() or 1) - 1))


def _post(events: Iterable[tuple[_ActiveRequest, Event | EdgeError]]) -> None:
    """Hand events to those who listen, in their event loops: one wake-up for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_ActiveRequest, Event | EdgeError]]] = {}
    now_s = time.perf_counter()
    for request, event in events:
        is_due = request.hears(now_s)
        if isinstance(event, StepDone) and not is_due:
            continue
        by_loop.setdefault(request.loop, []).append((request, event))
    for loop, items in by_loop.items():
        loop.call_soon_threadsafe(_deliver, items)


def _post_failure(loop: asyncio.AbstractEventLoop, events: _Events, joined: "Future[None]") -> None:
    """Hand on why a request could not join; one that could hears of its first turn."""
    if error := joined.exception():
        loop.call_soon_threadsafe(events.put_nowait, error)


def _deliver(items: list[tuple[_ActiveRequest, Event | EdgeError]]) -> None:
    for request, event in items:
        request.events.put_nowait(event)
