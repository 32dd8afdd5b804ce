"""The engine over diffusers pipelines: any folder or hub id of a known family, step by step.

The asyncio side asks and listens; one device thread (device_thread.py) loads, evicts and takes
turns (stepping/turns.py). Responsible for loads and for who listens to a request. Not: which
requests share a call (step_batcher.py), what a turn does.
"""

import asyncio
import logging
import math
import os
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from transformers.utils import logging as transformers_logging

from edge_node.catalog import Entry, header
from edge_node.config import EngineConfig
from edge_node.engine import batch_limit, denoising, families
from edge_node.engine.denoising import Model
from edge_node.engine.device_thread import DeviceThread
from edge_node.engine.interface import Event, ImageDone, Job, StepDone
from edge_node.engine.loader import Loader
from edge_node.engine.memory import keep_freed
from edge_node.engine.onnx_runtime.store import GraphStore, default_folder
from edge_node.engine.step_batcher import Stage, StepBatcher
from edge_node.engine.stepping.clock import clock_of
from edge_node.engine.stepping.turns import TurnRequest, Turns
from edge_node.engine.weights import Weights
from protos.errors import EdgeError, InvalidRequestError, NotResidentError

logger = logging.getLogger(__name__)

T = TypeVar("T")
_Events: TypeAlias = "asyncio.Queue[Event | BaseException]"

ALL_THREADS = torch.get_num_threads()
"""torch's own choice; asked later, it is what some thread has set for itself."""


@dataclass(eq=False, kw_only=True, slots=True)
class _ActiveRequest(TurnRequest):
    """A request in the batcher, and who listens to it."""

    loop: asyncio.AbstractEventLoop
    events: _Events
    told_at: float = -1.0
    """When its listener last heard of a step, in whole ``job.progress_s``."""

    def hears(self, now_s: float) -> bool:
        """Return whether its listener hears of progress now: for the first time since a tick.

        The ticks are the clock's, the same for all requests, so that one wake-up serves a turn's.
        """
        interval_s = self.job.progress_s
        tick = now_s // interval_s if interval_s else now_s
        is_due = tick != self.told_at
        self.told_at = tick
        return is_due


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
        self._graphs = _graph_store(config, self._device)
        self._dtype = getattr(torch, config.dtype)
        self._models: dict[str, Model] = {}
        self._limits: dict[str, dict[Stage, int]] = {}
        self._batcher: StepBatcher[_ActiveRequest] = StepBatcher()
        self._turns = Turns(
            self._device, clock_of(self._device), self._batcher, self._models, self._limits, _post
        )
        self.thread = DeviceThread(self._turns.turn, self._begin)
        """Whoever else runs nets on the device calls them here."""
        self._loader = Loader(self._device, config, self.thread, self._graphs)
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

    @property
    def export_s(self) -> float:
        """Seconds that loads have spent on exports so far: a machine's first ever, of a model."""
        return self._loader.export_s

    async def prepare(self, entry: Entry) -> None:
        """Export a model's nets for ONNX Runtime where that has not been done on this machine."""
        await self._loader.prepare(entry)

    def files(self, model_id: str) -> list[Path]:
        """Return the files that a load reads of a model that was loaded before."""
        return self._loader.files(model_id)

    def model(self, model_id: str) -> Model:
        """Return a loaded model, for those who compute with it in the device thread."""
        return self._models[model_id]

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
            if entry.model_id not in self._limits:
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
            self._turns.turn()
            self._turns.finish()
            return self._loader.guarded(entry, function, *args)

        return await self.thread.call(after_a_turn)

    async def _measure(self, model: Model, entry: Entry) -> None:
        """Find a model's largest calls of each kind, and what they take of the device's memory."""
        one = await self._guarded(entry, batch_limit.probe, model, entry)

        def timed(function: Callable[..., float]) -> Callable[[int], Awaitable[float]]:
            return lambda size: self._guarded(entry, function, model, one, size)

        call_s = timed(batch_limit.call_s)
        batch_size = self._config.max_batch_size or await batch_limit.measured(call_s)
        if self._config.is_compiled:
            for size in sorted(
                {1, 2, batch_size}
            ):  # each may be compiled apart: now, not in a step
                await call_s(size)
        step_s = await batch_limit.least_s(call_s, batch_size)
        limits = {
            Stage.TEXT: await batch_limit.within(
                step_s, timed(batch_limit.texts_s), batch_limit.MAX_TEXTS
            ),
            Stage.STEP: batch_size,
            Stage.IMAGE: await batch_limit.within(
                step_s, timed(batch_limit.images_s), batch_limit.MAX_IMAGES
            ),
        }
        if self._device.type == "cuda":
            self._working_bytes[entry.model_id] = await self._guarded(
                entry, batch_limit.peak_bytes, model, one, batch_size, limits[Stage.IMAGE]
            )
        self._limits[entry.model_id] = limits
        await self._loader.drop(None)
        logger.info("%s: at most %s", entry.model_id, _words(limits))

    # Everything below runs in the device thread.

    def _begin(self) -> None:
        torch.get_num_threads()  # else a thread's first computation takes what another one has set
        # Two pools of spinning threads would fight: beside ONNX Runtime's, torch computes in one.
        torch.set_num_threads(1 if self._graphs else self._config.num_threads or _useful_threads())

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
            texts=denoising.texts_of(model.family, job),
            num_steps=job.num_steps,
            deadline_s=job.deadline_s,
            job=job,
            loop=loop,
            events=events,
        )
        self._turns.join(request)

    def _leave(self, events: _Events) -> None:
        """Take out whoever listens there; also one whose caller was cancelled while it joined."""
        for request in [request for request in self._batcher if request.events is events]:
            self._batcher.leave(request)

    def _install(self, model_id: str, weights: Weights, block: Tensor) -> None:
        self._installed[model_id] = (weights, block)
        weights.install(block)

    def _evict(self, model_id: str) -> Tensor | None:
        """Take a model's block from its nets, and return it."""
        self._turns.forget(model_id)
        self._models.pop(model_id, None)
        weights, block = self._installed.pop(model_id, (None, None))
        if weights:
            weights.install(None)
        return block


def _graph_store(config: EngineConfig, device: torch.device) -> GraphStore | None:
    """Return where exported denoisers are kept; None where torch runs them.

    Raises:
        ValueError: ONNX Runtime is asked for where it cannot be.
    """
    can = device.type == "cpu" and config.dtype == "float32" and not config.is_compiled
    if config.runtime == "onnxruntime" and not can:
        raise ValueError(
            'engine.runtime "onnxruntime" is for a CPU with float32 and without is_compiled, got '
            f"device {device.type}, dtype {config.dtype}, is_compiled {config.is_compiled}"
        )
    if config.runtime == "torch" or not can:
        return None
    return GraphStore(Path(config.graph_folder) if config.graph_folder else default_folder())


def _words(limits: dict[Stage, int]) -> str:
    return ", ".join(f"{size} for {stage.value}" for stage, size in limits.items())


def _useful_threads() -> int:
    """Return torch's own choice; outside of the main thread at most one less than the cores.

    OpenMP sleeps at every barrier where its threads, the main thread counted, exceed the cores.
    """
    if threading.current_thread() is threading.main_thread():
        return ALL_THREADS
    return min(ALL_THREADS, max(1, (os.cpu_count() or 1) - 1))


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
