"""Caching model by model: double DQN where there are too many subsets to enumerate.

One frame's decision becomes M small ones, in the order of the models: hold this one, or not, given
what was taken before and the bytes that remain. A small decision has two actions, and "hold" is
infeasible where the model does not fit. Rewards inside a frame are 0 and undiscounted; the last
small decision earns the frame's reward and is followed by the next frame's first. So the values
are those of the whole decision, and every subset that fits can be reached.

Responsible for that translation. Not: learning (ddqn.py).

Source: Metz et al. 2017 (discrete sequential prediction of actions). Departs: one net for all
positions, and the double-DQN target between them.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from controller.agents.ddqn import Ddqn, DdqnConfig
from controller.agents.replay import Fields
from protos.config import require

HOLD = 1
"""The action that takes a model; 0 leaves it."""


def replay_fields(feature_dim: int, num_models: int) -> Fields:
    """Return what one transition holds."""
    return {
        "features": ((feature_dim,), torch.float32),
        "subset": ((num_models,), torch.bool),
        "reward": ((), torch.float32),
        "continues": ((), torch.bool),
        "next_features": ((feature_dim,), torch.float32),
    }


class SequentialCache(Ddqn):
    """A double DQN that is asked about one model after the other."""

    def __init__(
        self,
        config: DdqnConfig,
        feature_dim: int,
        model_bytes: tuple[int, ...],
        capacity_bytes: int,
        rng: np.random.Generator,
    ) -> None:
        require(capacity_bytes > 0, f"capacity_bytes must be > 0, got {capacity_bytes}")
        self._sizes = np.asarray(model_bytes, np.int64)
        self._capacity = capacity_bytes
        num_models = len(model_bytes)
        super().__init__(config, feature_dim + 2 * num_models + 1, 2, rng)

    def choose(self, features: NDArray[np.float32], *, explore: bool) -> NDArray[np.bool_]:
        """Return one subset of models [env, model] that fits the capacity.

        Args:
            features: [env, D], finite.
            explore: Whether to draw a random subset that fits, with the chance ``epsilon``.
        """
        num_envs, num_models = len(features), len(self._sizes)
        explores = self.explorers(num_envs) if explore else np.zeros(num_envs, bool)
        subset = np.zeros((num_envs, num_models), bool)
        for position in range(num_models):
            states, feasible = self._decisions(features, subset, position)
            action = self.best(states, feasible)
            if explores.any():
                action = np.where(explores, self.draw(feasible), action)
            subset[:, position] = action == HOLD
        return subset

    def update(self, minibatch: Mapping[str, Tensor]) -> dict[str, float]:
        """Learn from all small decisions of a minibatch; return the metrics of ``Ddqn.update``."""
        features, subset = minibatch["features"].numpy(), minibatch["subset"].numpy()
        count, num_models = subset.shape
        steps = [self._decisions(features, subset, position) for position in range(num_models)]
        following = self._decisions(minibatch["next_features"].numpy(), np.zeros_like(subset), 0)
        states, feasible = zip(*steps, following, strict=True)

        is_last = torch.zeros((num_models, count))
        is_last[-1] = 1.0
        discount = 1 - is_last + is_last * self._config.discount * minibatch["continues"]
        small = {
            "features": torch.from_numpy(np.concatenate(states[:-1])),
            "action": torch.from_numpy(subset.T.reshape(-1).astype(np.int64)),
            "reward": (is_last * minibatch["reward"]).reshape(-1),
            "next_features": torch.from_numpy(np.concatenate(states[1:])),
            "next_feasible": torch.from_numpy(np.concatenate(feasible[1:])),
        }
        return self.learn(small, discount.reshape(-1))

    def _decisions(
        self, features: NDArray[np.float32], subset: NDArray[np.bool_], position: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return a small decision's features [env, D + 2M + 1] and feasible actions [env, 2]."""
        num_envs, num_models = subset.shape
        taken = np.zeros((num_envs, num_models), np.float32)
        taken[:, :position] = subset[:, :position]
        free = self._capacity - subset[:, :position] @ self._sizes[:position]
        which = np.zeros((num_envs, num_models), np.float32)
        which[:, position] = 1.0
        free_frac = (free / self._capacity).astype(np.float32)[:, None]
        states = np.concatenate([features, which, taken, free_frac], 1)
        feasible = np.stack([np.ones(num_envs, bool), self._sizes[position] <= free], 1)
        return states, feasible
