"""How good a trained policy is, beside the baselines and the oracle, on the same episodes.

Responsible for the table. Not: training.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from controller.cell import scenario as scenarios
from controller.policies.evaluation import EvaluationSuite, Rating
from controller.policies.scores import iqm, iqm_interval
from controller.training import checkpoints, run_folder
from protos.config import require_positive
from protos.seeds import stream

_HEADER = (
    "| {} | {} | 95 % interval | utility | hit ratio | quality | steps of hits | latency, s |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluate:
    """Rate a trained policy beside the baselines and the oracle, on the same episodes.

    The whole policy by its normalised score; its allocation alone, with the oracle's caches, by its
    allocation score; each as the IQM over seeds of the episodes, with its 95 % interval. That
    interval says how sure the number is for this training run; how much training runs differ, only
    further ones say.

    $ python -m controller evaluate --checkpoint runs/train-default/RUN
    $ python -m controller evaluate --checkpoint runs/train-default/RUN --scenario tight-memory
    """

    checkpoint: Path
    """Folder of a training run; its latest checkpoint is rated."""
    scenario: str = ""
    """Name or TOML file; empty: the scenario that was trained on."""
    seeds: int = 5
    """Episodes; each has its own floor."""
    envs: int = 8
    """Environments of an episode."""

    def __post_init__(self) -> None:
        require_positive(self, "seeds", "envs")

    def __call__(self) -> int:
        """Print each row when it is measured: whole policies, then allocations alone."""
        torch.set_num_threads(1)
        trained_on = run_folder.read_scenario(self.checkpoint)
        scenario = scenarios.load(self.scenario) if self.scenario else trained_on
        policy = checkpoints.load(self.checkpoint, scenario)
        suite = EvaluationSuite(scenario, seeds=range(self.seeds), num_envs=self.envs)
        show = partial(Console(highlight=False, soft_wrap=True).print, markup=False)

        show(_HEADER.format("policy", "score"))
        show(_row(suite.rate("t2drl", lambda _: policy)))
        for baseline in suite.baselines():
            show(_row(baseline))

        show("\n" + _HEADER.format("allocation", "allocation score"))
        show(_row(suite.rate_allocation("t2drl", lambda _: policy.decide_allocations)))
        for allocation in suite.allocations():
            show(_row(allocation))
        return 0


def _row(rating: Rating) -> str:
    low, high = iqm_interval(rating.scores, stream(0, "evaluation report"))
    return (
        f"| {rating.policy} | {float(iqm(rating.scores)):.3f} | {low:.3f} .. {high:.3f} "
        f"| {rating.mean('utility'):.4f} | {rating.mean('hit_frac'):.1%} "
        f"| {rating.mean('quality'):.3f} | {rating.mean('num_steps'):.1f} "
        f"| {rating.mean('total_s'):.2f} |"
    )
