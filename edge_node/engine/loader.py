"""Brings weights from disk to host memory and on to the device, beside what runs there.

A model's nets are built once, in the device thread between turns: diffusers and transformers patch
torch process-wide while they build (register_parameter, init functions, the default dtype). From
then on its files are read, and blocks copied, in a thread of the loader's own, which spends its
time in system calls and copies that need no Python lock; the device thread only installs a block.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from edge_node.catalog import Entry
from edge_node.engine import families, samplers
from edge_node.engine.denoising import Model
from edge_node.engine.device_thread import DeviceThread
from edge_node.engine.memory import is_out_of_memory, release, trim
from edge_node.engine.weights import Weights, blank, copy, give_back
from protos.errors import EdgeError, ModelLoadError, OverloadedError

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Built:
    """A model's nets, without their weights."""

    model: Model
    weights: Weights


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
        self, device: torch.device, dtype: torch.dtype, thread: DeviceThread, *, is_compiled: bool
    ) -> None:
        self._device = device
        self._dtype = dtype
        self._is_compiled = is_compiled
        self._device_thread = thread
        self._own_thread = DeviceThread(bool, _begin)
        self._own_thread.submit(bool).result()  # begun before the nets' threads: see _begin
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._shelf: dict[str, Built] = {}
        self._staged: dict[str, Tensor] = {}

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
        if entry.model_id in self._staged:
            built, block = self._shelf[entry.model_id], self._staged[entry.model_id]
            return built, await self._own_thread.call(self.guarded, entry, self._on_device, block)
        built, block = await self._read(entry)
        if self._stream:  # elsewhere the host's memory is the device's
            block = await self._own_thread.call(self.guarded, entry, self._moved, block)
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
        self._own_thread.close()

    async def _read(self, entry: Entry) -> tuple[Built, Tensor]:
        known = self._shelf.get(entry.model_id)
        if known and known.weights.is_readable:
            try:
                block = await self._own_thread.call(self.guarded, entry, _read, entry, known)
            except ModelLoadError as error:
                logger.info("%s is built anew: %s", entry.model_id, error)
                del self._shelf[entry.model_id]
            else:
                return known, block
        built = await self._device_thread.call(self.guarded, entry, self._build, entry)
        block = await self._own_thread.call(self.guarded, entry, built.weights.take)
        self._shelf[entry.model_id] = built
        return built, block

    def _build(self, entry: Entry) -> Built:
        """Build a model's nets; their tensors are views of mapped files where dtypes agree."""
        entry.check()
        pipeline = families.load(entry, self._dtype, "cpu")
        family = families.adapt(pipeline)
        if self._is_compiled:
            family.compile()
        model = Model(family, _own_sampler(entry.model_id, pipeline))
        return Built(model, Weights(pipeline, entry.config.variant))

    def _on_device(self, block: Tensor) -> Tensor:
        if self._stream is None:
            target = blank(len(block))
            copy(block, target)
            return target
        target = torch.empty_like(block, device=self._device)
        self._stream.wait_stream(torch.cuda.default_stream(self._device))  # its last use is queued
        with torch.cuda.stream(self._stream):
            copy(block, target)
        self._stream.synchronize()
        return target

    def _moved(self, block: Tensor) -> Tensor:
        target = self._on_device(block)
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


def _read(entry: Entry, built: Built) -> Tensor:
    entry.check()
    return built.weights.read()


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
