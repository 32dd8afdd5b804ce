"""The thread that owns a device: runs what it is asked to, and turns while there is work.

diffusers patches torch process-wide while it builds a model, so only this thread builds, moves or
runs nets. Calls run between turns, in order.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class DeviceThread:
    """Runs ``turn`` as long as it returns True, and calls between turns."""

    def __init__(self, turn: Callable[[], bool]) -> None:
        self._turn = turn
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function in the thread; a cancelled caller waits for its end too."""
        work = asyncio.wrap_future(self.submit(function, *args))
        cancelled = False
        while not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            work.exception()  # retrieved: nobody is there to hear of it
            raise asyncio.CancelledError
        return work.result()

    def submit(self, function: Callable[..., T], *args: Any) -> "Future[T]":
        """Queue a function for the thread and return its future."""
        future: Future[T] = Future()

        def work() -> None:
            try:
                future.set_result(function(*args))
            except BaseException as error:  # noqa: BLE001 - handed to the caller
                future.set_exception(error)

        self._calls.put(work)
        return future

    def close(self) -> None:
        """Finish the queued calls and end the thread."""
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        has_turns = False
        while True:
            try:
                call = self._calls.get(block=not has_turns)
            except queue.Empty:
                has_turns = self._turn()
                continue
            if call is None:
                return
            call()
            has_turns = True
