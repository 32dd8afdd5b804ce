import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.downlink import Downlink


class Clock:
    """Time that passes only while somebody sleeps, always a little too long."""

    def __init__(self, lateness_s: float = 0.0) -> None:
        self.now_s = 100.0
        self.lateness_s = lateness_s

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.now_s += seconds + self.lateness_s


def transfer(data: bytes, rate_bps: float | None, clock: Clock, change=None) -> list[bytes]:
    async def scenario():
        downlink = Downlink(rate_bps, clock, clock.sleep)
        pieces = []
        async for chunk in downlink.chunks(data):
            assert chunk.offset_bytes == sum(map(len, pieces))
            assert chunk.total_bytes == len(data)
            pieces.append(chunk.data)
            if change and sum(map(len, pieces)) >= change[0]:
                downlink.rate_bps = change[1]
        return pieces

    return asyncio.run(scenario())


@given(
    st.binary(min_size=1, max_size=50_000),
    st.floats(1e3, 1e9),
    st.floats(0, 0.04),
)
def test_n_bytes_take_8_n_over_rate_however_late_the_loop_wakes(data, rate_bps, lateness_s):
    clock = Clock(lateness_s)
    assert b"".join(transfer(data, rate_bps, clock)) == data
    ideal_s = 8 * len(data) / rate_bps
    assert ideal_s - 1e-9 <= clock.now_s - 100 <= ideal_s + lateness_s + 1e-9


def test_a_new_rate_shows_in_mid_transfer():
    clock = Clock()
    transfer(bytes(20_000), 80_000.0, clock, change=(10_000, 160_000.0))
    assert clock.now_s - 100 == pytest.approx(1.0 + 0.5, abs=0.06)


def test_without_a_rate_nothing_waits():
    clock = Clock()
    pieces = transfer(bytes(200_000), None, clock)
    assert clock.now_s == 100
    assert max(map(len, pieces)) == 64 * 1024
