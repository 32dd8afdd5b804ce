"""An exported net as files, and what it was exported from.

A graph's folder holds ``graph.onnx``, optimised for this machine's CPU and without weights,
``weights.safetensors``, the weights as that graph wants them, and ``graph.json``, written last,
with the hashes of both.
"""

import hashlib
import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from edge_node.catalog import weights_digest
from protos.config import ConfigError, read_json, write_json

_FORMAT = 1
"""Of graph folders; another number is another key."""
_PACKAGES = ("torch", "diffusers", "onnx", "onnxruntime")
DIGEST_CHARS = 16
"""Of a SHA-256, in the names of folders."""
DOUBLINGS = 8
"""A UNet doubles sizes on its way up where the latent's divide by this; else it is told them."""


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a denoiser beside latent and timestep."""

    name: str
    shape: tuple[int, ...]
    """Of one sample, without the batch."""
    dtype: str
    """As torch names it, "float32"."""
    is_added: bool
    """It goes into ``added_cond_kwargs``."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A denoiser or an autoencoder as a diffusers net, and the shapes that it is exported with."""

    folder: str
    """Where ``from_pretrained`` finds it."""
    net: str
    """Its class in diffusers."""
    variant: str
    """As in "model.fp16.safetensors"; empty: none."""
    latent: tuple[int, int, int]
    """[channels, height, width]; the graph takes any height and width."""
    inputs: tuple[Input, ...] = ()
    is_decoder: bool = False
    """Of an autoencoder: its ``decode`` is exported."""

    def keys(self) -> tuple[str, str]:
        """Return what the graph depends on, hashed: the weights, and "<net>-<machine>".

        The net: its class, configuration and inputs. The machine: the versions of the packages that
        export and run it, and the CPU, whose vector width an optimised graph fits.
        """
        _, height, width = self.latent
        net = (
            [self.net, self.variant, self.inputs, self.is_decoder],
            [height % DOUBLINGS, width % DOUBLINGS],
            Path(self.folder, "config.json").read_text(),
        )
        machine = (
            _FORMAT,
            [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES],
            [platform.machine(), _cpu_flags()],
        )
        weights = weights_digest(Path(self.folder))[:DIGEST_CHARS]
        return weights, f"{_hash(net)}-{_hash(machine)}"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Asks a process for an export."""

    source: Source
    folder: str
    """Where the graph is to appear."""
    scratch: str
    """An empty folder of the same file system."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Tells how an export ended."""

    error: str = ""


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """``graph.json``."""

    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    sha256: dict[str, str]


@dataclass(frozen=True, slots=True)
class Graph:
    """An exported net."""

    folder: Path
    inputs: tuple[str, ...]
    """The graph's inputs, in order."""
    weights: tuple[str, ...]
    """What the graph calls the tensors "w0", "w1", ... of the weights' file."""

    @property
    def graph_file(self) -> Path:
        """The graph, in ONNX."""
        return self.folder / "graph.onnx"

    @property
    def weights_file(self) -> Path:
        """The weights."""
        return self.folder / "weights.safetensors"

    @classmethod
    def opened(cls, folder: Path) -> Self:
        """Return the graph of a folder, its files checked against their hashes.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged.
        """
        if not folder.exists():
            raise FileNotFoundError(folder)
        try:
            record = read_json(folder / "graph.json", _Record)
            graph = cls(folder, record.inputs, record.weights)
            if graph._hashes() != record.sha256:
                raise ValueError(f"{folder} is damaged: its files are not what graph.json says")
        except (ConfigError, OSError) as error:
            raise ValueError(f"{folder} is damaged: {error}") from error
        return graph

    def complete(self) -> None:
        """Write ``graph.json`` beside the other files: from now on the folder can be opened."""
        record = _Record(inputs=self.inputs, weights=self.weights, sha256=self._hashes())
        write_json(self.folder / "graph.json", record)

    def _hashes(self) -> dict[str, str]:
        return {file.name: _sha256(file) for file in (self.graph_file, self.weights_file)}


def _hash(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:DIGEST_CHARS]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _cpu_flags() -> str:
    """Return the CPU's features, as Linux tells them; elsewhere its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
