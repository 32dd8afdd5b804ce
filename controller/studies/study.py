"""A study: a training run's configuration, changes to it, and seeds.

Responsible for the study's file and its cells, one training run each. Not: training (sweep.py),
what is recorded (results.py), pictures (figures.py).

    title = "..."
    seeds = [0, 1, 2, 3, 4]
    [grid]                                        # every combination, the first key slowest
    scenario = ["default", "tight-memory"]
    "learning.allocation.nets.actor" = ["diffusion", "mlp"]
    [[variants]]                                  # at each combination: these, one by one
    "learning.allocation.nets.actor" = "mlp"
    "learning.allocation.nets.hidden" = 128
    [one_at_a_time]                               # at each of these, one value after the other
    "scenario.num_users" = [6, 10, 14]            # a number of the scenario itself
    "learning.allocation.nets.chain_len" = [1, 5]
    [train]                                       # a training run's whole configuration

A cell is known by its resolved configuration, scenario included: its record is used as long as
nothing of these has changed, and cells that come to the same are one training run.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from controller.cell import scenario as scenarios
from controller.cell.scenario import ScenarioConfig
from controller.policies.evaluation import EvaluationSuite
from controller.training.run_folder import TrainConfig
from protos import config as configs
from protos.config import ConfigError, require, require_positive, to_json

Value = bool | int | float | str | tuple[float, ...]
STUDIES = "controller/configs/studies"
SCENARIO = "scenario."
"""Before the keys of a scenario."""
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """The settings of a study."""

    title: str
    """What varies, for the heading of its figures."""
    seeds: tuple[int, ...]
    """Of the training runs."""
    grid: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    """Dotted key of the training run's configuration -> its values, in every combination."""
    variants: tuple[dict[str, Value], ...] = ()
    """Dotted keys -> values, one set after the other at each combination of the grid."""
    one_at_a_time: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    """As the grid, or after "scenario." a key of the scenario's; but one value at a time, all else
    as in the group. The figure has a column for each key, its values on the x axis."""
    test_episodes: int = 5
    """Episodes that trained policies and baselines are rated on; no training run sees them."""
    test_envs: int = 8
    """Environments side by side of such an episode."""
    results: str = "results/studies"
    """Folder of the study's records, table and figure."""
    train: TrainConfig
    """What all training runs share."""

    def __post_init__(self) -> None:
        require(bool(self.seeds), "seeds must not be empty")
        has_cells = bool(self.grid or self.variants or self.one_at_a_time)
        require(has_cells, "grid, variants and one_at_a_time must not all be empty")
        are_different = len(set(self.seeds)) == len(self.seeds)
        require(are_different, f"seeds must differ, got {list(self.seeds)}")
        require_positive(self, "test_episodes", "test_envs")
        is_evaluated = self.train.evaluate_every > 0
        require(is_evaluated, "train.evaluate_every must be >= 1: figures need evaluations, got 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteConfig:
    """The test episodes of a scenario."""

    scenario: ScenarioConfig
    episodes: int
    envs: int

    def build(self) -> EvaluationSuite:
        """Return the episodes."""
        return EvaluationSuite(self.scenario, seeds=range(self.episodes), num_envs=self.envs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One training run of a study."""

    labels: dict[str, Value]
    """The last part of each key of the grid and the variant -> the value."""
    one_at_a_time: tuple[str, Value] | None
    """What alone differs from these: key and value."""
    config: TrainConfig
    suite: SuiteConfig

    @property
    def key(self) -> tuple[TrainConfig, SuiteConfig]:
        """All that its numbers depend on: not where to, and how often saved."""
        return replace(self.config, output="", checkpoint_every=1), self.suite

    @property
    def name(self) -> str:
        """What it is, readable and as a hash of its key; a folder's name."""
        digest = hashlib.sha256(to_json(self.key)).hexdigest()[:8]
        return f"{Path(self.config.scenario).stem}-s{self.config.seed}-{digest}"

    @property
    def group(self) -> tuple[TrainConfig, SuiteConfig]:
        """Its key but for the seed: training runs that share it are alike."""
        config, suite = self.key
        return replace(config, seed=0), suite

    @property
    def variant(self) -> str:
        """What differs in how it is trained, such as "actor mlp, hidden 64"."""
        if self.one_at_a_time is None or self.one_at_a_time[0].startswith(SCENARIO):
            return labelled(self.labels)
        key, value = self.one_at_a_time
        return labelled(self.labels | {_last(key): value})

    @property
    def scenario_name(self) -> str:
        """The scenario's name with what was changed in it, such as "default, num_users 6"."""
        name = Path(self.config.scenario).stem
        if self.one_at_a_time is None or not self.one_at_a_time[0].startswith(SCENARIO):
            return name
        key, value = self.one_at_a_time
        return f"{name}, {_last(key)} {value}"


def labelled(labels: Mapping[str, Value]) -> str:
    """Return a variant's name."""
    return ", ".join(f"{key} {value}" for key, value in labels.items() if key != "scenario")


def load(file: Path) -> StudyConfig:
    """Return a study by its file or by a shipped one's name; ConfigError where it is neither."""
    return configs.load(file, StudyConfig, STUDIES)


def cells(study: StudyConfig) -> tuple[Cell, ...]:
    """Return the training runs: all variants in order, at each one value at a time, then all seeds.

    Raises:
        ConfigError: an unknown key, a refused value, a scenario that is not there.
    """
    singles = [(key, value) for key, values in study.one_at_a_time.items() for value in values]
    found = []
    combinations = itertools.product(*study.grid.values())
    for values, variant in itertools.product(combinations, study.variants or ({},)):
        group = dict(zip(study.grid, values, strict=True)) | variant
        for varied in singles or (None,):
            changes, in_scenario = dict(group), {}
            if varied and varied[0].startswith(SCENARIO):
                in_scenario[varied[0].removeprefix(SCENARIO)] = varied[1]
            elif varied:
                changes[varied[0]] = varied[1]
            config = _changed(study.train, changes)
            suite = SuiteConfig(
                scenario=_changed(scenarios.load(config.scenario), in_scenario),
                episodes=study.test_episodes,
                envs=study.test_envs,
            )
            labels = {_last(key): value for key, value in group.items()}
            found += [
                Cell(
                    labels=labels,
                    one_at_a_time=varied,
                    config=replace(config, seed=seed),
                    suite=suite,
                )
                for seed in study.seeds
            ]
    return tuple(found)


def _changed(config: _T, changes: Mapping[str, Value]) -> _T:
    raw: dict[str, Any] = json.loads(to_json(config))
    for key, value in changes.items():
        *path, last = key.split(".")
        inner = raw
        for part in path:
            inner = inner.get(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"study: {key!r} names nothing of a {type(config).__name__}")
        inner[last] = value
    return configs.parse(raw, type(config), "study")


def _last(key: str) -> str:
    return key.rpartition(".")[2]
