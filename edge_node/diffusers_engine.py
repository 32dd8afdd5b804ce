"""The engine over diffusers pipelines: any folder or hub id that ``DiffusionPipeline`` loads.

One thread owns torch: diffusers patches it process-wide while it builds a model, so only that
thread builds, moves or runs nets. Out of memory is caught here and nowhere else.
"""

import asyncio
import ctypes
import gc
import logging
import sys
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from safetensors import safe_open
from transformers.utils import logging as transformers_logging

from edge_node import samplers
from edge_node.catalog import Entry
from edge_node.config import EngineConfig
from edge_node.engine import ImageDone, Job, StepDone
from protos.errors import EdgeError, GenerationError, ModelLoadError, OverloadedError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class _StoppedError(Exception):
    """The caller left; raised between two denoising steps."""


class DiffusersEngine:
    """One device, its thread, and the pipelines resident on it."""

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
        self._pipelines: dict[str, Any] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        if config.num_threads:
            self._thread.submit(torch.set_num_threads, config.num_threads).result()
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
            _parameters(file) * self._dtype.itemsize for file in entry.folder.rglob("*.safetensors")
        )

    async def load(self, entry: Entry) -> int:
        """Make a model resident; return the bytes of its parameters and buffers."""
        try:
            return await self._on_device(self._load, entry)
        except asyncio.CancelledError:
            await self.evict(entry.model_id)  # it was loaded to its end meanwhile
            raise

    async def evict(self, model_id: str) -> None:
        """Drop a model's tensors and hand the memory back."""
        await self._on_device(self._evict, model_id)

    async def generate(self, job: Job) -> AsyncGenerator[StepDone | ImageDone, None]:
        """Yield StepDone after each denoising step, then ImageDone."""
        loop = asyncio.get_running_loop()
        stop = Event()
        steps: asyncio.Queue[StepDone | None] = asyncio.Queue()

        def on_step(step: int) -> None:
            if stop.is_set():
                raise _StoppedError
            loop.call_soon_threadsafe(steps.put_nowait, StepDone(step))

        work = asyncio.ensure_future(self._on_device(self._generate, job, on_step))
        work.add_done_callback(lambda _: steps.put_nowait(None))
        try:
            while (step := await steps.get()) is not None:
                yield step
            yield ImageDone(await work)
        finally:
            stop.set()
            await _ended(work)

    async def close(self) -> None:
        """Evict everything and end the thread."""
        for model_id in list(self._pipelines):
            await self.evict(model_id)
        self._thread.shutdown()

    async def _on_device(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function in the device thread; a cancelled caller waits for its end too."""
        work = asyncio.get_running_loop().run_in_executor(self._thread, function, *args)
        await _ended(work)
        return work.result()

    def _load(self, entry: Entry) -> int:
        entry.check()
        try:
            pipeline = DiffusionPipeline.from_pretrained(
                entry.location,
                dtype=self._dtype,
                use_safetensors=True,
                variant=entry.config.variant or None,
                local_files_only=entry.folder is not None,
            ).to(self._device)
        except torch.OutOfMemoryError as error:
            self._release()
            raise OverloadedError(f"no memory left to load {entry.model_id!r}: {error}") from error
        except EdgeError:
            raise
        except Exception as error:  # diffusers and transformers raise what they like
            self._release()
            raise ModelLoadError(f"model {entry.model_id!r} cannot be loaded: {error}") from error
        pipeline.set_progress_bar_config(disable=True)
        self._pipelines[entry.model_id] = pipeline
        return _resident_bytes(pipeline)

    def _evict(self, model_id: str) -> None:
        self._pipelines.pop(model_id, None)
        self._release()

    def _release(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed pages otherwise

    def _generate(self, job: Job, on_step: Callable[[int], None]) -> NDArray[np.uint8]:
        pipeline = self._pipelines[job.model_id]
        own = pipeline.scheduler

        def callback(_: Any, index: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step(index + 1)
            return tensors

        pipeline.scheduler = samplers.make(job.scheduler, own)
        try:
            images = pipeline(
                prompt=job.prompt,
                negative_prompt=job.negative_prompt or None,
                num_inference_steps=job.num_steps,
                guidance_scale=job.guidance_scale,
                width=job.width_px,
                height=job.height_px,
                generator=torch.Generator("cpu").manual_seed(job.seed),
                output_type="np",
                callback_on_step_end=callback,
            ).images
        except _StoppedError:
            raise
        except torch.OutOfMemoryError as error:
            self._release()
            raise OverloadedError(f"no memory left for request {job.request_id!r}") from error
        except Exception as error:  # the boundary of one request
            raise GenerationError(
                f"model {job.model_id!r} failed on request {job.request_id!r}: {error}"
            ) from error
        finally:
            pipeline.scheduler = own
        return np.rint(images[0] * 255).astype(np.uint8)


async def _ended(work: asyncio.Future[Any]) -> None:
    """Wait for the device thread's end of some work, also while being cancelled."""
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            cancelled = True
    if not work.cancelled():
        work.exception()  # retrieved: a stopped job's error interests nobody
    if cancelled:
        raise asyncio.CancelledError


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
