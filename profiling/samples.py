"""The raw samples: one JSON line for each measurement, the ground that every number stands on.

Responsible for the line formats and the file: appended to and synced batch by batch, read back
whole, refused if it belongs to another configuration or other weights. Not: summaries.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from protos.config import ConfigError

FORMAT = "edge-samples/1"

_line = {"frozen": True, "kw_only": True, "tag_field": "kind"}


class Header(msgspec.Struct, **_line, tag="header"):
    """The first line: what the samples belong to."""

    format: str
    config: dict[str, Any]
    """The resolved configuration as plain values, the budget left out."""
    weights_sha256: dict[str, str]
    """For each model and scorer."""
    machine: str
    """Processor and device that the times were measured on."""


class LoadSample(msgspec.Struct, **_line, tag="load"):
    """One load and eviction."""

    identity: ClassVar = ("model", "repeat")
    model: str
    repeat: int
    is_cold: bool
    """The process's first load, the import of the model's classes included; the operating system's
    file cache is not dropped."""
    load_s: float
    """Without the seconds of an export for ONNX Runtime, which a machine makes once."""
    evict_s: float
    resident_bytes: int
    freed_bytes: int
    """Measured of the process or device after the eviction."""
    runtime: str = "torch"
    """What the denoiser ran in: "torch" or "onnxruntime"."""


class LatencySample(msgspec.Struct, **_line, tag="latency"):
    """One timed generation of a batch."""

    identity: ClassVar = ("model", "num_steps", "batch", "repeat")
    model: str
    num_steps: int
    batch: int
    guidance: float
    repeat: int
    generate_s: float
    """From the prompts to the images; at batch 1 through the engine that nodes serve with."""
    energy_j: float | None = None
    """Of the device over that time; None where it does not tell."""


class RateSample(msgspec.Struct, **_line, tag="rate"):
    """What a batch of quality images costs: plans how many are affordable."""

    identity: ClassVar = ("model",)
    model: str
    seconds_per_step: float
    """For one image of a full batch."""
    seconds_per_image: float
    """The rest: text, decoding, scoring."""


class QualitySample(msgspec.Struct, **_line, tag="quality"):
    """One generated and scored image."""

    identity: ClassVar = ("model", "num_steps", "index")
    model: str
    num_steps: int
    guidance: float
    index: int
    """Of the prompt; the image is images/<model>/<num_steps>/<index>.png."""
    prompt: str
    seed: int
    generate_s: float
    """Its share of the batch that it was generated in; not a latency."""
    batch: int
    total_variation: float
    clip_score: float
    atoms_frac: float | None
    """Share of the prompt's atoms that the image shows; None where they are not known."""
    image_bytes: int
    image_sha256: str
    """Over the pixels."""


class FidSample(msgspec.Struct, **_line, tag="fid"):
    """The distance of one model's images at one step count, and its bootstrap."""

    identity: ClassVar = ("model", "num_steps")
    model: str
    num_steps: int
    num_samples: int
    num_reference: int
    value: float
    replicates: list[float]
    """Resamples of the prompts; the same prompts at every step count."""


class RealSample(msgspec.Struct, **_line, tag="real"):
    """Who judged, and what they give to real images of the same prompts: how good one can be."""

    identity: ClassVar = ()
    clip_scorer: str
    fid_scorer: str
    """Empty where FID is left out."""
    num_samples: int
    """Real images scored; 0 where the prompts cannot be rendered."""
    clip_score: float | None = None
    total_variation: float | None = None
    fid: float | None = None


Sample = LoadSample | LatencySample | RateSample | QualitySample | FidSample | RealSample
Line = Header | Sample
_Kind = TypeVar("_Kind", bound=Sample)

_decoder = msgspec.json.Decoder(Line)


def append(path: Path, samples: Sequence[Line]) -> None:
    """Append the lines; when this returns they are on the disk."""
    lines = b"".join(msgspec.json.encode(sample) + b"\n" for sample in samples)
    with path.open("ab") as file:
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def start(path: Path, header: Header) -> None:
    """Begin the file, or make sure that the one there may be continued.

    A last line that was cut off by a kill is dropped.

    Raises:
        ConfigError: the file belongs to another configuration or other weights; both are named.
    """
    if path.exists():
        whole = path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if len(kept) < len(whole):
            os.truncate(path, len(kept))
        if kept:
            _refuse_others(path, header)
            return
    append(path, [header])


def read(path: Path) -> list[Sample]:
    """Return every sample after the header; of those with one identity, the last.

    Raises:
        ConfigError: no such file, or a damaged line, by its number.
    """
    found: dict[tuple[object, ...], Sample] = {}
    for line in _lines(path):
        if not isinstance(line, Header):
            found[type(line), *(getattr(line, name) for name in line.identity)] = line
    return list(found.values())


def select(samples: Iterable[Sample], kind: type[_Kind], **fields: object) -> list[_Kind]:
    """Return the samples of one kind whose fields have these values."""
    return [
        sample
        for sample in samples
        if isinstance(sample, kind)
        and all(getattr(sample, name) == value for name, value in fields.items())
    ]


def image_path(folder: Path, model_id: str, num_steps: int, index: int) -> Path:
    """Return where the image of a quality sample lies."""
    return folder / "images" / model_id / f"{num_steps:02d}" / f"{index:04d}.png"


def _lines(path: Path) -> Iterator[Line]:
    try:
        whole = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the samples {path}: {error.strerror}") from error
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            yield _decoder.decode(line)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path}, line {number}, is not a sample: {error}") from error


def _refuse_others(path: Path, header: Header) -> None:
    found = next(_lines(path), None)
    if not isinstance(found, Header) or found.format != header.format:
        raise ConfigError(f"{path} does not begin with a header of format {header.format!r}")
    advice = "; use --fresh to begin anew, or another --out"
    if found.machine != header.machine:
        raise ConfigError(
            f"{path} was measured on {found.machine!r}, this is {header.machine!r}{advice}"
        )
    theirs, ours = dict(_leaves(found.config)), dict(_leaves(header.config))
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            raise ConfigError(
                f"{path} was measured with another configuration: {key} was"
                f" {theirs.get(key, 'absent')!r}, now it is {ours.get(key, 'absent')!r}{advice}"
            )
    for name in sorted(found.weights_sha256.keys() | header.weights_sha256.keys()):
        before, now = found.weights_sha256.get(name, ""), header.weights_sha256.get(name, "")
        if before != now:
            raise ConfigError(
                f"{path} was measured with the weights {before[:12] or 'none'} of {name},"
                f" these are {now[:12] or 'none'}{advice}"
            )


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, object]]:
    """Yield every scalar of nested plain values with its dotted key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{key}[{index}]")
    else:
        yield key, value
