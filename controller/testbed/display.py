"""What a run shows while it goes: a live table on a terminal, plain lines elsewhere.

Responsible for wording and layout. Not: where the numbers come from.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from controller.record.request_log import Averages
from protos.messages import RunStatus
from protos.progress import time_left

_LINE_EVERY_S = 10.0
_TICK_S = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A run at one moment."""

    status: RunStatus
    averages: Averages
    num_slots_per_frame: int
    has_begun: bool
    """The first models are loaded and the clock runs."""
    left_s: float
    problem: str = ""
    """The latest caching decision that a node refused, and why."""


class Display:
    """Shows one run on a console."""

    def __init__(self, console: Console | None = None) -> None:
        """Prepare a display; standard output by default."""
        self._console = console or Console(highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False)

    async def keep_showing(self, snapshot: Callable[[], Snapshot]) -> None:
        """Show the run until cancelled; its last state stays."""
        if not self._console.is_terminal:
            await self._keep_printing(snapshot)
            return
        with Live(console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    live.update(table(snapshot()), refresh=True)
                    await asyncio.sleep(_TICK_S)
            finally:
                live.update(table(snapshot()), refresh=True)

    async def _keep_printing(self, snapshot: Callable[[], Snapshot]) -> None:
        try:
            while True:
                self.say(line(snapshot()))
                await asyncio.sleep(_LINE_EVERY_S)
        finally:
            self.say(line(snapshot()))


def progress(snapshot: Snapshot) -> str:
    """Return where the run is.

    The frame and slot are counted from 1, as people do.
    """
    if not snapshot.has_begun:
        return "loading the first models"
    status = snapshot.status
    return (
        f"frame {status.frame + 1}/{status.num_frames}, "
        f"slot {status.slot + 1}/{snapshot.num_slots_per_frame}, {time_left(snapshot.left_s)}"
    )


def line(snapshot: Snapshot) -> str:
    """Return the run as one line."""
    status, averages = snapshot.status, snapshot.averages
    held = "; ".join(
        f"{node.node_id} {'holds ' + _names(node.resident_models) if node.is_alive else 'is lost'}"
        for node in status.nodes
    )
    return (
        f"{progress(snapshot)}: {status.num_served} served, {status.num_rejected} rejected, "
        f"{status.num_failed} failed, {status.num_open} open; hit ratio {averages.hit_frac:.0%}, "
        f"latency {averages.total_s:.2f} s, utility {averages.utility:.3f}; {held}"
        + (f"; {snapshot.problem}" if snapshot.problem else "")
    )


def table(snapshot: Snapshot) -> Group:
    """Return the run as a table of numbers and one of nodes."""
    status, averages = snapshot.status, snapshot.averages
    numbers = Table(title=progress(snapshot), title_justify="left", title_style="bold")
    values = {
        "served": status.num_served,
        "rejected": status.num_rejected,
        "failed": status.num_failed,
        "open": status.num_open,
        "hit ratio": f"{averages.hit_frac:.0%}",
        "mean latency": f"{averages.total_s:.2f} s",
        "utility": f"{averages.utility:.3f}",
    }
    for name in values:
        numbers.add_column(name, justify="right")
    numbers.add_row(*map(str, values.values()))
    nodes = Table("node", "role", "address", "state", "models held")
    for node in status.nodes:
        state = Text("answers", "green") if node.is_alive else Text("lost", "bold red")
        nodes.add_row(
            node.node_id, node.role.name.lower(), node.address, state, _names(node.resident_models)
        )
    return Group(numbers, nodes, Text(snapshot.problem, "red"))


def _names(models: tuple[str, ...]) -> str:
    return ", ".join(models) or "nothing"
