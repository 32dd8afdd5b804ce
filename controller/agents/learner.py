"""What learners share: nets that learn, a generator, and files that hold all of it.

Responsible for going on from a checkpoint as if learning had never stopped. Not: acting, updates.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from controller.agents import checkpoint
from controller.agents.optimiser import LearntNet


class Learner(ABC):
    """Nets by name, the generator that they draw from, and exploring decisions so far."""

    def __init__(
        self, identity: Mapping[str, object], rng: np.random.Generator, **nets: LearntNet[Any]
    ) -> None:
        """Args: identity, what a checkpoint must share: kind, configuration, sizes."""
        self._identity, self._rng, self._nets = identity, rng, nets
        self._num_decisions = 0

    @abstractmethod
    def update(self, minibatch: Mapping[str, Tensor]) -> dict[str, float]:
        """Learn from one minibatch; return the metrics."""

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, moments and targets by name, as they are now (no copies)."""
        parts = (net.tensors(name) for name, net in self._nets.items())
        return {name: tensor for part in parts for name, tensor in part.items()}

    def save(self, stem: Path) -> None:
        """Write weights, moments, targets, counts and generator to ``stem``.safetensors, .json."""
        state = {
            "num_updates": {name: net.num_updates for name, net in self._nets.items()},
            "num_decisions": self._num_decisions,
            "rng": self._rng.bit_generator.state,
        }
        checkpoint.write(stem, self.tensors(), self._identity, state)

    def load(self, stem: Path) -> None:
        """Become what was saved, to go on as if never stopped; raises as ``checkpoint.read``."""
        tensors, state = checkpoint.read(stem, self._identity)
        self._restore(tensors)
        for name, net in self._nets.items():
            net.num_updates = state["num_updates"][name]
        self._num_decisions = state["num_decisions"]
        self._rng.bit_generator.state = state["rng"]

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])


def require_shape(
    name: str, array: NDArray[np.generic], num_envs: int, shape: tuple[int, ...]
) -> None:
    """Raise ValueError naming the array unless it is [env, ...] of this shape."""
    if array.shape != (num_envs, *shape):
        expected = f"{('env', *shape)} with env = {num_envs}"
        raise ValueError(f"{name} must have shape {expected}, got {array.shape}")
