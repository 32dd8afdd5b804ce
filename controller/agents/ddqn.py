"""Double DQN over feasible actions: which models a node caches, learnt per frame.

Responsible for the Q-net, the mask of infeasible actions, exploration and one update. Not: what an
action stands for. With all subsets of models as actions it decides in one go; sequential_cache.py
asks it about one model at a time where there are too many subsets.

Source: van Hasselt, Guez, Silver 2016. Departures: docs/explanation/algorithms.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from controller.agents import losses
from controller.agents.learner import Learner, require_shape
from controller.agents.networks import draw_weights, mlp
from controller.agents.optimiser import LearntNet
from controller.agents.replay import Fields
from protos.config import require, require_positive


@dataclass(frozen=True, kw_only=True, slots=True)
class DdqnConfig:
    """How caching is learnt."""

    hidden: int = 64
    """Units of each of the two hidden layers."""
    discount: float = 0.5
    """Worth of the next frame, 0..1."""
    learning_rate: float = 1e-3
    """Adam's."""
    tau: float = 0.005
    """How far the target net moves to the learnt one at each update."""
    epsilon_start: float = 1.0
    """Chance of a random feasible action at the first decision."""
    epsilon_end: float = 0.05
    """The same after ``epsilon_decisions``, and from then on."""
    epsilon_decisions: int = 1000
    """Exploring decisions over which the chance falls on a line."""

    def __post_init__(self) -> None:
        require_positive(self, "hidden", "epsilon_decisions", "learning_rate")
        for name in ("discount", "epsilon_start", "epsilon_end"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} must be 0..1, got {value}")
        require(0 < self.tau <= 1, f"tau must be > 0 and <= 1, got {self.tau}")


def epsilon(config: DdqnConfig, num_decisions: int) -> float:
    """Return the chance of a random action after ``num_decisions`` exploring decisions.

    >>> epsilon(DdqnConfig(epsilon_start=1.0, epsilon_end=0.2, epsilon_decisions=100), 50)
    0.6
    """
    done_frac = min(num_decisions / config.epsilon_decisions, 1.0)
    return config.epsilon_start + done_frac * (config.epsilon_end - config.epsilon_start)


def replay_fields(feature_dim: int, num_actions: int) -> Fields:
    """Return what one transition holds."""
    return {
        "features": ((feature_dim,), torch.float32),
        "action": ((), torch.int64),
        "reward": ((), torch.float32),
        "continues": ((), torch.bool),
        "next_features": ((feature_dim,), torch.float32),
        "next_feasible": ((num_actions,), torch.bool),
    }


class Ddqn(Learner):
    """A Q-net, asked for actions and taught."""

    def __init__(
        self, config: DdqnConfig, feature_dim: int, num_actions: int, rng: np.random.Generator
    ) -> None:
        self._config = config
        self._feature_dim, self._num_actions = feature_dim, num_actions
        net = mlp(feature_dim, config.hidden, config.hidden, num_actions)
        draw_weights(net, rng)
        self._q: LearntNet[nn.Module] = LearntNet(net, config.learning_rate, config.tau)
        sizes = {"feature_dim": feature_dim, "num_actions": num_actions}
        super().__init__({"kind": "ddqn", "config": config, **sizes}, rng, q=self._q)

    def act(
        self, features: NDArray[np.float32], feasible: NDArray[np.bool_], *, explore: bool
    ) -> NDArray[np.int64]:
        """Return one feasible action of each environment [env].

        Args:
            features: [env, D], finite.
            feasible: [env, A]; an action that is not feasible is never returned.
            explore: Whether to act at random with the chance ``epsilon``.

        Raises:
            ValueError: arrays of another shape, or an environment with no feasible action.
        """
        require_shape("features", features, len(features), (self._feature_dim,))
        require_shape("feasible", feasible, len(features), (self._num_actions,))
        if not feasible.any(1).all():
            raise ValueError(f"environment {int(feasible.any(1).argmin())} has no feasible action")
        action = self.best(features, feasible)
        if not explore:
            return action
        # Drawn for all environments, so that the stream does not depend on who explores.
        return np.where(self.explorers(len(action)), self.draw(feasible), action)

    def best(self, features: NDArray[np.float32], feasible: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the feasible action of the highest value [env]."""
        return np.where(feasible, self.values(features), -np.inf).argmax(1)

    def values(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the values of all actions, feasible or not [env, A]."""
        with torch.inference_mode():
            values: NDArray[np.float32] = self._q.net(torch.from_numpy(features)).numpy()
        return values

    def draw(self, feasible: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return a feasible action, each as likely as any other [env]."""
        return np.where(feasible, self._rng.random(feasible.shape), -1.0).argmax(1)

    def explorers(self, num_envs: int) -> NDArray[np.bool_]:
        """Count one exploring decision; return which environments act at random [env]."""
        chance = epsilon(self._config, self._num_decisions)
        self._num_decisions += 1
        return self._rng.random(num_envs) < chance

    def update(self, minibatch: Mapping[str, Tensor]) -> dict[str, float]:
        """Learn from one minibatch with the fields of ``replay_fields``; return the metrics."""
        return self.learn(minibatch, self._config.discount * minibatch["continues"])

    def learn(self, minibatch: Mapping[str, Tensor], discount: Tensor) -> dict[str, float]:
        """Learn as ``update`` does, with a discount of each transition [minibatch]."""
        with torch.no_grad():
            target = losses.double_q_target(
                minibatch["reward"],
                discount,
                self._q.net(minibatch["next_features"]),
                self._q.target(minibatch["next_features"]),
                minibatch["next_feasible"],
            )
        values = self._q.net(minibatch["features"])
        q = values.gather(1, minibatch["action"].unsqueeze(1)).squeeze(1)
        loss = functional.huber_loss(q, target)  # as in DQN, Mnih et al. 2015
        self._q.update(self._q.gradient(loss))
        return {
            "ddqn/td_loss": loss.item(),
            "ddqn/q_mean": q.detach().mean().item(),
            "ddqn/target_mean": target.mean().item(),
            "ddqn/epsilon": epsilon(self._config, self._num_decisions),
        }
