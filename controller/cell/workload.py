"""The requests of a run: who asks which model for what, and when.

Responsible for popularity (Zipf; its skew follows a Markov chain over frames, its ranking drifts)
and the draw of requests: the same seed gives the same ones. Not: how they are served.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.cell.config import WorkloadConfig
from protos.config import ConfigError, find

_LATEST_FRAC = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """One request of one emulated user."""

    slot_index: int
    """Slots since the run began; the request is made during it and decided at its end."""
    offset_frac: float
    """When in that slot, 0..0.9: the last tenth is for the call to arrive before the decision."""
    user: int
    model_id: str
    prompt: str
    seed: int


def read_prompts(name: str | Path) -> tuple[str, ...]:
    """Return the prompts of a file, one a line; blank lines and # lines are skipped.

    Args:
        name: the file, or the name of a shipped one.

    Raises:
        ConfigError: no such file, or no prompt in it.
    """
    path = find(name, "controller/configs")
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read workload.prompts {path}: {error.strerror}") from error
    prompts = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not prompts:
        raise ConfigError(f"workload.prompts {path} holds no prompt")
    return prompts


def zipf(count: int, skew: float) -> NDArray[np.float64]:
    """Return the probabilities of ranks 1..count, proportional to ``rank ** -skew``.

    >>> [round(float(p), 4) for p in zipf(3, 1.0)]
    [0.5455, 0.2727, 0.1818]
    """
    weights = np.arange(1, count + 1, dtype=float) ** -skew
    return np.asarray(weights / weights.sum())


class Popularity:
    """The probabilities of each model; ``step`` moves them on by one frame.

    ``shape`` is () for one run, or (env,) for as many side by side; it leads every array.
    """

    def __init__(
        self,
        config: WorkloadConfig,
        num_models: int,
        rng: np.random.Generator,
        shape: tuple[int, ...] = (),
    ) -> None:
        self._config = config
        self._rng = rng
        self._state = rng.integers(len(config.zipf_skews), size=shape)
        order = np.broadcast_to(np.arange(num_models), (*shape, num_models))
        self._ranking = rng.permuted(order, axis=-1)  # [..., rank] -> model
        self._zipf = np.stack([zipf(num_models, skew) for skew in config.zipf_skews])
        self._transitions = np.cumsum(config.transitions, axis=1)

    @property
    def skew(self) -> NDArray[np.float64]:
        """The Zipf skew [...] of this frame."""
        return np.asarray(self._config.zipf_skews)[self._state]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Chances [..., model] of this frame."""
        probabilities = np.empty(self._ranking.shape)
        np.put_along_axis(probabilities, self._ranking, self._zipf[self._state], axis=-1)
        return probabilities

    def step(self) -> None:
        """Move the skew's chain on and let the ranking drift."""
        self._state = _draw_index(self._transitions[self._state], self._rng, ())
        for rank in range(self._ranking.shape[-1] - 1):
            pair = self._ranking[..., rank : rank + 2]
            swaps = self._rng.random(self._state.shape) < self._config.drift_probability
            pair[...] = np.where(swaps[..., None], pair[..., ::-1], pair)


@dataclass(frozen=True, kw_only=True, slots=True)
class Requests:
    """One slot's requests; every array is [..., user]."""

    asks: NDArray[np.bool_]
    models: NDArray[np.int64]
    """Index of the model that is asked for, whether or not the user asks."""
    offset_frac: NDArray[np.float64]
    """When in the slot, 0..0.9."""


def draw_requests(
    config: WorkloadConfig,
    probabilities: NDArray[np.float64],
    num_users: int,
    rng: np.random.Generator,
) -> Requests:
    """Return the requests of one slot, models drawn by ``chances`` [..., model]."""
    shape = (*probabilities.shape[:-1], num_users)
    return Requests(
        asks=rng.random(shape) < config.request_probability,
        models=_draw_index(np.cumsum(probabilities, axis=-1), rng, (num_users,)),
        offset_frac=_LATEST_FRAC * rng.random(shape),
    )


def _draw_index(
    cumulative: NDArray[np.float64], rng: np.random.Generator, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return indices [..., *shape] drawn by cumulative probabilities [..., index]."""
    leading, count = cumulative.shape[:-1], cumulative.shape[-1]
    bounds = cumulative[..., :-1].reshape(*leading, *(1 for _ in shape), count - 1)
    return np.asarray((rng.random((*leading, *shape))[..., None] >= bounds).sum(axis=-1))


def draw(
    config: WorkloadConfig,
    *,
    num_frames: int,
    slots_per_frame: int,
    num_users: int,
    models: tuple[str, ...],
    prompts: tuple[str, ...],
    rng: np.random.Generator,
) -> tuple[Arrival, ...]:
    """Return every request of a run, in order of time."""
    popularity = Popularity(config, len(models), rng)
    arrivals: list[Arrival] = []
    for slot_index in range(num_frames * slots_per_frame):
        if slot_index and slot_index % slots_per_frame == 0:
            popularity.step()
        requests = draw_requests(config, popularity.probabilities, num_users, rng)
        lines = rng.integers(len(prompts), size=num_users)
        seeds = rng.integers(2**31, size=num_users)
        in_slot = [
            Arrival(
                slot_index=slot_index,
                offset_frac=float(requests.offset_frac[user]),
                user=int(user),
                model_id=models[requests.models[user]],
                prompt=prompts[lines[user]],
                seed=int(seeds[user]),
            )
            for user in np.flatnonzero(requests.asks)
        ]
        arrivals += sorted(in_slot, key=lambda arrival: arrival.offset_frac)
    return tuple(arrivals)
