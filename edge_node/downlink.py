"""The downlink: image bytes leave in chunks at the granted rate, which may change meanwhile."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from protos.messages import ImageChunk

_CHUNK_S = 0.05
"""A chunk takes about this long, so that a new rate shows at once."""
_MIN_CHUNK_BYTES, _MAX_CHUNK_BYTES = 64, 64 * 1024


class Downlink:
    """Paces one transfer: a chunk is released when its last bit would have left.

    Lateness of the event loop is made up by the next chunk, so that n bytes take 8 n / rate.
    """

    def __init__(
        self,
        rate_bps: float | None,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Prepare a transfer at ``rate_bps``; None leaves the pace to the connection."""
        self.rate_bps = rate_bps
        self._clock = clock
        self._sleep = sleep

    async def chunks(self, data: bytes) -> AsyncIterator[ImageChunk]:
        """Yield the data's chunks, each at its time."""
        due_s, offset = self._clock(), 0
        while offset < len(data):
            rate = self.rate_bps or math.inf
            size = int(min(max(rate * _CHUNK_S / 8, _MIN_CHUNK_BYTES), _MAX_CHUNK_BYTES))
            piece = data[offset : offset + size]
            due_s += 8 * len(piece) / rate
            if (early_s := due_s - self._clock()) > 0:
                await self._sleep(early_s)
            yield ImageChunk(offset_bytes=offset, total_bytes=len(data), data=piece)
            offset += len(piece)
