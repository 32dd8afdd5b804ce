"""A study's table, from its records alone.

Responsible for Markdown and the files' names. Not: pictures (figures.py), training, rating.

Training runs: the interquartile mean over seeds of each run's mean score on the test episodes, and
its 95 % bootstrap interval. Baselines learn nothing, so theirs is over the test episodes.
"""

from collections.abc import Sequence
from pathlib import Path

from controller.studies import figures
from controller.studies.results import PolicyResults, StudyRecords, scenario_results
from controller.studies.study import Cell, StudyConfig

_HEADER = (
    "| {} | seeds | score | 95 % | allocation score | 95 % | utility | hit ratio | latency (s) "
    "| CPU time (s) |\n|---|---|---|---|---|---|---|---|---|---|"
)


def write(study: StudyConfig, cells: Sequence[Cell], records: StudyRecords) -> Path:
    """Write the table and the figure of what is recorded so far; return the table's file."""
    file = records.folder / f"{records.study}.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(table(study, cells, records))
    figures.draw(study, cells, records).savefig(file.with_suffix(".png"), dpi=120)
    return file


def table(study: StudyConfig, cells: Sequence[Cell], records: StudyRecords) -> str:
    """Return one Markdown table for each scenario that anything is recorded of."""
    tables = []
    for scenario in scenario_results(cells, records):
        rows = [_row(policy, len(study.seeds)) for policy in scenario.policies]
        tables.append("\n".join([_HEADER.format(scenario.name), *rows]))
    return "\n\n".join(tables) + "\n"


def _row(policy: PolicyResults, num_seeds: int) -> str:
    name, seeds, allocation, cpu_s = policy.name, "", " | ", ""
    if policy.records:
        name, seeds = f"T2DRL: {name}", f"{len(policy.records)} of {num_seeds}"
        allocation = _interval(policy.value("allocation_score"))
        cpu_s = f"{policy.value('cpu_s')[0]:.0f}"
    utility, hit_frac, total_s = (
        policy.value(key)[0] for key in ("utility", "hit_frac", "total_s")
    )
    return (
        f"| {name} | {seeds} | {_interval(policy.value('score'))} | {allocation} "
        f"| {utility:.4f} | {hit_frac:.1%} | {total_s:.2f} | {cpu_s} |"
    )


def _interval(estimate: tuple[float, ...]) -> str:
    middle, low, high = estimate
    return f"{middle:.3f} | {low:.3f} .. {high:.3f}"
