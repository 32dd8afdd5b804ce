"""What the evaluation says of a model's images: quality against steps, distances, tests.

Pure functions of arrays. Not: generating images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

Array = np.ndarray
_RESAMPLES = 2000
_FID_RESAMPLES = 400


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def estimate(values: Array, rng: np.random.Generator) -> Estimate:
    """Return the mean of values [n] and its interval over resampled prompts."""
    rows = rng.integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.quantile(values[rows].mean(axis=1), (0.025, 0.975))
    return Estimate(float(values.mean()), float(low), float(high))


def better_p(ahead: Array, behind: Array, rng: np.random.Generator) -> float:
    """Return the one-sided p-value that ``ahead`` is not better: paired by prompt, signs flipped.

    Source: Fisher 1935, by ``scipy.stats.permutation_test``.
    """
    found = stats.permutation_test(
        (ahead, behind),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=_RESAMPLES,
        alternative="greater",
        rng=rng,
    )
    return float(found.pvalue)


class Reference:
    """Real images' features [n, d], which others are compared with (Heusel et al. 2017)."""

    def __init__(self, real: Array) -> None:
        self._mean = real.mean(axis=0)
        covariance = np.atleast_2d(np.cov(real, rowvar=False))
        values, vectors = np.linalg.eigh(covariance)
        self._root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
        self._trace = float(np.trace(covariance))

    def distance(self, features: Array) -> float:
        """Return the Fréchet distance of features [m, d].

        The trace of (C_real C)^½ is that of (C_real^½ C C_real^½)^½, which is symmetric.
        """
        shift = float(np.square(features.mean(axis=0) - self._mean).sum())
        covariance = np.atleast_2d(np.cov(features, rowvar=False))
        shared = np.linalg.eigvalsh(self._root @ covariance @ self._root)
        both = self._trace + float(np.trace(covariance))
        return shift + both - 2 * float(np.sqrt(np.maximum(shared, 0)).sum())

    def nearer_p(self, ahead: Array, behind: Array, rng: np.random.Generator) -> float:
        """Return the one-sided p-value that ``ahead`` [m, d] is not nearer than ``behind``.

        Features of one prompt change places at random.
        """

        def gain(x: Array, y: Array) -> float:
            return self.distance(y) - self.distance(x)

        measured = gain(ahead, behind)
        swapped = [
            gain(np.where(is_swapped, behind, ahead), np.where(is_swapped, ahead, behind))
            for is_swapped in rng.random((_FID_RESAMPLES, len(ahead), 1)) < 0.5
        ]
        return (1 + sum(value >= measured for value in swapped)) / (1 + _FID_RESAMPLES)


def share_of_range(quality: Mapping[int, float], num_steps: int) -> float:
    """Return how much of a model's own range, fewest steps to best, a step count reaches.

    >>> share_of_range({1: 0.1, 4: 0.4, 50: 0.7}, 4)
    0.5

    A model that is nowhere better than at its fewest steps is at the end of its range there.
    """
    least, best = quality[min(quality)], max(quality.values())
    return round((quality[num_steps] - least) / (best - least), 6) if best > least else 1.0


def steps_to_share(quality: Mapping[int, float], share: float) -> int:
    """Return the fewest measured steps that reach a share of the model's own range.

    >>> steps_to_share({1: 0.1, 4: 0.4, 16: 0.66, 50: 0.7}, 0.9)
    16
    """
    return min(steps for steps in quality if share_of_range(quality, steps) >= share)


def pareto(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Return the points (name, seconds, quality) that no other beats in both, by seconds.

    >>> pareto([("a", 1.0, 0.5), ("b", 2.0, 0.4), ("c", 3.0, 0.9)])
    [('a', 1.0, 0.5), ('c', 3.0, 0.9)]
    """
    front: list[tuple[str, float, float]] = []
    for point in sorted(points, key=lambda p: (p[1], -p[2])):
        if not front or point[2] > front[-1][2]:
            front.append(point)
    return front
