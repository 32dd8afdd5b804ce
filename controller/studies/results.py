"""What is recorded of a study, and its results by scenario and by policy.

    results/studies/STUDY.jsonl.gz        one line for each training run
    results/studies/baselines.jsonl.gz    one line for each set of test episodes, of all studies

A line holds the whole configuration, the manifest and the numbers of each episode: it is evidence
by itself. Responsible for these files and for grouping. Not: Markdown (table.py), pictures.
"""

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from controller.policies.evaluation import Rating
from controller.policies.scores import estimate
from controller.studies.study import Cell, SuiteConfig, labelled
from protos import config as configs
from protos.config import ConfigError
from protos.manifest import Manifest

BASELINES = "baselines.jsonl.gz"
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """An evaluation during a training run, on the episode kept for this."""

    episode: int
    cpu_s: float
    """CPU time so far, evaluations included."""
    score: float
    allocation_score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CellRecord:
    """What a finished training run leaves."""

    cell: Cell
    manifest: Manifest
    curve: tuple[CurvePoint, ...]
    whole: Rating
    """The trained policy on the test episodes."""
    allocation: Rating
    """The same with the optimal caches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineRecord:
    """What the baselines score on a scenario's test episodes."""

    suite: SuiteConfig
    manifest: Manifest
    whole: tuple[Rating, ...]
    allocation: tuple[Rating, ...]


class StudyRecords:
    """What is recorded of one study so far."""

    def __init__(self, folder: Path, study: str) -> None:
        """Read the records; raises ConfigError as ``read`` does."""
        self.folder, self.study = folder, study
        self._runs, self._baselines = folder / f"{study}.jsonl.gz", folder / BASELINES
        self.runs = {record.cell.key: record for record in read(self._runs, CellRecord)}
        self.baselines = {one.suite: one for one in read(self._baselines, BaselineRecord)}

    def add(self, record: CellRecord | BaselineRecord) -> None:
        """Keep one more record, in its file too: whole or not at all."""
        if isinstance(record, CellRecord):
            self.runs[record.cell.key], file = record, self._runs
        else:
            self.baselines[record.suite], file = record, self._baselines
        before = gzip.decompress(file.read_bytes()) if file.is_file() else b""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_bytes(gzip.compress(before + msgspec.json.encode(record) + b"\n", mtime=0))
        part.rename(file)

    def of(self, cells: Iterable[Cell]) -> tuple[CellRecord, ...]:
        """Return the records that there are of some cells, each once."""
        keys = dict.fromkeys(cell.key for cell in cells)
        return tuple(self.runs[key] for key in keys if key in self.runs)


def read(file: Path, kind: type[_T]) -> Iterator[_T]:
    """Yield a file's records; none where there is no file.

    Raises:
        ConfigError: a file that cannot be read, or one of another kind; line and reason are named.
    """
    if not file.is_file():
        return
    try:
        raw = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    except (OSError, EOFError, ValueError) as error:
        raise ConfigError(f"cannot read the records {file}: {error}") from error
    for number, one in enumerate(raw, 1):
        yield configs.parse(one, kind, f"{file}:{number}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyResults:
    """What is recorded of a baseline, or of training runs that differ in their seeds alone."""

    name: str
    ratings: tuple[Rating, ...]
    """Of each training run, or the baseline's one."""
    records: tuple[CellRecord, ...] = ()

    def value(self, quantity: str) -> tuple[float, ...]:
        """Return "score" or "allocation_score" with its interval, or the mean of anything else.

        That is "cpu_s" of a training run, or one of Measured's numbers. A score's interval is over
        training runs, and over test episodes of a baseline.
        """
        if quantity == "score":
            scores = [rating.score for rating in self.ratings]
            return estimate(scores if self.records else self.ratings[0].scores)
        if quantity == "allocation_score":
            return estimate([record.allocation.score for record in self.records])
        if quantity == "cpu_s":
            return (float(np.mean([record.curve[-1].cpu_s for record in self.records])),)
        return (float(np.mean([rating.mean(quantity) for rating in self.ratings])),)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenarioResults:
    """A scenario that anything is recorded of: training runs first, then baselines."""

    name: str
    policies: tuple[PolicyResults, ...]


def scenario_results(cells: Sequence[Cell], records: StudyRecords) -> Iterator[ScenarioResults]:
    """Yield the scenarios that anything is recorded of, in the study's order."""
    for here in grouped(cells, lambda cell: cell.suite):
        policies = []
        for alike in grouped(here, lambda cell: cell.group):
            if found := records.of(alike):
                variant = _common(alike, lambda cell: cell.variant) or labelled(alike[0].labels)
                ratings = tuple(record.whole for record in found)
                policies.append(
                    PolicyResults(name=variant or "unchanged", ratings=ratings, records=found)
                )
        if known := records.baselines.get(here[0].suite):
            policies += [PolicyResults(name=one.policy, ratings=(one,)) for one in known.whole]
        if policies:
            name = _common(here, lambda cell: cell.scenario_name)
            name = name or Path(here[0].config.scenario).stem
            yield ScenarioResults(name=name, policies=tuple(policies))


def grouped(cells: Sequence[Cell], key: Callable[[Cell], Any]) -> list[list[Cell]]:
    """Return the cells that share a key together, in order."""
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.values())


def _common(cells: Sequence[Cell], name: Callable[[Cell], str]) -> str:
    """Return the name of all of them; "" where they have several, and so nothing differs."""
    names = {name(cell) for cell in cells}
    return names.pop() if len(names) == 1 else ""
