"""One training run, from its first episode or from a checkpoint.

Responsible for the order of episodes, evaluations, checkpoints and records. Not: the algorithm
(two_timescale.py). Every episode has a seed of its own, so that a checkpoint between two episodes
needs no simulator's state.
"""

import contextlib
import copy
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from controller.cell import scenario as scenarios
from controller.cell.scenario import ScenarioConfig
from controller.cell.simulator import Simulator
from controller.policies.evaluation import EvaluationSuite
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
"""Of the episode that a training run's evaluations share; ``evaluate`` takes others."""


class Progress:
    """One line: where the training run is, how it does, and how long it still takes."""

    def __init__(self) -> None:
        self.line, self._score = StatusLine(), ""

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
        self.line.show(
            f"frame {num_done}/{self._num_frames}, {time_left(left_s)}: "
            f"utility {row['train/utility']:.4f}, hits {row['train/hit_frac']:.0%}{self._score}",
            is_due=num_done == self._num_frames,
        )


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
    """Folder of a training run to go on with; its own settings are the defaults then."""
    settings: Settings[TrainConfig]
    """The file."""

    @classmethod
    def from_file(cls, config: Path | None = None, resume: Path | None = None) -> Self:
        """Read the file, or the settings of the training run to go on with."""
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
        done = f"trained; evaluate it: python -m controller evaluate --checkpoint {folder}"
        progress.line.show(done, is_due=True)
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
    learning, at_once = config.learning, config.num_envs * scenario.num_nodes
    if min(learning.caching_replay, learning.allocation_replay) < at_once:
        raise ConfigError(
            f"{config.num_envs} environments of {scenario.num_nodes} nodes need replays of at "
            f"least {at_once} transitions, got {learning.caching_replay} and "
            f"{learning.allocation_replay}"
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
    progress.begin(learner.num_frames, config.num_episodes * scenario.num_frames)
    suite = None
    if config.evaluate_every:
        suite = EvaluationSuite(scenario, seeds=[_EVALUATION_SEED], num_envs=config.evaluation_envs)
    with (
        contextlib.closing(JsonLines(folder / "metrics.jsonl", learner.num_frames)) as lines,
        contextlib.closing(TensorBoard(folder / "tensorboard", learner.num_frames)) as board,
    ):
        for episode in range(learner.num_frames // scenario.num_frames, config.num_episodes):
            seed = int(stream(config.seed, f"episode {episode}").integers(2**62))
            num_done = episode + 1
            simulator = Simulator(
                scenario,
                table,
                num_envs=config.num_envs,
                seed=seed,
                are_loads_free=config.are_loads_free,
            )
            for row in learner.learn_episode(simulator):
                if suite and simulator.is_over and num_done % config.evaluate_every == 0:
                    row |= _evaluated(learner, suite)
                    logger.info("episode %d: score %.4f", num_done, row["evaluation/score"])
                lines.write(learner.num_frames, row)
                board.write(learner.num_frames, row)
                progress.show(learner.num_frames, row)
            if num_done % config.checkpoint_every == 0 or num_done == config.num_episodes:
                with records.new_checkpoint(folder, num_done) as part:
                    learner.save(part, identity)
                logger.info("checkpoint after episode %d of %d", num_done, config.num_episodes)


def _evaluated(learner: TwoTimescale, suite: EvaluationSuite) -> Metrics:
    """Return the metrics of the policy without exploration; learning does not notice it."""
    policy = copy.deepcopy(LearnedPolicy(learner.caching, learner.allocation))
    whole = suite.rate("t2drl", lambda _: policy)
    allocation = suite.rate_allocation("t2drl", lambda _: policy.decide_allocations)
    return {
        "evaluation/utility": whole.mean("utility"),
        "evaluation/hit_frac": whole.mean("hit_frac"),
        "evaluation/score": whole.score,
        "evaluation/allocation_score": allocation.score,
    }
