"""The engine over diffusers pipelines: any folder or hub id of a known family, step by step.

The asyncio side asks and listens; one device thread (device_thread.py) loads, evicts and takes
turns: the step batcher says which requests share the next denoiser call (step_batcher.py), the
denoising loop takes the step (denoising.py). Out of memory is caught here and nowhere else.
"""

import asyncio
import ctypes
import gc
import logging
import math
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from safetensors import safe_open
from transformers.utils import logging as transformers_logging

from edge_node import denoising, families, samplers
from edge_node.catalog import Entry
from edge_node.config import EngineConfig
from edge_node.denoising import Model, Trajectory
from edge_node.device_thread import DeviceThread
from edge_node.engine import Event, ImageDone, Job, Started, StepDone
from edge_node.step_batcher import Lane, StepBatcher
from protos.errors import (
    EdgeError,
    GenerationError,
    InvalidRequestError,
    ModelLoadError,
    NotResidentError,
    OverloadedError,
)

logger = logging.getLogger(__name__)

_Events: TypeAlias = "asyncio.Queue[Event | EdgeError]"

_MOST_ROWS = 64
_LONG_CALL_S = 0.25
"""A call this long is not doubled: everybody in it would wait for twice that."""
_LEAST_GAIN_FRAC = 0.05
"""What doubling a batch must save of a row's time, or the smaller batch is the limit."""


@dataclass(eq=False, kw_only=True, slots=True)
class _Seat(Lane):
    """A request in the batcher, and who listens to it."""

    job: Job
    loop: asyncio.AbstractEventLoop
    events: _Events
    trajectory: Trajectory | None = None
    """None before its first turn."""
    device_s: float = 0.0
    """Its share of the turns that it took part in."""


class DiffusersEngine:
    """One device, its thread, and the models resident on it."""

    def __init__(self, config: EngineConfig) -> None:
        diffusers_logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
        device = config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(device)
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"engine.device is {config.device!r}, but this machine has no CUDA")
        self._dtype = getattr(torch, config.dtype)
        self._max_rows = config.max_batch_rows
        self._models: dict[str, Model] = {}
        self._row_limits: dict[str, int] = {}
        self._batcher: StepBatcher[_Seat] = StepBatcher()
        self._thread = DeviceThread(self._turn)
        num_threads = config.num_threads or _spare_threads()
        self._thread.submit(torch.set_num_threads, num_threads).result()
        self.device_name, self.device_uuid = "cpu", ""
        if self._device.type == "cuda":
            properties = torch.cuda.get_device_properties(self._device)
            self.device_name, self.device_uuid = properties.name, f"GPU-{properties.uuid}"

    def estimate_bytes(self, entry: Entry) -> int:
        """Return the safetensors' parameters at this engine's precision, from their headers."""
        if entry.folder is None:
            return 0
        entry.check()
        return sum(
            _parameters(file) * self._dtype.itemsize
            for file in entry.folder.rglob("*.safetensors")
            if file.parent.name != families.UNUSED_PART
        )

    async def load(self, entry: Entry) -> int:
        """Make a model resident; return the bytes of its parameters and buffers."""
        try:
            return await self._thread.call(self._load, entry)
        except asyncio.CancelledError:
            await self.evict(entry.model_id)  # it was loaded to its end meanwhile
            raise

    async def evict(self, model_id: str) -> None:
        """Drop a model's tensors and hand the memory back."""
        await self._thread.call(self._evict, model_id)

    async def generate(self, job: Job) -> AsyncGenerator[Event, None]:
        """Yield Started with its first turn, StepDone after each denoising step, then ImageDone."""
        events: _Events = asyncio.Queue()
        try:
            await self._thread.call(self._join, job, asyncio.get_running_loop(), events)
            while True:
                event = await events.get()
                if isinstance(event, EdgeError):
                    raise event
                yield event
                if isinstance(event, ImageDone):
                    return
        finally:
            await self._thread.call(self._leave, events)

    async def close(self) -> None:
        """Evict everything and end the thread."""
        for model_id in list(self._models):
            await self.evict(model_id)
        self._thread.close()

    # Everything below runs in the device thread.

    def _join(self, job: Job, loop: asyncio.AbstractEventLoop, events: _Events) -> None:
        model = self._models.get(job.model_id)
        if model is None:
            raise NotResidentError(f"model {job.model_id!r} is not on the device")
        try:
            model.plan(job)
        except ValueError as error:
            raise InvalidRequestError(f"model {job.model_id!r}: {error}") from error
        seat = _Seat(
            model_id=job.model_id,
            num_rows=2 if denoising.is_guided(model.family, job) else 1,
            num_steps=job.num_steps,
            deadline_s=job.deadline_s,
            job=job,
            loop=loop,
            events=events,
        )
        self._batcher.join(seat)

    def _leave(self, events: _Events) -> None:
        """Take out whoever listens there; also one whose caller was cancelled while it joined."""
        for seat in [seat for seat in self._batcher if seat.events is events]:
            self._batcher.leave(seat)

    @torch.inference_mode()
    def _turn(self) -> bool:
        """Let one model take a denoising step; False where there is nothing to do."""
        model_id = self._batcher.next_model()
        if model_id is None:
            return False
        seats = self._batcher.next_turn(model_id, self._row_limits[model_id])
        began_s = time.perf_counter()
        new = [seat for seat in seats if seat.trajectory is None]
        _post((seat, Started(began_s)) for seat in new)
        failed = self._together(self._start, new)
        failed += self._together(self._advance, [s for s in seats if s not in failed])
        used_s = time.perf_counter() - began_s
        num_rows = sum(seat.num_rows for seat in seats)
        for seat in seats:
            seat.device_s += used_s * seat.num_rows / num_rows
        self._batcher.charge(model_id, used_s)
        finished = [s for s in seats if s not in failed and _trajectory(s).is_finished]
        for seat in (*failed, *finished):
            self._batcher.leave(seat)
        self._together(self._decode, finished)
        return True

    def _together(self, action: Callable[[list[_Seat]], None], seats: list[_Seat]) -> list[_Seat]:
        """Act for all seats at once; where that fails, for each alone. Return who fails alone."""
        if not seats:
            return []
        try:
            action(seats)
        except Exception as error:  # noqa: BLE001 - nets and their libraries raise what they like
            failure = self._failure(seats, error)
        else:
            return []
        self._release()  # outside of the except block: the error holds on to its tensors
        if len(seats) == 1:
            _post([(seats[0], failure)])
            return seats
        return [failed for seat in seats for failed in self._together(action, [seat])]

    def _failure(self, seats: list[_Seat], error: Exception) -> EdgeError:
        """Return what the request of a failed action is told; fewer share a step after this."""
        model_id, request_id = seats[0].model_id, seats[0].job.request_id
        if _is_out_of_memory(error):
            self._row_limits[model_id] = max(1, sum(seat.num_rows for seat in seats) // 2)
            logger.warning("%s: out of memory with %d requests", model_id, len(seats))
            return OverloadedError(f"no memory left for request {request_id!r} of {model_id!r}")
        logger.warning("%s failed with %d requests", model_id, len(seats), exc_info=error)
        return GenerationError(f"model {model_id!r} failed on request {request_id!r}: {error}")

    def _start(self, seats: list[_Seat]) -> None:
        model = self._models[seats[0].model_id]
        started = denoising.start(model, [seat.job for seat in seats])
        for seat, trajectory in zip(seats, started, strict=True):
            seat.trajectory = trajectory

    def _advance(self, seats: list[_Seat]) -> None:
        family = self._models[seats[0].model_id].family
        denoising.advance(family, [_trajectory(seat) for seat in seats])
        _post((seat, StepDone(_trajectory(seat).step)) for seat in seats)

    def _decode(self, seats: list[_Seat]) -> None:
        family = self._models[seats[0].model_id].family
        began_s = time.perf_counter()
        images = denoising.finish(family, [_trajectory(seat) for seat in seats])
        share_s = (time.perf_counter() - began_s) / len(seats)
        _post(
            (seat, ImageDone(image, seat.device_s + share_s))
            for seat, image in zip(seats, images, strict=True)
        )

    def _load(self, entry: Entry) -> int:
        entry.check()
        try:
            model = self._build(entry)
        except Exception as error:  # noqa: BLE001 - diffusers and transformers raise what they like
            is_full, reason = _is_out_of_memory(error), str(error)
        else:
            self._models[entry.model_id] = model
            return _resident_bytes(model.pipeline)
        self._release()  # outside of the except block: the error holds on to its tensors
        if is_full:
            raise OverloadedError(f"no memory left to load {entry.model_id!r}: {reason}")
        raise ModelLoadError(f"model {entry.model_id!r} cannot be loaded: {reason}")

    def _build(self, entry: Entry) -> Model:
        pipeline = families.load(entry, self._dtype, self._device)
        model = Model(families.adapt(pipeline), _own_sampler(entry.model_id, pipeline))
        if entry.model_id not in self._row_limits:
            limit = self._max_rows or self._measured_rows(model, entry)
            self._row_limits[entry.model_id] = limit
        return model

    @torch.inference_mode()
    def _measured_rows(self, model: Model, entry: Entry) -> int:
        """Return the most denoiser rows of a call: double as long as that saves time per row."""
        config = entry.config
        job = Job(
            request_id="measure",
            model_id=entry.model_id,
            prompt="",
            negative_prompt="",
            num_steps=1,
            guidance_scale=1.0,
            seed=0,
            scheduler="",
            width_px=config.width_px,
            height_px=config.height_px,
        )
        (one,) = denoising.start(model, [job])
        num_rows, row_s = 1, math.inf
        try:
            while num_rows <= _MOST_ROWS:
                call_s = min(self._call_s(model, one, num_rows) for _ in range(3))
                if call_s / num_rows > row_s * (1 - _LEAST_GAIN_FRAC):
                    break
                num_rows, row_s = 2 * num_rows, call_s / num_rows
                if call_s > _LONG_CALL_S:
                    break
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
        self._release()
        limit = max(1, num_rows // 2)
        logger.info("%s: %d rows a denoiser call, %.2g s each", entry.model_id, limit, row_s)
        return limit

    def _call_s(self, model: Model, one: Trajectory, num_rows: int) -> float:
        """Return the seconds of one denoiser call with so many rows."""
        began_s = time.perf_counter()
        out = model.family.denoise(
            one.latent.repeat(num_rows, 1, 1, 1),
            one.plan.timesteps[:1].float().repeat(num_rows).to(self._device),
            families.stacked(one.conditions * num_rows),
        )
        out[0, 0, 0, 0].item()  # waits for the device
        return time.perf_counter() - began_s

    def _evict(self, model_id: str) -> None:
        self._models.pop(model_id, None)
        self._release()

    def _release(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed pages otherwise


def _spare_threads() -> int:
    """Return the threads that leave a core to the event loop, at most torch's own choice."""
    return min(torch.get_num_threads(), max(1, (os.cpu_count() or 1) - 1))


def _trajectory(seat: _Seat) -> Trajectory:
    """Return the trajectory of a seat that has started."""
    if seat.trajectory is None:
        raise TypeError(f"request {seat.job.request_id!r} has not started")
    return seat.trajectory


def _post(events: Iterable[tuple[_Seat, Event | EdgeError]]) -> None:
    """Hand events to those who listen, in their event loops: one wake-up for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Seat, Event | EdgeError]]] = {}
    for seat, event in events:
        by_loop.setdefault(seat.loop, []).append((seat, event))
    for loop, items in by_loop.items():
        loop.call_soon_threadsafe(_deliver, items)


def _deliver(items: list[tuple[_Seat, Event | EdgeError]]) -> None:
    for seat, event in items:
        seat.events.put_nowait(event)


def _own_sampler(model_id: str, pipeline: Any) -> str:
    """Return the sampler that a model's folder names, or the nearest that there is."""
    own = samplers.own_name(pipeline.scheduler)
    if own is None:
        logger.warning(
            "%s names %s, which is none of this engine's samplers: ddim instead, on the same "
            "noise schedule; set scheduler in the catalog to choose",
            *(model_id, type(pipeline.scheduler).__name__),
        )
    return own or "ddim"


def _is_out_of_memory(error: Exception) -> bool:
    """Tell CUDA's, the CPU allocator's and Python's own complaint from other errors."""
    is_type = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return is_type or "DefaultCPUAllocator" in str(error)


def _resident_bytes(pipeline: Any) -> int:
    nets = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    tensors = {
        tensor.data_ptr(): tensor.numel() * tensor.element_size()
        for net in nets
        for tensor in (*net.parameters(), *net.buffers())
    }
    return sum(tensors.values())


def _parameters(file: Any) -> int:
    with safe_open(file, framework="pt") as tensors:
        return sum(
            int(np.prod(tensors.get_slice(name).get_shape(), dtype=np.int64))
            for name in tensors.keys()  # noqa: SIM118 - not a dict
        )
