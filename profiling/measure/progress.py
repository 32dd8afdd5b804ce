"""Progress with time left: a bar on a terminal, plain lines elsewhere.

Responsible for the arithmetic of time left, from estimates in seconds and how much of each is done.
Not: what the work is.
"""

import sys
from time import perf_counter
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from protos.progress import StatusLine, time_left

_TRUSTED_S = 5.0
"""Below so many estimated seconds of work done, the estimates are not corrected."""


class Workload:
    """Tasks with estimated seconds; tells the time left from the speed so far."""

    def __init__(self) -> None:
        self._estimate_s: dict[str, float] = {}
        self._done_frac: dict[str, float] = {}
        self._gained_s = 0.0

    def plan(self, name: str, estimate_s: float) -> None:
        """Add a task, or correct the estimate of one."""
        self._estimate_s[name] = max(estimate_s, 1e-3)

    def advance(self, name: str, done_frac: float) -> None:
        """Note how much of a task is done now; what its first note says was done before."""
        step_frac = max(done_frac - self._done_frac.get(name, done_frac), 0.0)
        self._gained_s += step_frac * self._estimate_s[name]
        self._done_frac[name] = done_frac

    def done_frac(self) -> float:
        """Return how much of everything is done."""
        total = sum(self._estimate_s.values())
        return 1 - self._left_s() / total if total else 0.0

    def time_left_s(self, elapsed_s: float) -> float:
        """Return the estimated seconds left, corrected by how good the estimates were so far."""
        slowness = elapsed_s / self._gained_s if self._gained_s > _TRUSTED_S else 1.0
        return self._left_s() * min(max(slowness, 0.2), 5.0)

    def _left_s(self) -> float:
        done = self._done_frac
        return sum(
            estimate * (1 - done.get(name, 0.0)) for name, estimate in self._estimate_s.items()
        )


class Display:
    """Shows a workload while a block runs; a context manager."""

    def __init__(self, workload: Workload, stream: TextIO = sys.stdout) -> None:
        self.workload = workload
        self._begin_s = perf_counter()
        self._last_name = ""
        console = Console(file=stream, highlight=False, soft_wrap=True)
        self._line = StatusLine(console)
        self._bar = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(None),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[left]}"),
            console=console,
            expand=True,
            disable=not stream.isatty(),
        )
        self._task = self._bar.add_task("starting", total=1.0, left="")

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, name: str, done_frac: float) -> None:
        """Show how much of the task at work is done, and the time left."""
        self.workload.advance(name, done_frac)
        total_frac = self.workload.done_frac()
        left = time_left(self.workload.time_left_s(perf_counter() - self._begin_s))
        self._bar.update(self._task, completed=total_frac, description=name, left=left)
        if self._bar.disable:
            text = f"{name}: {total_frac:.0%} of everything done, {left}"
            self._line.show(text, is_due=name != self._last_name)
            self._last_name = name
