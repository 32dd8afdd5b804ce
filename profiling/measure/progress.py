"""Progress with time left: a bar on a terminal, plain lines elsewhere.

Owns the arithmetic of time left and its showing. Refuses to know what the work is: it is told
estimates in seconds, and how much of each is done.
"""

import sys
from time import perf_counter
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_LINE_EVERY_S = 20.0
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
        step = done_frac - self._done_frac.get(name, done_frac)
        self._gained_s += max(step, 0.0) * self._estimate_s[name]
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
        self._workload, self._stream = workload, stream
        self._begin = self._last_line = perf_counter()
        self._last_name = ""
        self._bar: Progress | None = None
        if stream.isatty():
            self._bar = Progress(
                TextColumn("{task.description:<24}"),
                BarColumn(None),
                TextColumn("{task.percentage:>3.0f} %  {task.fields[left]}"),
                console=Console(file=stream),
                expand=True,
            )
            self._task = self._bar.add_task("starting", total=1.0, left="")

    def __enter__(self) -> "Display":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def plan(self, name: str, estimate_s: float) -> None:
        """Add a task, or correct the estimate of one."""
        self._workload.plan(name, estimate_s)

    def advance(self, name: str, done_frac: float) -> None:
        """Show how much of the task at work is done, and the time left."""
        self._workload.advance(name, done_frac)
        now = perf_counter()
        total_frac = self._workload.done_frac()
        left = f"about {readable(self._workload.time_left_s(now - self._begin))} left"
        if self._bar:
            self._bar.update(self._task, completed=total_frac, description=name, left=left)
            return
        if name != self._last_name or now - self._last_line > _LINE_EVERY_S:
            self._stream.write(f"{name}: {total_frac:.0%} of everything done, {left}\n")
            self._stream.flush()
            self._last_line, self._last_name = now, name


def readable(seconds: float) -> str:
    """Return a duration for people.

    >>> readable(8.2), readable(75), readable(7300)
    ('8 s', '1 min 15 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
