"""Resource-quality curves: their families, their fits, and how sure the fits are.

Responsible for mathematics: arrays in, parameters out. Not: files, models and clocks.

    s    denoising steps                 (code: steps)
    A1   first knee, steps               A2   quality below it
    A3   second knee, steps              A4   quality above it
    B1   seconds for a denoising step    B2   seconds of overhead
    w    how far the curve has come, 0 to 1
    θ    what makes w non-linear: (A1, A3), τ or p

Every quality family is ``start + rise * w(s; θ)``. Given θ, start and rise are a linear regression,
so only θ is searched: a dense grid of starts, then ever smaller grids around the best of them, for
all curves at once. (No gradients: the error of a curve with knees has kinks.) A rise below 0 is a
falling curve (FID), with nothing changed.

Source: linear with saturation: Du et al. 2024 (AGOD, arXiv 2303.13052). Variable projection:
Golub, Pereyra 1973. Bootstrap percentile intervals: Efron 1979.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_GRID = 33
_SAME = 1e-9
_NUM_STARTS = 8
_ROUNDS = 16
_SHRINK = 0.4


def linear_saturation(steps: ArrayLike, a1: float, a2: float, a3: float, a4: float) -> Array:
    """Return the curve of record: A2 up to A1 steps, a line to A4 at A3 steps, flat after.

    >>> [float(q) for q in linear_saturation([1, 4, 10, 50], 2, 20.0, 10, 28.0)]
    [20.0, 22.0, 28.0, 28.0]
    """
    s = np.asarray(steps, float)
    return np.asarray(a2 + (a4 - a2) * _ramp(s, np.array([a1, a3])).reshape(s.shape))


def affine(steps: ArrayLike, b1: float, b2: float) -> Array:
    """Return the latency ``B1 * steps + B2``, in seconds.

    >>> float(affine(10, 0.02, 0.1))
    0.30000000000000004
    """
    return b1 * np.asarray(steps, float) + b2


@dataclass(frozen=True, slots=True)
class Family:
    """A shape ``w(steps; θ)`` and where its θ lie."""

    name: str
    num_theta: int
    shape: Callable[[Array, Array], Array]
    """(steps [s], theta [..., k]) -> w [..., s]."""
    bounds: Callable[[Array], tuple[float, float]]
    """steps [s] -> the least and the most of every theta."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A family's fitted curve, ``start + rise * w(steps; θ)``."""

    family: Family
    theta: tuple[float, ...]
    start: float
    rise: float

    def __call__(self, steps: ArrayLike) -> Array:
        """Return the curve's value at each number of steps."""
        return self.start + self.rise * self.family.shape(
            np.asarray(steps, float), np.array(self.theta)
        )

    def knees(self) -> tuple[float, float, float, float]:
        """Return (A1, A2, A3, A4); meaningful for the family of record only."""
        if self.family is not LINEAR_SATURATION:
            raise ValueError(f"only linear_saturation has knees, not {self.family.name}")
        return (self.theta[0], self.start, self.theta[1], self.start + self.rise)


def _ramp(steps: Array, theta: Array) -> Array:
    first, second = theta[..., 0, None], theta[..., 1, None]
    return np.clip((steps - first) / np.maximum(second - first, _SAME), 0.0, 1.0)


def _starts(family: Family, steps: Array) -> Array:
    """Return the theta [n, k] worth starting from."""
    if family is not LINEAR_SATURATION:
        return np.geomspace(*family.bounds(steps), 4 * _GRID)[:, None]
    inner = np.geomspace(steps.min(), steps.max(), _GRID)
    knees = np.unique(np.concatenate([steps, inner]))
    first, second = (axis.ravel() for axis in np.meshgrid(knees, knees, indexing="ij"))
    pairs = np.stack([first, second], axis=-1)[second > first * (1 + 1e-6)]
    # Widest ramp first: where data cannot tell two ramps apart, the gentler one is taken.
    return np.asarray(pairs[np.argsort(pairs[:, 0] / pairs[:, 1], kind="stable")])


LINEAR_SATURATION = Family(
    "linear_saturation", 2, _ramp, lambda s: (float(s.min()), float(s.max()))
)
EXPONENTIAL = Family(
    "exponential",
    1,
    lambda steps, theta: 1.0 - np.exp(-steps / theta[..., 0, None]),
    lambda s: (0.1 * float(s.min()), 4.0 * float(s.max())),
)
POWER = Family(
    "power", 1, lambda steps, theta: 1.0 - steps ** -theta[..., 0, None], lambda _: (0.05, 5.0)
)
FAMILIES: Mapping[str, Family] = {
    family.name: family for family in (LINEAR_SATURATION, EXPONENTIAL, POWER)
}


def fit_many(family: Family, steps: ArrayLike, values: ArrayLike) -> list[Fit]:
    """Return the least-squares fit of each row of ``values`` [n, s] at ``steps`` [s].

    Raises:
        ValueError: fewer than three step counts, a step below 1, or a value that is not finite.
    """
    s, rows = np.asarray(steps, float), np.atleast_2d(np.asarray(values, float))
    if len(s) < 3 or len(set(s)) < len(s) or s.min() < 1:
        raise ValueError(f"a fit needs >= 3 different step counts >= 1, got {s.tolist()}")
    if rows.shape[1] != len(s) or not np.isfinite(rows).all():
        raise ValueError(f"values must be finite, one for each of {len(s)} step counts")
    starts = _starts(family, s)
    order = np.argsort(_errors(family.shape(s, starts)[None], rows), axis=1, kind="stable")
    thetas = [_refine(family, s, rows, starts[order[:, rank]]) for rank in range(_NUM_STARTS)]
    errors = [_errors(family.shape(s, theta[:, None]), rows)[:, 0] for theta in thetas]
    chosen = np.stack(thetas)[np.argmin(errors, axis=0), np.arange(len(rows))]
    return [
        Fit(family, tuple(float(value) for value in theta), *_regress(family.shape(s, theta), row))
        for theta, row in zip(chosen, rows, strict=True)
    ]


def fit(family: Family, steps: ArrayLike, values: ArrayLike) -> Fit:
    """Return the least-squares fit of one curve: ``values`` [s] at ``steps`` [s]."""
    return fit_many(family, steps, values)[0]


def fit_affine(steps: ArrayLike, seconds: ArrayLike) -> tuple[float, float]:
    """Return (B1, B2) by least squares on relative errors: timing noise grows with the time.

    Raises:
        ValueError: fewer than two step counts, or a time that is not above 0.
    """
    s, t = np.asarray(steps, float), np.asarray(seconds, float)
    if len(set(s)) < 2 or not (t > 0).all():
        raise ValueError(f"needs >= 2 step counts and times > 0, got {s.tolist()}, {t.tolist()}")
    design = np.stack([s, np.ones_like(s)], axis=1) / t[:, None]
    b1, b2 = np.linalg.lstsq(design, np.ones_like(t), rcond=None)[0]
    return float(b1), float(b2)


def held_out_rmse(family: Family, steps: ArrayLike, values: ArrayLike) -> float:
    """Return the error of predicting each step count from a fit of all the others."""
    s, v = np.asarray(steps, float), np.asarray(values, float)
    kept = [np.arange(len(s)) != out for out in range(len(s))]
    misses = [fit(family, s[k], v[k])(s[~k]) - v[~k] for k in kept]
    return float(np.sqrt(np.mean(np.square(misses))))


def affine_held_out_rmse(steps: ArrayLike, seconds: ArrayLike) -> float:
    """Return the same for the affine latency, in seconds."""
    s, t = np.asarray(steps, float), np.asarray(seconds, float)
    kept = [np.arange(len(s)) != out for out in range(len(s))]
    misses = [affine(s[~k], *fit_affine(s[k], t[k])) - t[~k] for k in kept]
    return float(np.sqrt(np.mean(np.square(misses))))


def resampled_means(samples: ArrayLike, count: int, rng: np.random.Generator) -> Array:
    """Return ``count`` bootstrap means [count, s] of ``samples`` [prompt, s].

    A prompt is drawn with its images at every step count: they share prompt and seed.
    """
    table = np.asarray(samples, float)
    drawn = rng.integers(len(table), size=(count, len(table)))
    weights = np.stack([np.bincount(row, minlength=len(table)) for row in drawn])
    return np.asarray(weights @ table / len(table))


def interval(replicates: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap replicates.

    >>> [round(end, 9) for end in interval(range(41))]
    [1.0, 39.0]
    """
    tail = 50 * (1 - level)
    low, high = np.percentile(np.asarray(replicates, float), [tail, 100 - tail])
    return float(low), float(high)


def _errors(shapes: Array, rows: Array) -> Array:
    """Return the error [n, m] of regressing each row [n, s] on each shape [n or 1, m, s].

    As a share of the row's own squares, rounded, so that ties (equal up to rounding) stay ties.
    """
    w = shapes - shapes.mean(-1, keepdims=True)
    y = rows - rows.mean(-1, keepdims=True)
    span = np.maximum(np.square(y).sum(-1), 1e-300)[:, None]
    gain = np.square((w @ y[..., None])[..., 0]) / np.maximum(np.square(w).sum(-1), 1e-300)
    return np.asarray(np.round(1 - gain / span, 13))


def _regress(w: Array, row: Array) -> tuple[float, float]:
    centred = w - w.mean()
    power = float(centred @ centred)
    rise = float(centred @ row) / power if power > 1e-18 else 0.0
    return float(row.mean() - rise * w.mean()), rise


def _refine(family: Family, steps: Array, rows: Array, theta: Array) -> Array:
    """Return better theta [n, k] near the given ones, for each row [n, s]."""
    low, high = np.log(family.bounds(steps))
    axis = np.linspace(-1, 1, 9)
    offsets = np.stack(np.meshgrid(*[axis] * family.num_theta), axis=-1)
    offsets = offsets.reshape(-1, family.num_theta)
    offsets = offsets[np.argsort(np.abs(offsets).sum(1), kind="stable")]  # in a tie nothing moves
    centre, reach = np.log(theta), (high - low) / _GRID
    for _ in range(_ROUNDS):
        trials = np.clip(centre[:, None] + reach * offsets, low, high)
        if family is LINEAR_SATURATION:
            trials = np.sort(trials, axis=-1)
        errors = _errors(family.shape(steps, np.exp(trials)), rows)
        centre = trials[np.arange(len(rows)), np.argmin(errors, axis=1)]
        reach *= _SHRINK
    return np.asarray(np.exp(centre))
