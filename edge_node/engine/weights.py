"""A model's weights as one block of memory: laid out once, read from its files, copied as a whole.

Nets are built once. From then on their parameters and buffers point into a block or at nothing, so
loading and evicting neither constructs nor copies a net: whoever installs a block only moves
pointers. The layout keeps each tensor's strides and starts it at a multiple of ``ALIGNMENT_BYTES``.
"""

import ctypes
import functools
import logging
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_node.engine.onnx_runtime.nets import OnnxNet
from edge_node.engine.weight_files import Stored, read, stored

logger = logging.getLogger(__name__)

ALIGNMENT_BYTES = 64
"""A cache line; kernels with vector loads need 16."""
CHUNK_BYTES = 64 * 2**20
"""Copied at a time: a step's own small copies wait for one chunk at most (1.3 ms at 50 GB/s)."""
_MOST_KEPT_FRAC = 0.01
"""Share of a model's bytes that may be kept in memory because no file holds them as they are."""


def blank(num_bytes: int) -> Tensor:
    """Return a block in host memory; it goes back to the system with its last view.

    Raises:
        MemoryError: there is no room.
    """
    try:
        memory = mmap.mmap(-1, max(1, num_bytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"{num_bytes} bytes: {error.strerror}") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)  # fewer page faults while it fills
    return torch.frombuffer(memory, dtype=torch.uint8)


def give_back(block: Tensor) -> None:
    """Return a host block's pages to the system now; nobody may read it after that.

    Python holds its lock while it unmaps what is dropped: 0.3 s for gigabytes of small pages.
    """
    if hasattr(mmap, "MADV_DONTNEED"):
        begin, length = ctypes.c_void_p(block.data_ptr()), ctypes.c_size_t(len(block))
        ctypes.CDLL(None).madvise(begin, length, mmap.MADV_DONTNEED)


def copy(source: Tensor, target: Tensor) -> None:
    """Copy a block in chunks; on a GPU the caller waits for its stream."""
    for begin in range(0, len(source), CHUNK_BYTES):
        chunk = slice(begin, begin + CHUNK_BYTES)
        target[chunk].copy_(source[chunk], non_blocking=True)


@dataclass(frozen=True, slots=True)
class _Span:
    """The bytes of one tensor in a block, and the parameters or buffers that it is."""

    names: tuple[str, ...]
    """Under which the nets know it, "unet.conv_in.weight"; several where it is tied."""
    tensors: tuple[Tensor, ...]
    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]
    begin: int
    """Byte in the block."""


class Weights:
    """The tensors of a pipeline's nets, and where they are stored.

    weights = Weights(pipeline)
    block = blank(weights.num_bytes)
    weights.take(block)       # from the nets as they were built, which are empty after it
    weights.install(block)    # the nets compute with it
    weights.install(None)     # the nets hold nothing
    weights.read(block)       # from the files
    """

    def __init__(self, pipeline: Any, variant: str = "") -> None:
        parts = _parts(pipeline)
        self._folders = {name: _folder(part, variant) for name, part in parts.items()}
        self._spans, self.num_bytes = _laid_out(parts)
        """Size of the block: every distinct tensor once, and what alignment adds."""
        self._kept: dict[_Span, Tensor] = {}
        self.is_readable = False
        """``read`` gives the very bytes that the nets were built with; known after ``take``."""

    @functools.cached_property
    def home(self) -> Tensor:
        """The nets' own block in host memory: always at the same address.

        Raises:
            MemoryError: there is no room.
        """
        return blank(self.num_bytes)

    @property
    def files(self) -> list[Path]:
        """What ``read`` reads."""
        return sorted({one.file for one in self._stored().values()})

    def take(self, block: Tensor) -> None:
        """Move the tensors that the nets were built with into a block, and compare the files."""
        files = self._stored()
        for span, view in self._views(block):
            value = span.tensors[0].detach()
            view.copy_(value)
            if not _holds(files, span, value):
                self._kept[span] = value.clone()
        kept_bytes = sum(value.nbytes for value in self._kept.values())
        self.is_readable = kept_bytes <= _MOST_KEPT_FRAC * self.num_bytes
        if not self.is_readable:
            self._kept.clear()
            logger.info("%d bytes are stored otherwise than the nets hold them", kept_bytes)
        self.install(None)

    def read(self, block: Tensor) -> None:
        """Fill a block from the files.

        Raises:
            ValueError: the files hold other tensors than those that the nets were built with.
            OSError: they cannot be read.
        """
        files = self._stored()
        wanted = []
        for span, view in self._views(block):
            if span in self._kept:
                view.copy_(self._kept[span])
            else:
                wanted.append((_found(files, span), view))
        read(wanted)

    def install(self, block: Tensor | None) -> None:
        """Let the nets compute with a block, or hold nothing."""
        nothing = torch.empty(0)
        views = self._views(block) if block is not None else ((p, nothing) for p in self._spans)
        for span, view in views:
            for tensor in span.tensors:
                tensor.data = view

    def _views(self, block: Tensor) -> Iterator[tuple[_Span, Tensor]]:
        typed = {dtype: block.view(dtype) for dtype in {span.dtype for span in self._spans}}
        for span in self._spans:
            begin = span.begin // span.dtype.itemsize
            yield span, typed[span.dtype].as_strided(span.shape, span.stride, begin)

    def _stored(self) -> dict[str, Stored]:
        return {
            f"{part}.{name}": one
            for part, (folder, variant) in self._folders.items()
            for name, one in stored(folder, variant).items()
        }


def _parts(pipeline: Any) -> dict[str, Any]:
    components = pipeline.components.items()
    return {name: part for name, part in components if isinstance(part, torch.nn.Module)}


def check_complete(pipeline: Any) -> None:
    """Refuse nets with parameters that no file held; transformers marks those that one did.

    diffusers raises by itself; transformers only warns, and draws the missing ones at random.

    Raises:
        ValueError: it names the first one.
    """
    for part, net in _parts(pipeline).items():
        if not hasattr(net, "base_model_prefix"):
            continue
        missing = [n for n, p in net.named_parameters() if not hasattr(p, "_is_hf_initialized")]
        if missing:
            raise ValueError(f"its files lack {part}.{missing[0]} ({len(missing)} in all)")


def _folder(net: Any, variant: str) -> tuple[Path, str]:
    """Return where a net was read from, also for a hub id, and the variant of its files there."""
    if isinstance(net, OnnxNet):
        return net.graph.folder, ""
    config = net.config
    found = config["_name_or_path"] if isinstance(config, dict) else config._name_or_path
    return Path(found), variant


def _laid_out(parts: Mapping[str, torch.nn.Module]) -> tuple[list[_Span], int]:
    """Return the spans of all distinct tensors, in the nets' own order, and the block's bytes."""
    owners: dict[tuple[Any, ...], list[tuple[str, Tensor]]] = {}
    for name, tensor in _named_tensors(parts):
        key = (tensor.data_ptr(), tensor.shape, tensor.dtype) if tensor.numel() else (id(tensor),)
        owners.setdefault(key, []).append((name, tensor))
    spans, begin = [], 0
    for group in owners.values():
        tensor = group[0][1]
        spans.append(
            _Span(
                names=tuple(name for name, _ in group),
                tensors=tuple({id(owner): owner for _, owner in group}.values()),
                dtype=tensor.dtype,
                shape=tensor.shape,
                stride=tensor.stride(),
                begin=begin,
            )
        )
        begin += -(-tensor.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return spans, begin


def _named_tensors(parts: Mapping[str, torch.nn.Module]) -> Iterator[tuple[str, Tensor]]:
    for part, net in parts.items():
        for named in (net.named_parameters, net.named_buffers):
            yield from ((f"{part}.{name}", t) for name, t in named(remove_duplicate=False))


def _holds(files: Mapping[str, Stored], span: _Span, value: Tensor) -> bool:
    """Return whether the files hold a tensor's very values."""
    try:
        found = _found(files, span)
    except ValueError:
        return False
    other = torch.empty_like(value)
    read([(found, other)])
    return torch.equal(other, value)


def _found(files: Mapping[str, Stored], span: _Span) -> Stored:
    """Return where a tensor is stored, also where its names there have one more part in front.

    Raises:
        ValueError: nowhere, or in another shape.
    """
    for name in span.names:
        part, _, rest = name.partition(".")
        for known in (name, f"{part}.text_model.{rest}"):
            if known in files:
                if files[known].shape != tuple(span.shape):
                    shapes = f"{tuple(span.shape)} expected, {files[known].shape} found"
                    raise ValueError(f"{files[known].file.name}: {known}: {shapes}")
                return files[known]
    raise ValueError(f"its files lack {span.names[0]}")
