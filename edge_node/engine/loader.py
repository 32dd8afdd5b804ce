"""Brings weights from disk to host memory and on to the device, beside what runs there.

A model's nets are built once, in the device thread between turns: diffusers and transformers patch
torch process-wide while they build (register_parameter, init functions, the default dtype). From
then on its files are read, and blocks copied, in a thread of the loader's own, which spends its
time in system calls and copies that need no Python lock; the device thread only installs a block.

On a CPU a model's block lies at one address for good: an eviction gives its pages back, a load
fills them again, and what points there (a session of ONNX Runtime) need not be made anew.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from edge_node.catalog import Entry
from edge_node.config import EngineConfig
from edge_node.engine import families, samplers
from edge_node.engine.denoising import Model
from edge_node.engine.device_thread import DeviceThread
from edge_node.engine.interface import Job
from edge_node.engine.memory import is_out_of_memory, release, trim
from edge_node.engine.onnx_runtime.graph import Source
from edge_node.engine.onnx_runtime.store import GraphStore
from edge_node.engine.weights import Weights, blank, check_complete, copy, give_back
from protos.errors import EdgeError, ModelLoadError, OverloadedError

logger = logging.getLogger(__name__)

T = TypeVar("T")
_PARTS = ("unet", "transformer", "vae")
"""Of a model's folder: what runs in ONNX Runtime."""
_Stamp: TypeAlias = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Built:
    """A model's nets, without their weights."""

    model: Model
    weights: Weights
    stamp: _Stamp


class Loader:
    """Builds, reads and copies; holds what is staged in host memory.

    Where weights cannot be used (ModelLoadError) or memory is full (OverloadedError), nothing of
    the model stays behind.

    await loader.stage(entry)                  # disk -> host, kept; pinned where there is a GPU
    built, block = await loader.fetch(entry)   # host or disk -> device
    built.weights.install(block)               # in the device thread
    await loader.unstage(model_id)
    """

    def __init__(
        self,
        device: torch.device,
        config: EngineConfig,
        thread: DeviceThread,
        graphs: GraphStore | None,
    ) -> None:
        """Prepare; with a store of graphs denoisers run in ONNX Runtime."""
        self._device = device
        self._dtype = getattr(torch, config.dtype)
        self._is_compiled = config.is_compiled
        self._graphs = graphs
        self._num_threads = config.num_threads or os.cpu_count() or 1
        self._device_thread = thread
        self._own_thread = DeviceThread(bool, _begin)
        self._own_thread.submit(bool).result()  # begun before the nets' threads: see _begin
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._shelf: dict[str, Built] = {}
        self._staged: dict[str, Tensor] = {}

    @property
    def export_s(self) -> float:
        """Seconds that loads have spent on exports so far."""
        return self._graphs.export_s if self._graphs else 0.0

    def files(self, model_id: str) -> list[Path]:
        """Return the files that a load of a model, once built, reads."""
        return self._shelf[model_id].weights.files

    async def prepare(self, entry: Entry) -> None:
        """Have what a model's first load ever would export made now; nothing where it is kept.

        Raises:
            ModelLoadError: its weights cannot be used.
        """
        if self._graphs is None or entry.folder is None:
            return
        entry.check()
        parts = [folder for folder in map(entry.folder.joinpath, _PARTS) if folder.is_dir()]
        if not all([await asyncio.to_thread(self._graphs.knows, part) for part in parts]):
            await self._build(entry)

    async def stage(self, entry: Entry) -> int:
        """Read a model's weights into host memory and keep them; return their bytes."""
        if entry.model_id not in self._staged:
            _, block = await self._read(entry)
            if self._stream:
                try:
                    await self._own_thread.call(self.guarded, entry, _pin, block)
                except asyncio.CancelledError:
                    await self._own_thread.call(_unpin, block)  # it was pinned meanwhile
                    raise
            self._staged[entry.model_id] = block
        return len(self._staged[entry.model_id])

    async def unstage(self, model_id: str) -> None:
        """Give a model's host memory back."""
        block = self._staged.pop(model_id, None)
        if block is not None and self._stream:
            await self._own_thread.call(_unpin, block)
        await self.drop(block)

    async def fetch(self, entry: Entry) -> tuple[Built, Tensor]:
        """Return a model's nets and its weights on the device, ready to be installed."""
        staged = self._staged.get(entry.model_id)
        if staged is not None:
            built = self._shelf[entry.model_id]
            copied = (self.guarded, entry, self._on_device, built, staged)
            return built, await self._whole(built, self._own_thread.call(*copied))
        if self._stream is None:  # the host's memory is the device's
            return await self._read(entry, is_home=True)
        built, block = await self._read(entry)
        block = await self._own_thread.call(self.guarded, entry, self._moved, built, block)
        return built, block

    async def drop(self, block: Tensor | None) -> None:
        """Return a block that nobody uses, and whatever else is free, to the system."""
        if block is not None and not block.is_cuda:
            await self._own_thread.call(give_back, block)
        del block
        await self._own_thread.call(trim, self._device)

    async def close(self) -> None:
        """Drop everything and end the thread."""
        for model_id in list(self._staged):
            await self.unstage(model_id)
        self._shelf.clear()
        if self._graphs:
            self._graphs.close()
        self._own_thread.close()

    async def _read(self, entry: Entry, *, is_home: bool = False) -> tuple[Built, Tensor]:
        """Return a model's nets and its weights, in its block on a CPU or in a new one."""
        known = self._shelf.get(entry.model_id)
        if known and known.weights.is_readable and known.stamp == _stamp(entry):
            try:
                return known, await self._filled(entry, known, known.weights.read, is_home=is_home)
            except ModelLoadError as error:
                logger.info("%s is built anew: %s", entry.model_id, error)
                del self._shelf[entry.model_id]
        built = await self._build(entry)
        block = await self._filled(entry, built, built.weights.take, is_home=is_home)
        self._shelf[entry.model_id] = built
        return built, block

    async def _filled(
        self, entry: Entry, built: Built, fill: Callable[[Tensor], None], *, is_home: bool
    ) -> Tensor:
        def filled() -> Tensor:
            entry.check()
            block = built.weights.home if is_home else blank(built.weights.num_bytes)
            try:
                fill(block)
            except BaseException:
                give_back(block)
                raise
            return block

        filling = self._own_thread.call(self.guarded, entry, filled)
        return await (self._whole(built, filling) if is_home else filling)

    async def _whole(self, built: Built, filling: Coroutine[Any, Any, Tensor]) -> Tensor:
        """Wait for a load into a model's own block, whose pages a cancelled caller gives back."""
        try:
            return await filling
        except asyncio.CancelledError:
            if self._stream is None:
                await self._own_thread.call(give_back, built.weights.home)
            raise

    async def _build(self, entry: Entry) -> Built:
        """Build a model's nets; their tensors are views of mapped files where dtypes agree."""
        stamp = _stamp(entry)
        family = await self._in_device_thread(entry, self._family, entry)
        if self._graphs:
            sources = await self._in_device_thread(entry, _sources, family, entry)
            for part, source in sources.items():
                graph = await self._graphs.graph(entry.model_id, source)
                run = (family.run_in_onnx, part, graph, self._num_threads)
                await self._in_device_thread(entry, *run)
        elif self._is_compiled:
            family.compile()
        return await self._in_device_thread(entry, _built, family, entry, stamp)

    async def _in_device_thread(self, entry: Entry, function: Callable[..., T], *args: Any) -> T:
        return await self._device_thread.call(self.guarded, entry, function, *args)

    def _family(self, entry: Entry) -> families.StableDiffusion:
        entry.check()
        pipeline = families.load(entry, self._dtype, "cpu")
        check_complete(pipeline)
        return families.adapt(pipeline)

    def _on_device(self, built: Built, block: Tensor) -> Tensor:
        if self._stream is None:
            target = built.weights.home
            copy(block, target)
            return target
        target = torch.empty_like(block, device=self._device)
        self._stream.wait_stream(torch.cuda.default_stream(self._device))  # its last use is queued
        with torch.cuda.stream(self._stream):
            copy(block, target)
        self._stream.synchronize()
        return target

    def _moved(self, built: Built, block: Tensor) -> Tensor:
        target = self._on_device(built, block)
        give_back(block)
        return target

    def guarded(self, entry: Entry, action: Callable[..., T], *args: Any) -> T:
        """Act; turn what goes wrong into an error of the tree, and release the memory it held."""
        try:
            return action(*args)
        except EdgeError:
            raise
        except Exception as error:  # noqa: BLE001 - diffusers and transformers raise what they like
            is_full, reason = is_out_of_memory(error), str(error)
        release(self._device)  # outside of the except block: the error holds on to its tensors
        if is_full:
            raise OverloadedError(f"no memory left to load {entry.model_id!r}: {reason}")
        raise ModelLoadError(f"model {entry.model_id!r} cannot be loaded: {reason}")


def _begin() -> None:
    """Keep copies and casts in one thread.

    OpenMP would start more for them, and slow the nets down where those are more than the cores.
    """
    torch.get_num_threads()  # else a thread's first computation takes what another one has set
    torch.set_num_threads(1)


def _stamp(entry: Entry) -> _Stamp:
    """Return what tells whether a model's files are still those that it was built from."""
    files = sorted(entry.folder.rglob("*.safetensors")) if entry.folder else []
    return tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def _built(family: families.StableDiffusion, entry: Entry, stamp: _Stamp) -> Built:
    model = Model(family, _own_sampler(entry.model_id, family.pipeline))
    return Built(model, Weights(family.pipeline, entry.config.variant), stamp)


@torch.inference_mode()
def _sources(family: families.StableDiffusion, entry: Entry) -> dict[str, Source]:
    job = Job.of(
        entry.config, request_id="export", prompt="", num_steps=1, seed=0, guidance_scale=1.0
    )
    return family.sources(job, entry.config.variant)


def _pin(block: Tensor) -> None:
    """Lock a block's pages, so that the GPU copies them by itself; exact to the byte.

    torch's own pinned allocator rounds up to a power of two and keeps what is freed.
    """
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    torch.cuda.check_error(runtime.cudaHostRegister(block.data_ptr(), len(block), 0))


def _unpin(block: Tensor) -> None:
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    torch.cuda.check_error(runtime.cudaHostUnregister(block.data_ptr()))


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
