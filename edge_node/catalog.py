"""The catalog: which models a node knows, where their weights lie, whether these can be read.

Responsible for resolving sources and checking weight files before anything is loaded; pickled
weights and paths outside the roots are refused. Not: loading; no torch here.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_node.config import ModelConfig
from protos.config import packages
from protos.errors import ModelLoadError, UnknownModelError

ZOO = packages() / "edge_node" / "zoo" / "weights"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the catalog."""

    config: ModelConfig
    folder: Path | None
    """None for a hub id."""

    @property
    def model_id(self) -> str:
        """The model's name."""
        return self.config.model_id

    @property
    def location(self) -> str:
        """What ``from_pretrained`` takes."""
        return str(self.folder) if self.folder else self.config.source.removeprefix("hub:")

    def disk_bytes(self) -> int | None:
        """Return the size of the weight files; None for a hub id."""
        if self.folder is None:
            return None
        return sum(file.stat().st_size for file in self.folder.rglob("*.safetensors"))

    def check(self) -> None:
        """Refuse weights that cannot be read, before anything is changed for them.

        Raises:
            ModelLoadError: no folder, no safetensors, only pickles, or a damaged file.
        """
        if self.folder is None:
            return
        if not self.folder.is_dir():
            raise ModelLoadError(f"model {self.model_id!r}: {self.folder} is not a folder")
        files = sorted(self.folder.rglob("*.safetensors"))
        if not files:
            pickles = [f.name for f in self.folder.rglob("*") if f.suffix in _PICKLES]
            found = f"only pickles ({', '.join(sorted(pickles)[:3])})" if pickles else "no weights"
            raise ModelLoadError(
                f"model {self.model_id!r}: {self.folder} holds {found}; safetensors are needed"
            )
        try:
            for file in files:
                header(file)
        except ValueError as error:
            raise ModelLoadError(f"model {self.model_id!r}: {error}") from error


class Catalog:
    """The models that a node knows, by name."""

    def __init__(self, models: Sequence[ModelConfig], roots: Sequence[Path] = ()) -> None:
        self._entries = {m.model_id: Entry(m, resolve(m.source, roots)) for m in models}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, model_id: str) -> Entry:
        """Return an entry.

        Raises:
            UnknownModelError: it names what the catalog holds.
        """
        try:
            return self._entries[model_id]
        except KeyError:
            known = ", ".join(self._entries)
            shown = model_id if len(model_id) <= 80 else f"{model_id[:77]}..."
            raise UnknownModelError(
                f"unknown model {shown!r}; this node's catalog holds: {known}"
            ) from None


def resolve(source: str, roots: Sequence[Path] = ()) -> Path | None:
    """Return the folder that a source names, or None for a hub id.

    Raises:
        ValueError: an unknown scheme, or a path outside the roots.
    """
    scheme, _, name = source.partition(":")
    if scheme == "hub":
        return None
    if scheme == "builtin":
        allowed, folder = [ZOO], (ZOO / name).resolve()
    elif scheme == "folder":
        allowed = [root.resolve() for root in roots]
        inside = [root / name for root in allowed if (root / name).exists()]
        folder = (inside[0] if inside else Path(name)).resolve()
    else:
        raise ValueError(f"source must begin with builtin:, folder: or hub:, got {source!r}")
    if not any(folder.is_relative_to(root) for root in allowed):
        listed = ", ".join(map(str, allowed)) or "none configured"
        raise ValueError(f"source {source!r} lies outside the model roots ({listed})")
    return folder


def weights_digest(folder: Path) -> str:
    """Return the SHA-256 over the safetensors files of a folder: names and bytes, sorted."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(file.relative_to(folder).as_posix().encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def header(file: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return where a safetensors file's data begin, and each tensor's dtype, shape, data_offsets.

    The format: eight bytes with the header's length, little endian, then the header as JSON, then
    the tensors' bytes, from which the offsets count.

    Raises:
        ValueError: no such header, or other bytes after it than it names.
    """
    found = file.stat().st_size
    with file.open("rb") as stream:
        begin = 8 + int.from_bytes(stream.read(8), "little")
        if begin > found:
            raise ValueError(f"{file} is not a safetensors file")
        try:
            entries = json.loads(stream.read(begin - 8))
            entries.pop("__metadata__", None)
            expected = begin + max((e["data_offsets"][1] for e in entries.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} has a broken header") from error
    if found != expected:
        raise ValueError(f"{file} is damaged: {expected} bytes expected, {found} found")
    return begin, entries
