"""Ratios that changes must not lose: against those committed for the same kind of machine.

Responsible for what counts as a loss, and for the committed files. Not: measuring (check.py).
"""

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from profiling.report import page
from protos.config import ConfigError, read_json, write_json
from protos.manifest import Manifest

MOST_LOSS_FRAC = 0.10
"""A larger loss fails."""
Rounds: TypeAlias = Mapping[str, Sequence[float]]
"""A ratio's values, one for each round, by its name."""
Measure: TypeAlias = Callable[[Sequence[str]], Rounds]
"""Returns the rounds of the ratios of these names."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of two things measured side by side."""

    name: str
    meaning: str
    better: Literal["high", "low"]


RATIOS = (
    Ratio("engine_over_pipeline", "images/s with 16 in flight, engine / pipeline", "high"),
    Ratio("step_over_bare_call", "a step of one request, engine / bare denoiser call", "low"),
    Ratio("grpc_over_in_process", "latency with 16 in flight, gRPC / in process", "low"),
    Ratio("load_over_limit", "bytes/s from host to device, load / plain copy", "high"),
)
_NAMES = [ratio.name for ratio in RATIOS]


@dataclass(frozen=True, kw_only=True, slots=True)
class Committed:
    """The ratios of one kind of machine."""

    machine: str
    manifest: Manifest
    rounds: dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A ratio now and as committed, medians."""

    ratio: Ratio
    now: float
    committed: float

    @property
    def loss_frac(self) -> float:
        """How much worse it is, as a share of the committed one; negative where it is better."""
        change = self.now / self.committed - 1
        return -change if self.ratio.better == "high" else change

    @property
    def is_lost(self) -> bool:
        """It is worse by more than is allowed."""
        return self.loss_frac > MOST_LOSS_FRAC


def machine_of(manifest: Manifest) -> str:
    """Return a machine's kind as a file's name: its GPU, or its processor, and its cores."""
    device = manifest.cpu if manifest.device == "cpu" else manifest.device
    words = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return f"{words or 'unknown'}-{manifest.num_cpus}-cores"


def record(measure: Measure, manifest: Manifest, folder: Path) -> Path:
    """Measure this kind of machine's ratios, write them and return the file.

    Raises:
        ConfigError: the tree has uncommitted changes, or there is no checkout: no evidence.
    """
    if manifest.git_is_dirty or manifest.git_sha == "unknown":
        raise ConfigError(
            "--record: the tree has uncommitted changes, or is no git checkout, so nobody could "
            "measure the same again; commit first"
        )
    machine = machine_of(manifest)
    rounds = {name: list(found) for name, found in measure(_NAMES).items()}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{machine}.json"
    write_json(file, Committed(machine=machine, manifest=manifest, rounds=rounds))
    return file


def check(measure: Measure, manifest: Manifest, folder: Path) -> list[Comparison]:
    """Measure all ratios, and once more those that lost, of which the second time counts.

    Raises:
        ConfigError: none are committed for this kind of machine, or not all; nothing is measured.
    """
    committed = _committed(folder, machine_of(manifest))
    rounds = dict(measure(_NAMES))
    if lost := [one.ratio.name for one in _compared(rounds, committed) if one.is_lost]:
        rounds |= measure(lost)
    return _compared(rounds, committed)


def _committed(folder: Path, machine: str) -> Committed:
    file = folder / f"{machine}.json"
    if not file.exists():
        known = ", ".join(sorted(other.stem for other in folder.glob("*.json"))) or "none"
        raise ConfigError(
            f"no ratios are committed for this kind of machine, {machine!r} (there are: {known}); "
            "--record measures and writes them"
        )
    committed = read_json(file, Committed)
    if lacking := [name for name in _NAMES if not committed.rounds.get(name)]:
        raise ConfigError(f"{file} lacks {', '.join(lacking)}; --record writes it anew")
    return committed


def _compared(rounds: Rounds, committed: Committed) -> list[Comparison]:
    medians = [
        (statistics.median(rounds[one.name]), statistics.median(committed.rounds[one.name]))
        for one in RATIOS
    ]
    return [Comparison(one, *found) for one, found in zip(RATIOS, medians, strict=True)]


def table(comparisons: Sequence[Comparison]) -> str:
    """Return the verdicts as a table."""
    rows = [
        [
            f"{one.ratio.name}: {one.ratio.meaning}",
            f"{one.now:.3f}",
            f"{one.committed:.3f}",
            f"{one.loss_frac:+.1%}",
            "LOSS" if one.is_lost else "ok",
        ]
        for one in comparisons
    ]
    return page.table(["ratio", "now", "committed", "loss", "verdict"], rows)
