"""When a device has done what it was given: at once on a CPU, later on a GPU.

A mark stands for all that was launched before it. Called in the device thread only.
"""

import time
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """A device's own time.

    begun = clock.mark()
    ...                                    # launch work
    ended = clock.mark()
    used_s = clock.wait_s(begun, ended)    # until the work is done
    """

    runs_ahead: bool
    """A launch returns before its work is done, so the next one can be made ready meanwhile."""

    def mark(self) -> Any:
        """Return a mark behind everything launched so far."""

    def wait_s(self, begun: Any, ended: Any) -> float:
        """Wait until the device has reached ``ended``; return its seconds between two marks."""


class HostClock:
    """A CPU's: what was launched is done."""

    runs_ahead = False

    def mark(self) -> float:
        """Return the time."""
        return time.perf_counter()

    def wait_s(self, begun: float, ended: float) -> float:
        """Return the seconds between two marks."""
        return ended - begun


class CudaClock:
    """A GPU's: marks are events of its stream; who waits for one sleeps."""

    runs_ahead = True

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mark(self) -> torch.cuda.Event:
        """Return an event behind everything in the stream."""
        event = torch.cuda.Event(  # type: ignore[no-untyped-call]
            enable_timing=True, blocking=True
        )
        event.record(torch.cuda.current_stream(self._device))
        return event

    def wait_s(self, begun: torch.cuda.Event, ended: torch.cuda.Event) -> float:
        """Sleep until the stream has reached ``ended``; return the seconds between two events."""
        ended.synchronize()
        return begun.elapsed_time(ended) / 1000


def clock_of(device: torch.device) -> Clock:
    """Return a device's clock."""
    return CudaClock(device) if device.type == "cuda" else HostClock()
