"""Named random streams: a new consumer shifts no other stream."""

from zlib import crc32

import numpy as np


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the generator of one purpose ("workload", "radio", ...) under a run's seed.

    >>> stream(7, "radio").integers(100) == stream(7, "radio").integers(100)
    np.True_
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(crc32(name.encode()),)))
