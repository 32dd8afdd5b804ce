"""The most denoiser rows of a call: measured on the device when a model is first loaded."""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress

from protos.errors import OverloadedError

SIZES = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = 5
ENOUGH_S = 2.0
"""No further round after this much timed: a call of a large model on a CPU takes many seconds."""
LONG_CALL_S = 0.25
"""Nothing larger than a call this long is tried: everybody in it would wait for twice that."""
LOSS_FRAC = 0.05
"""What a row may cost above the least, for the sake of a smaller call, which is over sooner."""


async def measured(call_s: Callable[[int], Awaitable[float]]) -> int:
    """Return the fewest rows whose time per row is within 5 % of the least of all sizes.

    Sizes take turns, and each one's best call counts: whatever disturbs the device for a moment
    disturbs one call of some sizes. Sizes that memory is too small for are left out.

    Args:
        call_s: makes a call with so many rows and returns its seconds; OverloadedError where
            memory is full.
    """
    best_s: dict[int, float] = {}
    timed_s = 0.0
    with suppress(OverloadedError):
        for _ in range(ROUNDS):
            for num_rows in SIZES:
                if num_rows not in best_s:
                    await call_s(num_rows)  # the first one allocates, and may tune or compile
                    best_s[num_rows] = math.inf
                now_s = await call_s(num_rows)
                timed_s += now_s
                best_s[num_rows] = min(best_s[num_rows], now_s)
                if best_s[num_rows] > LONG_CALL_S:
                    break
            if timed_s > ENOUGH_S:
                break
    row_s = {num_rows: took_s / num_rows for num_rows, took_s in best_s.items()}
    least_s = min(row_s.values(), default=math.inf)
    return next((n for n, each_s in row_s.items() if each_s <= least_s * (1 + LOSS_FRAC)), 1)
