"""A study: one training's configuration, a grid of changes to it, and seeds.

Owns the study's file, its cells (one training each) and what a finished cell leaves: one small JSON
file, committed, that figures are made from. Refuses to train (sweep.py) and to draw
(study_report.py).

    title = "..."
    seeds = [0, 1, 2, 3, 4]
    [grid]                                        # every combination, the first key slowest
    scenario = ["default", "tight-memory"]
    "learning.allocation.nets.actor" = ["diffusion", "mlp"]
    [train]                                       # a training's whole configuration

A cell is known by a hash of its resolved configuration, scenario included: its record is used as
long as nothing of these has changed.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from controller import scenario as scenarios
from controller.course import Rating
from controller.scenario import ScenarioConfig
from controller.train_records import TrainConfig
from protos import config as configs
from protos.config import ConfigError, to_json
from protos.manifest import Manifest

Value = bool | int | float | str
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """Everything that a study is told."""

    title: str
    """What varies, for the heading of its figures."""
    seeds: tuple[int, ...]
    """Of the trainings."""
    grid: dict[str, tuple[Value, ...]]
    """Dotted key of the training's configuration -> its values."""
    test_episodes: int = 5
    """Episodes that trained policies and baselines are rated on; no training sees them."""
    test_envs: int = 8
    """Environments side by side of such an episode."""
    results: str = "controller/results"
    """Folder that the study's folder of records is in."""
    train: TrainConfig
    """What all trainings share."""

    def __post_init__(self) -> None:
        for name in ("seeds", "grid"):
            if not getattr(self, name):
                raise ValueError(f"{name} must not be empty")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must differ, got {list(self.seeds)}")
        for name in ("test_episodes", "test_envs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not self.train.evaluate_every:
            raise ValueError("train.evaluate_every must be >= 1: figures need evaluations, got 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One training of a study."""

    labels: dict[str, Value]
    """Its point of the grid: the last part of each key -> the value."""
    config: TrainConfig
    scenario: ScenarioConfig
    test_episodes: int
    test_envs: int

    @property
    def name(self) -> str:
        """What it is, readable and as a hash; a file's name."""
        values = "-".join(Path(str(value)).stem for value in self.labels.values())
        told = asdict(self)
        del told["labels"], told["config"]["output"], told["config"]["checkpoint_every"]
        return f"{values}-s{self.config.seed}-{hashlib.sha256(to_json(told)).hexdigest()[:8]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """An evaluation during a training, on the episode kept for this."""

    episode: int
    cpu_s: float
    """Seconds of one core so far, evaluations included."""
    score: float
    allocation_score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CellRecord:
    """What a finished training leaves."""

    labels: dict[str, Value]
    config: TrainConfig
    manifest: Manifest
    points: tuple[Point, ...]
    whole: Rating
    """The trained policy on the test episodes."""
    allocation: Rating
    """The same with the oracle's caches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineRecord:
    """What the baselines score on a scenario's test episodes."""

    scenario: str
    manifest: Manifest
    whole: tuple[Rating, ...]
    allocation: tuple[Rating, ...]


def cells(study: StudyConfig) -> tuple[Cell, ...]:
    """Return the trainings: the grid's points in order, and at each point all seeds.

    Raises:
        ConfigError: a key that a training has not, a refused value, a scenario that is not there.
    """
    found = []
    for values in itertools.product(*study.grid.values()):
        point = dict(zip(study.grid, values, strict=True))
        config = _changed(study.train, point)
        scenario = scenarios.load(config.scenario)
        found += [
            Cell(
                labels={key.rpartition(".")[2]: value for key, value in point.items()},
                config=replace(config, seed=seed),
                scenario=scenario,
                test_episodes=study.test_episodes,
                test_envs=study.test_envs,
            )
            for seed in study.seeds
        ]
    return tuple(found)


def _changed(config: TrainConfig, changes: Mapping[str, Value]) -> TrainConfig:
    raw: dict[str, Any] = json.loads(to_json(config))
    for key, value in changes.items():
        *path, last = key.split(".")
        inner = raw
        for part in path:
            inner = inner.get(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"grid: {key!r} names nothing of a training")
        inner[last] = value
    return configs.parse(raw, TrainConfig, "grid")


def baseline_name(cell: Cell) -> str:
    """Return the file's name of the baselines on a cell's test episodes."""
    told = (asdict(cell.scenario), cell.test_episodes, cell.test_envs)
    name = Path(cell.config.scenario).stem
    return f"baselines-{name}-{hashlib.sha256(to_json(told)).hexdigest()[:8]}"


def write(record: CellRecord | BaselineRecord, file: Path) -> None:
    """Write a record, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_bytes(to_json(record) + b"\n")
    part.rename(file)


def read(file: Path, cls: type[_T]) -> _T:
    """Return a record.

    Raises:
        ConfigError: an unreadable file, or one of another kind.
    """
    try:
        raw = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the record {file}: {error}") from error
    return configs.parse(raw, cls, str(file))
