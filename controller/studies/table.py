"""A study's table, from its records alone; its figure is study_figures.py's.

Owns Markdown and the files' names. Refuses to train and to rate.

Trainings: the interquartile mean over seeds of each training's mean score on the test episodes, and
its 95 % bootstrap interval, for each point of the study. Baselines learn nothing, so theirs is over
the test episodes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from controller.policies.evaluation import Rating
from controller.policies.scores import estimate
from controller.studies import figures
from controller.studies.results import ScenarioResults, scenario_results
from controller.studies.study import Cell, StudyConfig

TABLE, FIGURE = "table.md", "scores.png"
_HEADER = (
    "| {} | seeds | score | 95 % | allocation score | 95 % | utility | hits | latency, s "
    "| one core, s |\n|---|---|---|---|---|---|---|---|---|---|"
)


def write(study: StudyConfig, cells: Sequence[Cell], results: Path) -> str:
    """Write the table and the figure of what is recorded so far; return the table."""
    text = table(study, cells, results)
    results.mkdir(parents=True, exist_ok=True)
    (results / TABLE).write_text(text)
    figures.draw(study, cells, results).savefig(results / FIGURE, dpi=120)
    return text


def table(study: StudyConfig, cells: Sequence[Cell], results: Path) -> str:
    """Return one Markdown table for each scenario that anything is recorded of."""
    return "\n\n".join(_table(study, place) for place in scenario_results(cells, results)) + "\n"


def _table(study: StudyConfig, place: ScenarioResults) -> str:
    rows = [_HEADER.format(place.name)]
    for trained in place.trained:
        whole = [record.whole for record in trained.records]
        allocation = _interval([record.allocation.score for record in trained.records])
        cpu_s = np.mean([record.points[-1].cpu_s for record in trained.records])
        rows.append(
            f"| T2DRL: {trained.name} | {len(whole)} of {len(study.seeds)} "
            f"| {_interval([one.score for one in whole])} | {allocation} "
            f"| {_measured(whole)} | {cpu_s:.0f} |"
        )
    for rating in place.baselines.whole if place.baselines else ():
        rows.append(
            f"| {rating.policy} | | {_interval(rating.scores)} | | | {_measured([rating])} | |"
        )
    return "\n".join(rows)


def _interval(scores: Sequence[float]) -> str:
    middle, low, high = estimate(scores)
    return f"{middle:.3f} | {low:.3f} .. {high:.3f}"


def _measured(ratings: Sequence[Rating]) -> str:
    utility, hit_frac, total_s = (
        float(np.mean([rating.mean(name) for rating in ratings]))
        for name in ("utility", "hit_frac", "total_s")
    )
    return f"{utility:.4f} | {hit_frac:.1%} | {total_s:.2f}"
