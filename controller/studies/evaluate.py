"""How good a trained policy is, beside the baselines and the oracle, on the same episodes.

    python -m controller evaluate --checkpoint runs/train-default/RUN
    python -m controller evaluate --checkpoint runs/train-default/RUN --scenario tight-memory

The whole policy by its normalised score; its allocation alone, with the oracle's caches, by its
allocation score; each as the IQM over seeds of the episodes, with its 95 % interval. That interval
says how sure the number is for this training; how much trainings differ, only further ones say.

Owns the table. Refuses to train.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.console import Console

from controller.cell import scenario as scenarios
from controller.cell.scenario import ScenarioConfig
from controller.policies.evaluation import EvaluationSuite, Rating
from controller.policies.scores import iqm, iqm_interval
from controller.training import checkpoints, run_folder
from controller.training.learned_policy import LearnedPolicy
from protos.seeds import stream

_PROG = "python -m controller evaluate"
_HEADER = (
    "| {} | {} | 95 % interval | utility | hits | quality | steps of hits | latency, s |\n"
    "|---|---|---|---|---|---|---|---|"
)


def command(arguments: list[str]) -> int:
    """Run the verb; return the exit code.

    Raises:
        ConfigError: a checkpoint that does not fit the scenario; both sides are named.
    """
    parser = argparse.ArgumentParser(
        prog=_PROG,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="folder of a training; its latest is rated"
    )
    parser.add_argument("--scenario", help="name or TOML file; the training's own by default")
    parser.add_argument("--seeds", type=int, default=5, help="episodes; each has its own floor")
    parser.add_argument("--envs", type=int, default=8, help="environments of an episode")
    args = parser.parse_args(arguments)
    if min(args.seeds, args.envs) < 1:
        parser.error(f"--seeds and --envs must be >= 1, got {args.seeds} and {args.envs}")
    torch.set_num_threads(1)
    scenario = (
        scenarios.load(args.scenario)
        if args.scenario
        else run_folder.read_scenario(args.checkpoint)
    )
    policy = checkpoints.load(args.checkpoint, scenario)
    console = Console(highlight=False, soft_wrap=True)
    for line in report(policy, scenario, seeds=range(args.seeds), num_envs=args.envs):
        console.print(line, markup=False)
    return 0


def report(
    policy: LearnedPolicy, scenario: ScenarioConfig, *, seeds: Sequence[int], num_envs: int
) -> Iterator[str]:
    """Yield the lines of two Markdown tables, each as soon as it is measured.

    The first rates whole policies, the second allocations with the oracle's caches.
    """
    suite = EvaluationSuite(scenario, seeds=seeds, num_envs=num_envs)

    yield _HEADER.format("policy", "score")
    yield _row(suite.rate("t2drl", lambda _: policy))
    yield from map(_row, suite.baselines())

    yield "\n" + _HEADER.format("allocation", "allocation score")
    yield _row(suite.rate_allocation("t2drl", lambda _: policy.decide_allocations))
    yield from map(_row, suite.allocations())


def _row(rating: Rating) -> str:
    low, high = iqm_interval(rating.scores, stream(0, "evaluation report"))
    return (
        f"| {rating.policy} | {float(iqm(rating.scores)):.3f} | {low:.3f} .. {high:.3f} "
        f"| {rating.mean('utility'):.4f} | {rating.mean('hit_frac'):.1%} "
        f"| {rating.mean('quality'):.3f} | {rating.mean('num_steps'):.1f} "
        f"| {rating.mean('total_s'):.2f} |"
    )
