"""The stopwatch: seconds of the device's work, not of the call that queues it.

Owns clocks. Refuses to decide what is measured and how often.
"""

from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

import torch

T = TypeVar("T")


class Stopwatch:
    """A context manager that measures ``elapsed_s`` of its block, also when the block raises.

    On a CUDA device two events bracket the block on the current stream, so that queued kernels
    are waited for and the host's own waiting is not counted; elsewhere the monotonic clock is read.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.elapsed_s = 0.0
        self._device = torch.device(device)
        self._begin: float | torch.cuda.Event = 0.0

    def __enter__(self) -> "Stopwatch":
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            self._begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            self._begin.record(torch.cuda.current_stream(self._device))
        else:
            self._begin = perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self._begin, float):
            self.elapsed_s = perf_counter() - self._begin
            return
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end.record(torch.cuda.current_stream(self._device))
        end.synchronize()
        self.elapsed_s = self._begin.elapsed_time(end) / 1000  # the event's unit is 1e-3 s


def measure(action: Callable[[], T], device: str = "cpu") -> tuple[T, float]:
    """Return what ``action`` returns and the seconds that it took."""
    watch = Stopwatch(device)
    with watch:
        value = action()
    return value, watch.elapsed_s
