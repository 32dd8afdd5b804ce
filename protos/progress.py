"""Progress for people: the time left, and one line that does not flood a log.

Responsible for how both look in every program. Not: how far the work is.
"""

from time import perf_counter

from rich.console import Console


def time_left(seconds: float) -> str:
    """Return the time left as minutes and seconds, with hours where there are some.

    >>> time_left(8.2), time_left(75), time_left(7300)
    ('0:08 left', '1:15 left', '2:01:40 left')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} left"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} left"


class StatusLine:
    """A line on a console: rewritten each second on a terminal, printed every 10 s elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        """Prepare a line; on standard output by default."""
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._shown_s = perf_counter()

    def show(self, text: str, *, is_due: bool = False) -> None:
        """Show the line if it is time, or if it is due (a new task, the last line)."""
        is_terminal, now_s = self._console.is_terminal, perf_counter()
        if is_due or now_s - self._shown_s >= (1.0 if is_terminal else 10.0):
            self._shown_s = now_s
            end = "\r" if is_terminal and not is_due else "\n"
            self._console.print(text, markup=False, end=end)
