"""The report's figures, drawn from the records alone."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from controller.cell.dynamics import CAUSES
from controller.record.request_log import RequestRecord
from controller.record.summary import Summary
from profiling.report import page

_CAUSE_COLOURS = ("#9aa5b1", "#c98a1b", "#d1495b", "#8a5aa8", "#1b6ca8", "#444444", "#3a8f5c")
_ENDINGS = {"edge": "#3a8f5c", "cloud": "#1b6ca8", "rejected": "#c98a1b", "failed": "#d1495b"}


def latency(groups: Mapping[str, Summary]) -> bytes:
    """Return a PNG of the mean latency of each group, split by cause."""
    height_in = 1.2 + 0.5 * len(groups)
    figure, axes = page.axes(8.0, height_in, "mean latency of served requests, s")
    left = np.zeros(len(groups))
    for cause, colour in zip(CAUSES, _CAUSE_COLOURS, strict=True):
        width = np.nan_to_num([group.by_cause[cause] for group in groups.values()])
        axes.barh(list(groups), width, left=left, color=colour, label=cause.removesuffix("_s"))
        left = left + width
    axes.invert_yaxis()
    axes.legend(frameon=False, ncols=len(CAUSES), loc="lower center", bbox_to_anchor=(0.45, 1.0))
    return page.png(figure)


def timeline(rows: Sequence[RequestRecord], num_frames: int, slots_per_frame: int) -> bytes:
    """Return a PNG of how the requests of each slot ended, and their mean utility."""
    count = num_frames * slots_per_frame
    counts = {ending: np.zeros(count) for ending in _ENDINGS}
    utilities: list[list[float]] = [[] for _ in range(count)]
    for row in rows:
        if row.frame is None or row.slot is None:
            continue
        index = row.frame * slots_per_frame + row.slot
        counts[row.role if row.status == "served" else row.status][index] += 1
        utilities[index].append(row.utility or 0.0)
    slots = np.arange(1, count + 1)
    x_label = "slot (dotted: a new frame, a new caching decision)"
    figure, axes = page.axes(8.0, 2.9, x_label, "requests")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    base = np.zeros(count)
    for ending, colour in _ENDINGS.items():
        if counts[ending].any():
            axes.bar(slots, counts[ending], bottom=base, color=colour, label=ending)
        base = base + counts[ending]
    for frame in range(1, num_frames):
        axes.axvline(frame * slots_per_frame + 0.5, color="0.6", lw=0.8, ls=":")
    right = axes.twinx()
    known = [index for index in range(count) if utilities[index]]
    means = [float(np.mean(utilities[index])) for index in known]
    right.plot(slots[known], means, color="black", marker=".", lw=1, label="mean utility")
    right.set_ylabel("mean utility")
    figure.legend(frameon=False, ncols=6, loc="outside upper center")
    return page.png(figure)
