"""A study: one training's configuration, changes to it, and seeds.

Owns the study's file, its cells (one training each) and what a finished cell leaves: one small JSON
file, committed, that figures are made from. Refuses to train (sweep.py) and to draw
(study_report.py).

    title = "..."
    seeds = [0, 1, 2, 3, 4]
    [grid]                                        # every combination, the first key slowest
    scenario = ["default", "tight-memory"]
    "learning.allocation.nets.actor" = ["diffusion", "mlp"]
    [[points]]                                    # at each point of the grid: these, one by one
    "learning.allocation.nets.actor" = "mlp"
    "learning.allocation.nets.hidden" = 128
    [alone]                                       # at each of these points, one after the other
    "scenario.num_users" = [6, 10, 14]            # a number of the scenario itself
    "learning.allocation.nets.chain_len" = [1, 5]
    [train]                                       # a training's whole configuration

A cell is known by a hash of its resolved configuration, scenario included: its record is used as
long as nothing of these has changed, and cells that come to the same are one training. Of the
training's configuration only what is not at its default counts, so that an option that is added
later renames no record; a record that a changed default has left behind is refused when it is read.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from controller.cell import scenario as scenarios
from controller.cell.scenario import ScenarioConfig
from controller.policies.evaluation import Rating
from controller.training.run_folder import TrainConfig
from protos import config as configs
from protos.config import ConfigError, to_json
from protos.manifest import Manifest

Value = bool | int | float | str | tuple[float, ...]
SCENARIO = "scenario."
"""Before the keys of a scenario."""
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """Everything that a study is told."""

    title: str
    """What varies, for the heading of its figures."""
    seeds: tuple[int, ...]
    """Of the trainings."""
    grid: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    """Dotted key of the training's configuration -> its values, in every combination."""
    variants: tuple[dict[str, Value], ...] = ()
    """Dotted keys -> values, one set after the other at each point of the grid."""
    one_at_a_time: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    """As the grid, or after "scenario." a key of the scenario's; but one value at a time, all else
    as in the group. The figure has a column for each key, its values on the x axis."""
    test_episodes: int = 5
    """Episodes that trained policies and baselines are rated on; no training sees them."""
    test_envs: int = 8
    """Environments side by side of such an episode."""
    results: str = "results/studies"
    """Folder that the study's folder of records is in."""
    train: TrainConfig
    """What all trainings share."""

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("seeds must not be empty")
        if not (self.grid or self.variants or self.one_at_a_time):
            raise ValueError("grid, variants and one_at_a_time must not all be empty")
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
    one_at_a_time: tuple[str, Value] | None
    """What differs alone from that point: key and value."""
    config: TrainConfig
    scenario: ScenarioConfig
    test_episodes: int
    test_envs: int

    @property
    def name(self) -> str:
        """What it is, readable and as a hash; a file's name."""
        learning = self.config.learning
        agent = learning.allocation_agent
        who = learning.allocation.nets.actor if agent == "d3pg" else agent
        told = (
            _unlike_default(_comparable(self.config)),
            asdict(self.scenario),
            self.test_episodes,
            self.test_envs,
        )
        return f"{self.place}-{who}-s{self.config.seed}-{_hash(told)}"

    @property
    def group(self) -> str:
        """Its name but for the seed: trainings that share it are alike."""
        return replace(self, config=replace(self.config, seed=0)).name

    @property
    def place(self) -> str:
        """The scenario's name, without its folder."""
        return Path(self.config.scenario).stem

    @property
    def baselines(self) -> str:
        """The name of the file of the baselines on its test episodes."""
        told = (asdict(self.scenario), self.test_episodes, self.test_envs)
        return f"baselines-{self.place}-{_hash(told)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
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
    one_at_a_time: tuple[str, Value] | None
    config: TrainConfig
    manifest: Manifest
    points: tuple[CurvePoint, ...]
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
    """Return the trainings: all points in order, at each one value at a time, then all seeds.

    Raises:
        ConfigError: a key that a training has not, a refused value, a scenario that is not there.
    """
    one_at_a_time = [
        (key, value) for key, values in study.one_at_a_time.items() for value in values
    ]
    found = []
    combinations = itertools.product(*study.grid.values())
    for values, listed in itertools.product(combinations, study.variants or ({},)):
        point = dict(zip(study.grid, values, strict=True)) | listed
        for varied in one_at_a_time or (None,):
            in_scenario, in_training = _split(varied)
            config = _changed(study.train, point | in_training)
            scenario = _changed(scenarios.load(config.scenario), in_scenario)
            found += [
                Cell(
                    labels={key.rpartition(".")[2]: value for key, value in point.items()},
                    one_at_a_time=varied,
                    config=replace(config, seed=seed),
                    scenario=scenario,
                    test_episodes=study.test_episodes,
                    test_envs=study.test_envs,
                )
                for seed in study.seeds
            ]
    return tuple(found)


def _split(varied: tuple[str, Value] | None) -> tuple[dict[str, Value], dict[str, Value]]:
    """Return what differs in the scenario, and what differs in the training."""
    if varied is None:
        return {}, {}
    key, value = varied
    if key.startswith(SCENARIO):
        return {key.removeprefix(SCENARIO): value}, {}
    return {}, {key: value}


def _changed(told: _T, changes: Mapping[str, Value]) -> _T:
    raw: dict[str, Any] = json.loads(to_json(told))
    for key, value in changes.items():
        *path, last = key.split(".")
        inner = raw
        for part in path:
            inner = inner.get(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"study: {key!r} names nothing of a {type(told).__name__}")
        inner[last] = value
    return configs.parse(raw, type(told), "study")


def _comparable(config: TrainConfig) -> TrainConfig:
    """Return the configuration without what changes no result: where to, and how often saved."""
    return replace(config, output="", checkpoint_every=1)


def _unlike_default(told: Any) -> dict[str, Any]:
    found = {}
    for one in fields(told):
        value = getattr(told, one.name)
        made = one.default_factory
        if value != (one.default if made is MISSING else made()):
            found[one.name] = _unlike_default(value) if is_dataclass(value) else value
    return found


def _hash(told: Any) -> str:
    return hashlib.sha256(to_json(told)).hexdigest()[:8]


def write(record: CellRecord | BaselineRecord, file: Path) -> None:
    """Write a record, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_bytes(to_json(record) + b"\n")
    part.rename(file)


def read_cell(cell: Cell, folder: Path) -> CellRecord | None:
    """Return the record of a training, None where there is none.

    Raises:
        ConfigError: an unreadable file, or one of another configuration.
    """
    file = folder / f"{cell.name}.json"
    if not file.is_file():
        return None
    record = read(file, CellRecord)
    if _comparable(record.config) != _comparable(cell.config):
        raise ConfigError(f"{file} is of another configuration: a default has changed; delete it")
    return record


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
