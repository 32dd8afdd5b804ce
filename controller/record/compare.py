"""Live runs side by side: what each policy earned on the same users, requests and channels.

Responsible for the table and for which runs can be compared. Not: running and drawing.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import tyro

from controller.policies.scores import estimate
from controller.record.config import RunConfig, read_config
from controller.record.request_log import RequestLog
from controller.record.summary import Summary, summarise
from protos.config import ConfigError

_HEADER = (
    "| policy | runs | requests | utility | 95 % | gain over {} | 95 % | hit ratio | quality "
    "| steps | latency, s | not served |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A finished run in numbers."""

    folder: Path
    config: RunConfig
    summary: Summary


@dataclass(frozen=True, kw_only=True, slots=True)
class Compare:
    """Print what the policies of several live runs earned, as a Markdown table.

    Runs of one seed differ in nothing but their policy, so policies are compared seed by seed: with
    the policy of the first run that is named. Utilities are interquartile means over runs with
    their 95 % bootstrap interval, which says little of fewer than five; the other columns are plain
    means.

    $ python -m controller compare runs/live-demo/*
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs."""

    def __call__(self) -> int:
        """Read every run before printing anything."""
        if not self.runs:
            raise ConfigError("compare needs the folder of a run, or several")
        sys.stdout.write(f"{table([read(folder) for folder in self.runs])}\n")
        return 0


def read(folder: Path) -> Run:
    """Return a run from its folder.

    Raises:
        ConfigError: it is not a run's folder, or holds no request.
    """
    config = read_config(folder)
    records = folder / "requests.sqlite"
    if not records.is_file():
        raise ConfigError(f"{folder} is not a run's folder: no {records.name}")
    with RequestLog(records) as log:
        rows = log.rows()
    if not rows:
        raise ConfigError(f"{folder} holds no request")
    return Run(folder=folder, config=config, summary=summarise(rows))


def table(runs: Sequence[Run]) -> str:
    """Return a Markdown table, a row for each policy in the order of the runs.

    Raises:
        ConfigError: runs of unlike settings, or two of the same policy and seed; both are named.
    """
    _require_alike(runs)
    by_policy: dict[str, dict[int, Run]] = {}
    for run in runs:
        known = by_policy.setdefault(run.config.policy_name, {})
        if run.config.seed in known:
            raise ConfigError(
                f"{known[run.config.seed].folder} and {run.folder} are both of policy "
                f"{run.config.policy_name} and seed {run.config.seed}"
            )
        known[run.config.seed] = run
    first = runs[0].config.policy_name
    rows = [_row(name, of_policy, by_policy[first]) for name, of_policy in by_policy.items()]
    return "\n".join([_HEADER.format(first), *rows])


def _require_alike(runs: Sequence[Run]) -> None:
    """Check that runs differ in nothing but seed, policy and where they were written."""
    first, *others = (
        replace(run.config, seed=0, policy="random", checkpoint="", output="", address="")
        for run in runs
    )
    for run, config in zip(runs[1:], others, strict=True):
        for one in fields(RunConfig):
            ours, theirs = getattr(first, one.name), getattr(config, one.name)
            if ours != theirs:
                raise ConfigError(
                    f"{runs[0].folder} and {run.folder} cannot be compared: "
                    f"{one.name} is {ours!r} and {theirs!r}"
                )


def _row(name: str, runs: Mapping[int, Run], reference: Mapping[int, Run]) -> str:
    found = [run.summary for run in runs.values()]
    over = [
        run.summary.utility - reference[seed].summary.utility
        for seed, run in runs.items()
        if seed in reference and run is not reference[seed]
    ]
    hits, quality, steps, total_s = (
        float(np.mean([getattr(one, what) for one in found]))
        for what in ("hit_frac", "quality", "num_steps", "total_s")
    )
    missed = sum(one.num_requests - one.num_served for one in found)
    return (
        f"| {name} | {len(found)} | {sum(one.num_requests for one in found)} "
        f"| {_interval([one.utility for one in found])} | {_interval(over)} | {hits:.0%} "
        f"| {quality:.3f} | {steps:.1f} | {total_s:.2f} | {missed} |"
    )


def _interval(values: Sequence[float]) -> str:
    if not values:
        return " | "
    middle, low, high = estimate(values)
    return f"{middle:.3f} | {low:.3f} .. {high:.3f}"
