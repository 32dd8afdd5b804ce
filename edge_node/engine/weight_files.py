"""Reading safetensors files straight into tensors: one read for each tensor, nothing between.

A read releases Python's lock, so another thread computes meanwhile; a mapped file's page faults
within a copy would not be as fast.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edge_node.catalog import header

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor in a file."""

    file: Path
    begin: int
    """Byte in the file."""
    dtype: torch.dtype
    shape: tuple[int, ...]


def stored(folder: Path, variant: str = "") -> dict[str, Stored]:
    """Return the tensors that the safetensors files of a folder hold, by name.

    Args:
        folder: of one net.
        variant: as in "model.fp16.safetensors"; empty: the files without one, or of several.
    """
    files = sorted(folder.glob(f"*.{variant}*.safetensors" if variant else "*.safetensors"))
    found = {}
    for file in files:
        data_begin, entries = header(file)
        for name, entry in entries.items():
            if dtype := _DTYPES.get(entry["dtype"]):
                begin = data_begin + entry["data_offsets"][0]
                found[name] = Stored(file, begin, dtype, tuple(entry["shape"]))
    return found


def read(wanted: Iterable[tuple[Stored, Tensor]]) -> None:
    """Read tensors into others of the same shape, in the files' order; cast where dtypes differ.

    Raises:
        OSError: a file cannot be read, or ends too early.
    """
    by_file: dict[Path, list[tuple[Stored, Tensor]]] = {}
    for one, target in wanted:
        by_file.setdefault(one.file, []).append((one, target))
    for file, items in by_file.items():
        with file.open("rb", buffering=0) as stream:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            for one, target in sorted(items, key=lambda item: item[0].begin):
                _read(stream.fileno(), one, target)


def _read(descriptor: int, one: Stored, target: Tensor) -> None:
    is_direct = target.dtype == one.dtype and target.is_contiguous()
    raw = target.detach() if is_direct else torch.empty(one.shape, dtype=one.dtype)
    left, begin = raw.reshape(-1).view(torch.uint8).numpy().data, one.begin
    while left:
        num_bytes = os.preadv(descriptor, [left], begin)
        if num_bytes == 0:
            raise OSError(f"{one.file.name} ends {len(left)} bytes too early")
        left, begin = left[num_bytes:], begin + num_bytes
    if not is_direct:
        target.copy_(raw)
