"""A study's table and figure, from its records alone.

Owns Markdown and the picture. Refuses to train and to rate.

Trainings: the interquartile mean over seeds of each training's mean score on the test episodes, and
its 95 % bootstrap interval, within each point of the grid. Baselines learn nothing, so theirs is
over the test episodes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from controller.course import Rating
from controller.scores import iqm, iqm_interval
from controller.study import (
    BaselineRecord,
    Cell,
    CellRecord,
    StudyConfig,
    baseline_name,
    read,
)
from protos.seeds import stream

TABLE, FIGURE = "table.md", "scores.png"
_COLOURS = ("#1b6ca8", "#c98a1b", "#3a8f5c", "#d1495b", "#8a5aa8", "#444444")
_LINES = {"greedy-oracle": ":", "greedy-equal": "--"}
"""Baselines that the figure shows: how T2DRL's caching and allocation compare with plain ones."""
_HEADER = (
    "| {} | seeds | score | 95 % | allocation score | 95 % | utility | hits | latency, s "
    "| one core, s |\n|---|---|---|---|---|---|---|---|---|---|"
)


def write(study: StudyConfig, cells: Sequence[Cell], results: Path) -> str:
    """Write the table and the figure of what is recorded so far; return the table."""
    text = table(study, cells, results)
    results.mkdir(parents=True, exist_ok=True)
    (results / TABLE).write_text(text)
    _figure(study, cells, results).savefig(results / FIGURE, dpi=120)
    return text


def table(study: StudyConfig, cells: Sequence[Cell], results: Path) -> str:
    """Return one Markdown table for each scenario that anything is recorded of."""
    return "\n\n".join(_tables(study, cells, results)) + "\n"


def _scenarios(cells: Sequence[Cell], results: Path) -> tuple[str, ...]:
    """Return the scenarios that anything is recorded of."""
    found = dict.fromkeys(cell.config.scenario for cell in cells)
    return tuple(
        name
        for name in found
        if any(_groups(cells, results, name)) or _baselines(cells, results, name)
    )


def _groups(
    cells: Sequence[Cell], results: Path, scenario: str
) -> Iterator[tuple[str, list[CellRecord]]]:
    """Yield a scenario's points of the grid by name, each with the records that there are."""
    groups: dict[str, list[CellRecord]] = {}
    for cell in cells:
        file = results / f"{cell.name}.json"
        if cell.config.scenario == scenario and file.is_file():
            labels = {key: value for key, value in cell.labels.items() if key != "scenario"}
            name = ", ".join(f"{key} {value}" for key, value in labels.items()) or "t2drl"
            groups.setdefault(name, []).append(read(file, CellRecord))
    yield from groups.items()


def _baselines(cells: Sequence[Cell], results: Path, scenario: str) -> BaselineRecord | None:
    cell = next(cell for cell in cells if cell.config.scenario == scenario)
    file = results / f"{baseline_name(cell)}.json"
    return read(file, BaselineRecord) if file.is_file() else None


def _tables(study: StudyConfig, cells: Sequence[Cell], results: Path) -> Iterator[str]:
    for scenario in _scenarios(cells, results):
        rows = [_HEADER.format(scenario)]
        for name, records in _groups(cells, results, scenario):
            whole = [record.whole for record in records]
            scores = _interval([one.score for one in whole])
            allocation = _interval([record.allocation.score for record in records])
            cpu_s = np.mean([record.points[-1].cpu_s for record in records])
            rows.append(
                f"| T2DRL: {name} | {len(records)} of {len(study.seeds)} | {scores} | {allocation} "
                f"| {_measured(whole)} | {cpu_s:.0f} |"
            )
        known = _baselines(cells, results, scenario)
        for rating in known.whole if known else ():
            rows.append(
                f"| {rating.policy} | | {_interval(rating.scores)} | | | {_measured([rating])} | |"
            )
        yield "\n".join(rows)


def _interval(scores: Sequence[float]) -> str:
    low, high = iqm_interval(scores, stream(0, "study report"))
    return f"{float(iqm(scores)):.3f} | {low:.3f} .. {high:.3f}"


def _measured(ratings: Sequence[Rating]) -> str:
    utility, hit_frac, total_s = (
        float(np.mean([rating.mean(name) for rating in ratings]))
        for name in ("utility", "hit_frac", "total_s")
    )
    return f"{utility:.4f} | {hit_frac:.1%} | {total_s:.2f}"


def _figure(study: StudyConfig, cells: Sequence[Cell], results: Path) -> Figure:
    names = _scenarios(cells, results)
    figure = Figure(figsize=(4.2 * max(len(names), 1), 5.4), layout="constrained")
    if not names:
        return figure
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(names), squeeze=False, sharex="col", sharey="row")
    for (whole, allocation), scenario in zip(panels.T, names, strict=True):
        whole.set_title(scenario, fontsize=10)
        for colour, (name, records) in zip(
            _COLOURS, _groups(cells, results, scenario), strict=False
        ):
            _curve(whole, records, "score", f"{name} ({len(records)} seeds)", colour)
            _curve(allocation, records, "allocation_score", name, colour)
        known = _baselines(cells, results, scenario)
        for rating in known.whole if known else ():
            if rating.policy in _LINES:
                style = _LINES[rating.policy]
                whole.axhline(rating.score, color="0.4", ls=style, lw=1, label=rating.policy)
        allocation.set_xlabel("minutes of one core")
        whole.legend(frameon=False, fontsize=7, loc="lower right")
    for axes, label in zip(panels[:, 0], ("normalised score", "allocation score"), strict=True):
        axes.set_ylabel(label)
        axes.set_ylim(0, 1.02)
    figure.suptitle(study.title)
    return figure


def _curve(
    axes: Axes, records: Sequence[CellRecord], quantity: str, label: str, colour: str
) -> None:
    """Draw the IQM over seeds at each evaluation, and its interval."""
    evaluations = list(zip(*(record.points for record in records), strict=True))
    minutes = [np.mean([point.cpu_s for point in points]) / 60 for points in evaluations]
    scores = [[getattr(point, quantity) for point in points] for points in evaluations]
    low, high = zip(*(iqm_interval(one, stream(0, "study report")) for one in scores), strict=True)
    axes.plot(minutes, [float(iqm(one)) for one in scores], color=colour, label=label)
    axes.fill_between(minutes, low, high, color=colour, alpha=0.2, lw=0)
    axes.spines[["top", "right"]].set_visible(False)
