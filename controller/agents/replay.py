"""Uniform replay: transitions of many environments in arrays that are allocated once.

Responsible for storage, the draw of minibatches, and their exact copy on disk. Not: what the fields
mean.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from controller.agents import checkpoint
from controller.agents.learner import require_shape
from protos.config import require

Fields = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Name -> (shape of one transition's value, dtype)."""


class Replay:
    """The latest ``capacity`` transitions; the oldest make room."""

    def __init__(self, fields: Fields, capacity: int, rng: np.random.Generator) -> None:
        require(capacity >= 1, f"capacity must be >= 1, got {capacity}")
        self._capacity = capacity
        self._rng = rng
        self._arrays = {
            name: torch.zeros((capacity, *shape), dtype=dtype)
            for name, (shape, dtype) in fields.items()
        }
        self._next = 0  # where the next transition goes
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, transitions: Mapping[str, NDArray[np.generic]]) -> None:
        """Store one transition of each environment: arrays [env, ...] for exactly the fields.

        Raises:
            ValueError: a field too many or too few, a wrong shape, or more than fit at once.
        """
        are_fields = transitions.keys() == self._arrays.keys()
        require(are_fields, f"fields must be {sorted(self._arrays)}, got {sorted(transitions)}")
        count = len(next(iter(transitions.values())))
        require(count <= self._capacity, f"at most {self._capacity} fit at once, got {count}")
        fit = min(count, self._capacity - self._next)
        for name, values in transitions.items():
            array = self._arrays[name]
            require_shape(name, values, count, tuple(array.shape[1:]))
            new = torch.from_numpy(np.ascontiguousarray(values))
            array[self._next : self._next + fit] = new[:fit]
            array[: count - fit] = new[fit:]
        self._next = (self._next + count) % self._capacity
        self._size = min(self._size + count, self._capacity)

    def sample(self, minibatch: int) -> dict[str, Tensor]:
        """Return ``minibatch`` transitions, drawn uniformly with replacement; ValueError: none."""
        require(self._size > 0, "the replay is empty")
        drawn = torch.from_numpy(self._rng.integers(self._size, size=minibatch))
        return {name: array.index_select(0, drawn) for name, array in self._arrays.items()}

    def save(self, stem: Path) -> None:
        """Write everything to ``stem``.safetensors and ``stem``.json."""
        tensors = {name: array[: self._size] for name, array in self._arrays.items()}
        state = {"size": self._size, "next": self._next, "rng": self._rng.bit_generator.state}
        checkpoint.write(stem, tensors, self._identity(), state)

    def load(self, stem: Path) -> None:
        """Become what was saved, the next draw included; raises as ``checkpoint.read``."""
        tensors, state = checkpoint.read(stem, self._identity())
        self._size, self._next = state["size"], state["next"]
        self._rng.bit_generator.state = state["rng"]
        for name, array in self._arrays.items():
            array[: self._size] = tensors[name]

    def _identity(self) -> dict[str, object]:
        fields = {
            name: f"{array.dtype} {list(array.shape[1:])}" for name, array in self._arrays.items()
        }
        return {"kind": "replay", "capacity": self._capacity, **fields}
