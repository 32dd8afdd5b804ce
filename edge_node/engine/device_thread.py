"""The thread that owns a device: runs what it is asked to, and turns while there is work.

diffusers patches torch process-wide while it builds a model, so only this thread runs nets. Calls
run between turns, in order. A program can be this thread itself (``run``): OpenMP gives all cores
to the main thread of a process only (docs/explanation/engine.md). Otherwise the first call starts
one.
"""

import asyncio
import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class DeviceThread:
    """Runs ``turn`` as long as it returns True, and calls between turns; ``begin`` before all."""

    def __init__(self, turn: Callable[[], bool], begin: Callable[[], None]) -> None:
        self._turn = turn
        self._begin = begin
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._own: threading.Thread | None = None
        self._is_run = False
        self._starting = threading.Lock()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Be this thread until a coroutine ends, which runs in an event loop of another thread.

        In a process's main thread, SIGTERM and SIGINT cancel the coroutine.

        Raises:
            RuntimeError: the thread runs already.
            KeyboardInterrupt: a signal ended the coroutine.
        """
        if self._is_run or self._own:
            raise RuntimeError("the device's thread runs already")
        done: Future[T] = Future()
        task: Future[asyncio.Task[T]] = Future()
        # A daemon: where this loop breaks, the program ends with the error and waits for nothing.
        events = threading.Thread(
            target=_run_events, args=(main, task, done), name="events", daemon=True
        )
        self._is_run = True
        done.add_done_callback(lambda _: self._calls.put(None))
        with _cancelled_by_signals(task):
            events.start()
            self._loop()
            events.join()
        self._is_run = False
        try:
            return done.result()
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

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

        with self._starting:
            if not self._is_run and self._own is None:
                self._own = threading.Thread(target=self._loop, name="device", daemon=True)
                self._own.start()
        self._calls.put(work)
        return future

    def close(self) -> None:
        """Finish the queued calls and end the thread; under ``run`` it ends with the coroutine."""
        if self._own:
            self._calls.put(None)
            self._own.join()
            self._own = None

    def _loop(self) -> None:
        self._begin()
        has_turns = False
        while True:
            if has_turns and self._calls.empty():
                has_turns = self._turn()
                continue
            call = self._calls.get()
            if call is None:
                return
            call()
            has_turns = True


def _run_events(
    main: Coroutine[Any, Any, T], task: "Future[asyncio.Task[Any]]", done: "Future[T]"
) -> None:
    async def announced() -> T:
        own = asyncio.create_task(main)
        task.set_result(own)
        return await own

    try:
        done.set_result(asyncio.run(announced()))
    except BaseException as error:  # noqa: BLE001 - handed to the caller of run
        done.set_exception(error)


@contextlib.contextmanager
def _cancelled_by_signals(task: "Future[asyncio.Task[Any]]") -> Iterator[None]:
    """Cancel a task of another thread's event loop at SIGTERM and SIGINT."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to the main thread only
        return

    def cancel(known: "Future[asyncio.Task[Any]]") -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            known.result().get_loop().call_soon_threadsafe(known.result().cancel)

    before = {
        name: signal.signal(name, lambda *_: task.add_done_callback(cancel))
        for name in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
