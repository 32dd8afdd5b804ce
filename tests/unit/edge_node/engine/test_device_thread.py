import asyncio
import os
import signal
import threading

import pytest

from edge_node.engine.device_thread import DeviceThread


def idle():
    return False


def test_run_makes_the_caller_the_devices_thread_and_returns_what_the_coroutine_does():
    begun = []
    thread = DeviceThread(idle, lambda: begun.append(threading.current_thread()))

    async def main():
        assert threading.current_thread() is not threading.main_thread()
        return await thread.call(threading.current_thread)

    here = threading.main_thread()
    assert thread.run(main()) is here
    assert thread.run(main()) is here  # and again
    assert begun == [here, here]


def test_without_run_the_first_call_starts_a_thread():
    thread = DeviceThread(idle, lambda: None)

    async def main():
        return {await thread.call(threading.get_ident) for _ in range(3)}

    used = asyncio.run(main())
    assert len(used) == 1
    assert threading.get_ident() not in used
    thread.close()


def test_turns_are_taken_while_there_is_work_and_calls_come_between():
    turns = []

    def turn():
        turns.append(1)
        return len(turns) < 5

    thread = DeviceThread(turn, lambda: None)

    async def main():
        await thread.call(turns.clear)
        while len(turns) < 5:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        return len(turns)

    assert thread.run(main()) == 5  # idle after the fifth said so


def test_an_error_of_the_coroutine_or_of_a_call_reaches_who_asked():
    thread = DeviceThread(idle, lambda: None)

    def fail():
        raise ValueError("a call's")

    async def main():
        with pytest.raises(ValueError, match="a call's"):
            await thread.call(fail)
        raise LookupError("the coroutine's")

    with pytest.raises(LookupError, match="the coroutine's"):
        thread.run(main())


def test_where_the_loop_breaks_the_caller_is_told_and_the_coroutine_not_waited_for():
    def fail():
        raise ValueError("no such number of threads")

    thread = DeviceThread(idle, fail)
    ends = threading.Event()

    async def main():
        await asyncio.to_thread(ends.wait)

    with pytest.raises(ValueError, match="no such number of threads"):
        thread.run(main())
    ends.set()


def test_a_thread_runs_only_once_at_a_time():
    thread = DeviceThread(idle, lambda: None)
    thread.submit(int).result()

    async def main():
        return None

    unused = main()
    with pytest.raises(RuntimeError, match="runs already"):
        thread.run(unused)
    unused.close()
    thread.close()


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_the_coroutine_which_may_still_use_the_device(name):
    thread = DeviceThread(idle, lambda: None)
    seen = []
    before = signal.getsignal(name)

    async def main():
        try:
            os.kill(os.getpid(), name)
            await asyncio.sleep(30)
        finally:
            seen.append(await thread.call(lambda: "cleaned up"))

    with pytest.raises(KeyboardInterrupt):
        thread.run(main())
    assert seen == ["cleaned up"]
    assert signal.getsignal(name) is before
