"""A study's figure: scores while learning, or what each value alone leads to.

Responsible for pictures. Not: reading configurations, training, rating.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from controller.policies.evaluation import Rating
from controller.policies.scores import Estimate, estimate
from controller.studies.results import StudyRecords, scenario_results
from controller.studies.study import Cell, StudyConfig, Value, labelled

_COLOURS = ("#1b6ca8", "#c98a1b", "#3a8f5c", "#d1495b", "#8a5aa8", "#444444")
_LINES = {"greedy-exact": ":", "greedy-equal": "--", "lru-equal": "-."}
"""Baselines that figures show: how T2DRL's caching and allocation compare with plain ones."""
_QUANTITIES = {
    "score": "normalised score",
    "utility": "utility",
    "hit_frac": "hit ratio",
    "quality": "quality",
    "total_s": "latency (s)",
}


def draw(study: StudyConfig, cells: Sequence[Cell], records: StudyRecords) -> Figure:
    """Return the figure of what is recorded so far."""
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(study.title)
    if study.one_at_a_time:
        _draw_values(figure, study, cells, records)
    else:
        _draw_learning(figure, cells, records)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_learning(figure: Figure, cells: Sequence[Cell], records: StudyRecords) -> None:
    found = list(scenario_results(cells, records))
    if not found:
        return
    figure.set_size_inches(4.2 * len(found), 5.4)
    panels = figure.subplots(2, len(found), squeeze=False, sharex="col", sharey="row")
    for (whole, allocation), scenario in zip(panels.T, found, strict=True):
        whole.set_title(scenario.name, fontsize=10)
        trained = [policy for policy in scenario.policies if policy.records]
        for colour, policy in zip(_COLOURS, trained, strict=False):
            label = f"{policy.name} ({len(policy.records)} seeds)"
            evaluations = list(zip(*(record.curve for record in policy.records), strict=True))
            minutes = [float(np.mean([one.cpu_s for one in seeds])) / 60 for seeds in evaluations]
            scores = [estimate([one.score for one in seeds]) for seeds in evaluations]
            _band(whole, minutes, scores, label, colour)
            scores = [estimate([one.allocation_score for one in seeds]) for seeds in evaluations]
            _band(allocation, minutes, scores, label, colour)
        for policy in scenario.policies:
            if style := _LINES.get(policy.name):
                score = policy.ratings[0].score
                whole.axhline(score, color="0.4", ls=style, lw=1, label=policy.name)
        allocation.set_xlabel("CPU time (min)")
        whole.legend(frameon=False, fontsize=7, loc="lower right")
    for axes, label in zip(panels[:, 0], ("normalised score", "allocation score"), strict=True):
        axes.set_ylabel(label)
        axes.set_ylim(0, 1.02)


def _draw_values(
    figure: Figure, study: StudyConfig, cells: Sequence[Cell], records: StudyRecords
) -> None:
    """Draw a column for each key of ``one_at_a_time`` and a row for each quantity."""
    shape = len(_QUANTITIES), len(study.one_at_a_time)
    figure.set_size_inches(2.9 * shape[1], 2.0 * shape[0] + 0.6)
    panels = figure.subplots(*shape, squeeze=False, sharex="col")
    for key, column in zip(study.one_at_a_time, panels.T, strict=True):
        ratings = _by_value(key, cells, records)
        for axes, quantity in zip(column, _QUANTITIES, strict=True):
            _draw_panel(axes, ratings, quantity)
        column[-1].set_xlabel(key.rpartition(".")[2], fontsize=9)
    for axes, label in zip(panels[:, 0], _QUANTITIES.values(), strict=True):
        axes.set_ylabel(label, fontsize=9)
    panels[0, 0].legend(frameon=False, fontsize=6)


def _by_value(
    key: str, cells: Sequence[Cell], records: StudyRecords
) -> dict[str, dict[Any, list[Rating]]]:
    """Return what is recorded by the policy's name and by the key's value on the x axis."""
    found: dict[str, dict[Any, list[Rating]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        if cell.one_at_a_time is None or cell.one_at_a_time[0] != key:
            continue
        x = _position(cell.one_at_a_time[1])
        for record in records.of([cell]):
            found[labelled(cell.labels) or "T2DRL"][x].append(record.whole)
        known = records.baselines.get(cell.suite)
        for rating in known.whole if known else ():
            if rating.policy in _LINES:
                found[rating.policy][x] = [rating]
    return found


def _draw_panel(axes: Axes, ratings: dict[str, dict[Any, list[Rating]]], quantity: str) -> None:
    """Draw one quantity against one key's values: training runs with intervals, baselines."""
    colours = iter(_COLOURS)
    for name, by_x in sorted(ratings.items(), key=lambda one: one[0] in _LINES):
        x = sorted(by_x)
        values = [
            [rating.score if quantity == "score" else rating.mean(quantity) for rating in by_x[one]]
            for one in x
        ]
        if style := _LINES.get(name):
            axes.plot(x, [one for (one,) in values], color="0.4", ls=style, lw=1, label=name)
        else:
            _band(axes, x, [estimate(one) for one in values], name, next(colours))


def _band(
    axes: Axes, x: Sequence[float | str], values: Sequence[Estimate], label: str, colour: str
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


def _position(value: Value) -> float | str:
    """Return where a value stands on the x axis: of several numbers their mean, words as words."""
    if isinstance(value, str | bool):
        return str(value)
    return float(np.mean(value))
