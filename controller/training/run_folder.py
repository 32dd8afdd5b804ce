"""The settings of a training run, and the folder that it leaves.

Responsible for ``TrainConfig`` and the folder's files. Not: training (train.py), rating
(evaluate.py).

    config.json     the configuration        scenario.json   the scenario, every value
    manifest.json   machine and versions     profile.json    the profile, where there is one
    metrics.jsonl   one row a frame          tensorboard/    the same for TensorBoard
    events.log      log lines                checkpoints/episode-0040/  the latest alone
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from controller.cell.dynamics import ModelTable
from controller.cell.scenario import ScenarioConfig
from controller.training.two_timescale import LearningConfig
from profiling import records
from protos import manifest
from protos.config import read_json, require_non_negative, require_positive, to_json, write_json


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """The settings of a training run."""

    seed: int = 0
    """Of episodes, nets, exploration and replay, each by its own stream."""
    scenario: str = "default"
    """Name of a shipped scenario, or a TOML file."""
    num_episodes: int
    """Episodes, each of the scenario's frames."""
    num_envs: int
    """Environments side by side."""
    checkpoint_every: int = 10
    """Episodes between two checkpoints; the last episode is followed by one as well."""
    evaluate_every: int = 5
    """Episodes between two evaluations without exploration; 0: none."""
    evaluation_envs: int = 8
    """Environments side by side of an evaluation."""
    output: str = "runs"
    """Folder that run folders are created in."""
    are_loads_free: bool = False
    """Whether models serve at once while learning, never in evaluations: what it is worth that
    loads take time in what DDQN learns from."""
    learning: LearningConfig = field(default_factory=LearningConfig)
    """How both agents learn."""

    def __post_init__(self) -> None:
        require_positive(self, "num_episodes", "num_envs", "checkpoint_every", "evaluation_envs")
        require_non_negative(self, "seed", "evaluate_every")


def begin(config: TrainConfig, scenario: ScenarioConfig, name: str) -> Path:
    """Create and describe a training run's folder; return it."""
    folder = manifest.run_folder(Path(config.output), name, config.seed)
    describe(folder, config, scenario)
    return folder


def describe(folder: Path, config: TrainConfig, scenario: ScenarioConfig) -> None:
    """Write a training run's settings and where it runs."""
    write_json(folder / "config.json", config)
    write_json(folder / "scenario.json", scenario)
    write_json(folder / "manifest.json", manifest.collect())
    if scenario.profile:
        records.save(records.load(scenario.profile), folder / "profile.json")


def read_config(folder: Path) -> TrainConfig:
    """Return a training run's configuration; ConfigError where the folder is none's."""
    return read_json(folder / "config.json", TrainConfig)


def read_scenario(folder: Path) -> ScenarioConfig:
    """Return the scenario and its profile as trained on; ConfigError as ``read_config``."""
    scenario = read_json(folder / "scenario.json", ScenarioConfig)
    if not scenario.profile:
        return scenario
    return replace(scenario, profile=str((folder / "profile.json").resolve()))


def identity(config: TrainConfig, scenario: ScenarioConfig, table: ModelTable) -> dict[str, Any]:
    """Return what a training run must share with the checkpoint that it goes on from.

    The scenario with a hash of each model's numbers, measured or not, and the configuration but
    for how long, how often and where to.
    """
    settings, where = asdict(config), asdict(scenario)
    for name in ("num_episodes", "checkpoint_every", "output", "scenario"):
        del settings[name]
    for name in ("synthetic_models", "model_ids", "profile"):  # which the hashes stand for
        del where[name]
    arrays = [value for value in asdict(table).values() if isinstance(value, np.ndarray)]
    models = {
        name: hashlib.sha256(b"".join(array[index].tobytes() for array in arrays)).hexdigest()
        for index, name in enumerate(table.model_ids)
    }
    facts = {"train": settings, "scenario": where, "models": models}
    plain: dict[str, Any] = json.loads(to_json(facts))  # as it comes back from disk
    return plain


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the folder of the latest checkpoint, None before the first one."""
    return max((folder / "checkpoints").glob("episode-*[0-9]"), default=None)


@contextlib.contextmanager
def new_checkpoint(folder: Path, episode: int) -> Iterator[Path]:
    """Lend an empty folder; once it is written, it replaces the latest checkpoint as a whole."""
    part = folder / "checkpoints" / "part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    before = list(part.parent.glob("episode-*[0-9]"))
    part.rename(part.with_name(f"episode-{episode:06d}"))
    for old in before:
        shutil.rmtree(old)
