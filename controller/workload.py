"""The requests of a run: who asks which model for what, and when.

Owns popularity (Zipf; its skew follows a Markov chain over frames, its ranking drifts) and the
draw of requests. Refuses to know how they are served. The same seed gives the same requests.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.config import WorkloadConfig
from protos.config import ConfigError

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


def read_prompts(path: Path) -> tuple[str, ...]:
    """Return the prompts of a file, one a line; blank lines and # lines are skipped.

    Raises:
        ConfigError: no such file, or no prompt in it.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read workload.prompts {path}: {error.strerror}") from error
    prompts = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not prompts:
        raise ConfigError(f"workload.prompts {path} holds no prompt")
    return prompts


def zipf(count: int, skew: float) -> NDArray[np.float64]:
    """Return the chances of ranks 1..count, proportional to ``rank ** -skew``.

    >>> [round(float(p), 4) for p in zipf(3, 1.0)]
    [0.5455, 0.2727, 0.1818]
    """
    weights = np.arange(1, count + 1, dtype=float) ** -skew
    return np.asarray(weights / weights.sum())


class Popularity:
    """The chances of each model; ``step`` moves them on by one frame."""

    def __init__(self, config: WorkloadConfig, num_models: int, rng: np.random.Generator) -> None:
        self._config = config
        self._rng = rng
        self._state = int(rng.integers(len(config.zipf_skews)))
        self._ranking = rng.permutation(num_models)  # [rank] -> model

    @property
    def skew(self) -> float:
        """The Zipf skew of this frame."""
        return self._config.zipf_skews[self._state]

    @property
    def chances(self) -> NDArray[np.float64]:
        """Chances [model] of this frame."""
        chances = np.empty(len(self._ranking))
        chances[self._ranking] = zipf(len(self._ranking), self.skew)
        return chances

    def step(self) -> None:
        """Move the skew's chain on and let the ranking drift."""
        row = self._config.transitions[self._state]
        self._state = int(self._rng.choice(len(row), p=row))
        for rank in range(len(self._ranking) - 1):
            if self._rng.random() < self._config.drift_probability:
                pair = [rank, rank + 1]
                self._ranking[pair] = self._ranking[pair[::-1]]


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
        asks = rng.random(num_users) < config.request_probability
        chosen = rng.choice(len(models), size=num_users, p=popularity.chances)
        lines = rng.integers(len(prompts), size=num_users)
        seeds = rng.integers(2**31, size=num_users)
        offsets = _LATEST_FRAC * rng.random(num_users)
        in_slot = [
            Arrival(
                slot_index=slot_index,
                offset_frac=float(offsets[user]),
                user=int(user),
                model_id=models[chosen[user]],
                prompt=prompts[lines[user]],
                seed=int(seeds[user]),
            )
            for user in np.flatnonzero(asks)
        ]
        arrivals += sorted(in_slot, key=lambda arrival: arrival.offset_frac)
    return tuple(arrivals)
