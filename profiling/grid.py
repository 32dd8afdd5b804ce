"""What is measured: the points of model × steps × batch × guidance, and their order.

Owns the plan as pure values. Refuses to run it. Every point has a key, so that a run cut off in the
middle goes on with the points that its samples lack.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class LatencyPoint:
    """One timed generation of ``batch`` images."""

    model: str
    num_steps: int
    batch: int
    guidance: float
    repeat: int


@dataclass(frozen=True, slots=True)
class QualityChunk:
    """Prompts ``first .. first + count - 1``, generated together and scored."""

    model: str
    num_steps: int
    guidance: float
    first: int
    count: int

    def indices(self) -> range:
        """Return the numbers of its prompts."""
        return range(self.first, self.first + self.count)


def latency_points(
    model: str,
    num_steps: Sequence[int],
    batches: Sequence[int],
    guidance: float,
    repeats: int,
    rng: np.random.Generator,
) -> list[LatencyPoint]:
    """Return every timed point; each repeat visits all points in an order of its own.

    Interleaving spreads a disturbance of the machine over all points instead of spoiling one.
    """
    cells = [(steps, batch) for batch in batches for steps in num_steps]
    return [
        LatencyPoint(model, cells[cell][0], cells[cell][1], guidance, repeat)
        for repeat in range(repeats)
        for cell in rng.permutation(len(cells))
    ]


def quality_chunks(
    model: str, num_steps: Sequence[int], guidance: float, num_images: int, chunk: int
) -> list[QualityChunk]:
    """Return the chunks of ``num_images`` prompts at every step count, prompts first.

    All step counts of a prompt come before the next prompts: stopped early, a run is balanced.
    """
    return [
        QualityChunk(model, steps, guidance, first, min(chunk, num_images - first))
        for first in range(0, num_images, chunk)
        for steps in num_steps
    ]


def missing(
    chunks: Sequence[QualityChunk], done: Collection[tuple[int, int]]
) -> list[QualityChunk]:
    """Return the chunks that lack an image; ``done`` holds (num_steps, prompt index)."""
    return [
        chunk
        for chunk in chunks
        if any((chunk.num_steps, index) not in done for index in chunk.indices())
    ]


def affordable_images(
    seconds_per_image: Sequence[float], budget_s: float, floor: int, ceiling: int, chunk: int
) -> int:
    """Return how many prompts every model can have within the budget, in whole chunks.

    ``seconds_per_image`` says for each model what one prompt costs at all of its step counts. Never
    fewer than ``floor``, even over the budget: below it the means say little.

    >>> affordable_images([0.5, 1.0], budget_s=150, floor=32, ceiling=256, chunk=32)
    96
    """
    total = sum(seconds_per_image)
    wanted = int(budget_s / total) if total > 0 else ceiling
    whole = wanted // chunk * chunk
    return max(min(whole, ceiling), floor)
