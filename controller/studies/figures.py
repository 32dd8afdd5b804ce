"""A study's figure: scores while learning, or what each value alone leads to.

Owns pictures. Refuses to read configurations, to train and to rate.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from controller.policies.evaluation import Rating
from controller.policies.scores import Estimate, estimate
from controller.studies.results import baselines, labelled, records, scenario_results
from controller.studies.study import SCENARIO, Cell, CellRecord, StudyConfig, Value

_COLOURS = ("#1b6ca8", "#c98a1b", "#3a8f5c", "#d1495b", "#8a5aa8", "#444444")
_LINES = {"greedy-oracle": ":", "greedy-equal": "--", "lru-equal": "-."}
"""Baselines that figures show: how T2DRL's caching and allocation compare with plain ones."""
_Ratings: TypeAlias = dict[str, dict[Any, list[Rating]]]
"""Of a name, by a value's place on the x axis."""
_QUANTITIES = {
    "score": "normalised score",
    "utility": "utility",
    "hit_frac": "hit ratio",
    "quality": "quality",
    "total_s": "latency (s)",
}


def draw(study: StudyConfig, cells: Sequence[Cell], results: Path) -> Figure:
    """Return the figure of what is recorded so far."""
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(study.title)
    if study.one_at_a_time:
        _draw_values(figure, study, cells, results)
    else:
        _draw_learning(figure, cells, results)
    return figure


def _draw_learning(figure: Figure, cells: Sequence[Cell], results: Path) -> None:
    found = list(scenario_results(cells, results))
    if not found:
        return
    figure.set_size_inches(4.2 * len(found), 5.4)
    panels = figure.subplots(2, len(found), squeeze=False, sharex="col", sharey="row")
    for (whole, allocation), place in zip(panels.T, found, strict=True):
        whole.set_title(place.name, fontsize=10)
        for colour, trained in zip(_COLOURS, place.trained, strict=False):
            label = f"{trained.name} ({len(trained.records)} seeds)"
            _learning_curve(whole, trained.records, "score", label, colour)
            _learning_curve(allocation, trained.records, "allocation_score", label, colour)
        for rating in place.baselines.whole if place.baselines else ():
            if rating.policy in _LINES:
                style = _LINES[rating.policy]
                whole.axhline(rating.score, color="0.4", ls=style, lw=1, label=rating.policy)
        allocation.set_xlabel("minutes of one core")
        whole.legend(frameon=False, fontsize=7, loc="lower right")
    for axes, label in zip(panels[:, 0], ("normalised score", "allocation score"), strict=True):
        axes.set_ylabel(label)
        axes.set_ylim(0, 1.02)


def _learning_curve(
    axes: Axes, recorded: Sequence[CellRecord], quantity: str, label: str, colour: str
) -> None:
    """Draw the estimate over seeds at each evaluation."""
    evaluations = list(zip(*(record.points for record in recorded), strict=True))
    minutes = [float(np.mean([point.cpu_s for point in points])) / 60 for points in evaluations]
    scores = [[getattr(point, quantity) for point in points] for points in evaluations]
    _band(axes, minutes, [estimate(one) for one in scores], label, colour)


def _draw_values(figure: Figure, study: StudyConfig, cells: Sequence[Cell], results: Path) -> None:
    """Draw a column for each key of ``alone`` and a row for each quantity."""
    figure.set_size_inches(2.9 * len(study.one_at_a_time), 2.0 * len(_QUANTITIES) + 0.6)
    panels = figure.subplots(
        len(_QUANTITIES), len(study.one_at_a_time), squeeze=False, sharex="col"
    )
    for key, column in zip(study.one_at_a_time, panels.T, strict=True):
        trained, plain = _against(key, cells, results)
        for axes, quantity in zip(column, _QUANTITIES, strict=True):
            _draw_panel(axes, trained, plain, quantity)
        column[-1].set_xlabel(key.removeprefix(SCENARIO).rpartition(".")[2], fontsize=9)
    for axes, label in zip(panels[:, 0], _QUANTITIES.values(), strict=True):
        axes.set_ylabel(label, fontsize=9)
    panels[0, 0].legend(frameon=False, fontsize=6)


def _against(key: str, cells: Sequence[Cell], results: Path) -> tuple[_Ratings, _Ratings]:
    """Return what is recorded of trainings and of baselines, by name and by the key's value."""
    trained: _Ratings = {}
    plain: _Ratings = {}
    for cell in cells:
        if cell.one_at_a_time is None or cell.one_at_a_time[0] != key:
            continue
        x = _position(cell.one_at_a_time[1])
        for record in records([cell], results):
            name = labelled(cell.labels) or "T2DRL"
            trained.setdefault(name, {}).setdefault(x, []).append(record.whole)
        known = baselines(cell, results)
        for rating in known.whole if known else ():
            plain.setdefault(rating.policy, {})[x] = [rating]
    return trained, plain


def _draw_panel(axes: Axes, trained: _Ratings, plain: _Ratings, quantity: str) -> None:
    """Draw one quantity against one key's values: trainings with intervals, baselines."""
    for colour, (name, by_x) in zip(_COLOURS, trained.items(), strict=False):
        values = [estimate([_value(one, quantity) for one in by_x[x]]) for x in sorted(by_x)]
        _band(axes, sorted(by_x), values, name, colour)
    for policy, style in _LINES.items():
        by_x = plain.get(policy, {})
        values_of = [_value(by_x[x][0], quantity) for x in sorted(by_x)]
        axes.plot(sorted(by_x), values_of, color="0.4", ls=style, lw=1, label=policy)
    axes.spines[["top", "right"]].set_visible(False)


def _band(
    axes: Axes,
    x: Sequence[float] | Sequence[str],
    values: Sequence[Estimate],
    label: str,
    colour: str,
) -> None:
    """Draw estimates as a line in its band; of words, which have no order, each by itself."""
    middle, low, high = zip(*values, strict=True)
    if isinstance(x[0], str):
        bars = np.abs(np.array([low, high]) - middle)
        axes.errorbar(x, middle, bars, color=colour, label=label, fmt=".", capsize=3)
        axes.margins(x=0.3)
    else:
        axes.plot(x, middle, color=colour, label=label, marker=".", ms=4)
        axes.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    axes.spines[["top", "right"]].set_visible(False)


def _value(rating: Rating, quantity: str) -> float:
    return rating.score if quantity == "score" else rating.mean(quantity)


def _position(value: Value) -> float | str:
    """Return where a value stands on the x axis: of several numbers their mean, words as words."""
    if isinstance(value, str | bool):
        return str(value)
    return float(np.mean(value))
