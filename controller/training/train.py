"""One training run, from its first episode or from a checkpoint.

Responsible for the order of episodes, evaluations, checkpoints and records. Not: the algorithm
(two_timescale.py). Every episode has a seed of its own, so that a checkpoint between two episodes
needs no simulator's state.
"""

import contextlib
import copy
import functools
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from rich.console import Console

from controller.cell import scenario as scenarios
from controller.cell.dynamics import ModelTable
from controller.cell.scenario import ScenarioConfig
from controller.cell.simulator import Simulator
from controller.policies.scores import EvaluationEpisode, ReferenceScores
from controller.training import run_folder as records
from controller.training.learned_policy import LearnedPolicy
from controller.training.metrics import JsonLines, Metrics, TensorBoard
from controller.training.run_folder import TrainConfig
from controller.training.two_timescale import TwoTimescale
from protos import config as configs
from protos import logs
from protos.command_line import Settings
from protos.config import ConfigError
from protos.progress import StatusLine, time_left
from protos.seeds import stream

logger = logging.getLogger(__name__)

_DEFAULT = Path("train-default.toml")
_EVALUATION_SEED = 1_000_000
"""Of the episode that evaluations during a training share; ``evaluate`` takes others."""


class Progress:
    """One line: where the training is, how it does, and how long it still takes."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._line = StatusLine(self._console)
        self._score = ""

    def begin(self, num_done: int, num_frames: int) -> None:
        """Start the clock at a frame of so many."""
        self._first, self._num_frames = num_done, num_frames
        self._began_s = time.perf_counter()

    def show(self, num_done: int, row: Metrics) -> None:
        """Show a frame's row, if it is time."""
        if "evaluation/score" in row:
            self._score = f", score {row['evaluation/score']:.3f}"
        spent_s = time.perf_counter() - self._began_s
        left_s = (self._num_frames - num_done) * spent_s / (num_done - self._first)
        self._line.show(
            f"frame {num_done}/{self._num_frames}, {time_left(left_s)}: "
            f"utility {row['train/utility']:.4f}, hits {row['train/hit_frac']:.0%}{self._score}",
            is_due=num_done == self._num_frames,
        )

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """Learn T2DRL in the simulator; leaves a folder with checkpoints, metrics and TensorBoard data.

    $ python -m controller train                                 the default scenario
    $ python -m controller train --seed 3 --scenario tight-memory
    $ python -m controller train --resume runs/train-default/RUN go on exactly where it stopped
    """

    config: Path | None
    """TOML file: a path, or the name of a shipped one (train-default.toml); its fields are the
    options below."""
    resume: Path | None
    """Folder of a training run to go on with; what it was told are the defaults then."""
    settings: Settings[TrainConfig]
    """The file."""

    @classmethod
    def from_file(cls, config: Path | None = None, resume: Path | None = None) -> Self:
        """Read the file, or what the training run to go on with was told."""
        if resume and not config:
            return cls(config=config, resume=resume, settings=records.read_config(resume))
        settings = configs.load(config or _DEFAULT, TrainConfig, "controller/configs")
        return cls(config=config, resume=resume, settings=settings)

    def __call__(self) -> int:
        """Train in a new folder, or go on in the resumed one."""
        config, scenario = self.settings, self._scenario()
        _check(config, scenario)
        folder = self.resume or records.begin(config, scenario, (self.config or _DEFAULT).stem)
        logs.setup("INFO", folder / "events.log")
        progress = Progress()
        train(config, scenario, folder, progress)
        progress.say(f"trained; evaluate it: python -m controller evaluate --checkpoint {folder}")
        return 0

    def _scenario(self) -> ScenarioConfig:
        """Return the scenario; of a resumed training run, with the profile that it was given."""
        if self.resume and not self.config:
            before = records.read_config(self.resume)
            if self.settings.scenario == before.scenario:
                return records.read_scenario(self.resume)
        return scenarios.load(self.settings.scenario)


def _check(config: TrainConfig, scenario: ScenarioConfig) -> None:
    """Refuse what could not be trained, before there is a folder."""
    scenarios.read_models(scenario)
    learning, rows = config.learning, config.num_envs * scenario.num_nodes
    if min(learning.caching_replay, learning.allocation_replay) < rows:
        raise ConfigError(
            f"{config.num_envs} environments of {scenario.num_nodes} nodes need replays of at "
            f"least {rows} rows, got {learning.caching_replay} and {learning.allocation_replay}"
        )


def train(config: TrainConfig, scenario: ScenarioConfig, folder: Path, progress: Progress) -> None:
    """Train to the last episode, from the folder's latest checkpoint where it holds one.

    Sets the number of torch's threads to 1: nets of this size are slower on more.

    Raises:
        ConfigError: the checkpoint is of another scenario, configuration or seed; both sides are
            named.
    """
    torch.set_num_threads(1)
    table = scenarios.read_models(scenario)
    learner = TwoTimescale(config.learning, scenario, table, config.seed)
    identity = records.identity(config, scenario, table)
    checkpoint = records.latest_checkpoint(folder)
    if checkpoint:
        learner.load(checkpoint, identity)
    evaluation = _Evaluation(config, scenario, table)
    progress.begin(learner.num_frames, config.num_episodes * scenario.num_frames)
    with (
        contextlib.closing(JsonLines(folder / "metrics.jsonl", learner.num_frames)) as lines,
        contextlib.closing(TensorBoard(folder / "tensorboard", learner.num_frames)) as board,
    ):
        for episode in range(learner.num_frames // scenario.num_frames, config.num_episodes):
            seed = int(stream(config.seed, f"episode {episode}").integers(2**62))
            simulator = Simulator(
                scenario,
                table,
                num_envs=config.num_envs,
                seed=seed,
                are_loads_free=config.are_loads_free,
            )
            for row in learner.learn_episode(simulator):
                if simulator.is_over and evaluation.is_due(episode):
                    row |= evaluation.of(learner)
                    logger.info("episode %d: score %.4f", episode + 1, row["evaluation/score"])
                lines.write(learner.num_frames, row)
                board.write(learner.num_frames, row)
                progress.show(learner.num_frames, row)
            num_done = episode + 1
            if num_done % config.checkpoint_every == 0 or num_done == config.num_episodes:
                part = records.new_checkpoint(folder)
                learner.save(part, identity)
                records.keep_checkpoint(part, num_done)
                logger.info("checkpoint after episode %d of %d", num_done, config.num_episodes)


class _Evaluation:
    """The policy without exploration, always on the same episode; learning does not notice it."""

    def __init__(self, config: TrainConfig, scenario: ScenarioConfig, table: ModelTable) -> None:
        self._every = config.evaluate_every
        self._episode = EvaluationEpisode(
            scenario, table, num_envs=config.evaluation_envs, seed=_EVALUATION_SEED
        )

    def is_due(self, episode: int) -> bool:
        """Return whether an evaluation follows this episode."""
        return self._every > 0 and (episode + 1) % self._every == 0

    def of(self, learner: TwoTimescale) -> Metrics:
        """Return the metrics of the policy as it is now."""
        policy = copy.deepcopy(LearnedPolicy(learner.caching, learner.allocation))
        whole = self._episode.measure(policy)
        allocation = self._episode.measure_allocation(policy.decide_allocations)
        return {
            "evaluation/utility": whole.utility,
            "evaluation/hit_frac": whole.hit_frac,
            "evaluation/score": self._yardsticks.score(whole.utility),
            "evaluation/allocation_score": self._yardsticks.allocation_score(allocation.utility),
        }

    @functools.cached_property
    def _yardsticks(self) -> ReferenceScores:
        return self._episode.reference_scores()
