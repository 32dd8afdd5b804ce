"""D3PG, and with an MLP actor DDPG: who gets which bandwidth and steps, learnt per slot.

Owns the nets, their targets, exploration and one update. Refuses the environment, the replay and
what a raw action means: it turns arrays into raw actions in -1..1, and minibatches into metrics.

    loop:  raw = agent.act(user_features, user_mask, context, explore=True)
           reward = testbed(amend(raw))                     # [env, user]
           replay.add(...);  agent.update(replay.sample(n))

Source: DDPG, Lillicrap et al. 2016; with a diffusion actor, public code of D2SAC (Du et al. 2024)
and the later D3PG of this paper's first author (arXiv 2507.20524). Departures: docs/algorithms.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from controller.agents import checkpoint, losses
from controller.agents.compiled_update import compile_update
from controller.agents.networks import (
    ACTION_DIM,
    Actor,
    Amend,
    NetConfig,
    Slot,
    SlotSizes,
    build_actor,
    build_critic,
    slot_of,
)
from controller.agents.optimiser import Adam, slow_copy
from controller.agents.replay import Fields

FINAL_RATE = 0.1
"""Of the learning rates after ``decay_updates``, over those at first."""
METRICS = ("d3pg/critic_loss", "d3pg/actor_value", "d3pg/saturated_frac")


@dataclass(frozen=True, kw_only=True, slots=True)
class D3pgConfig:
    """How the allocation is learnt."""

    agent: Literal["d3pg", "sb3-ddpg", "sb3-td3", "sb3-sac"] = "d3pg"
    """Who learns: D3PG, or one of Stable-Baselines3's agents (referees.py says what they use)."""
    nets: NetConfig = field(default_factory=NetConfig)
    """Actor and critic."""
    discount: float = 0.0
    """Worth of the next slot, 0..1; 0 makes slots independent, and updates half as costly."""
    actor_learning_rate: float = 1e-3
    """Adam's, of the actor."""
    critic_learning_rate: float = 1e-3
    """Adam's, of the critic."""
    tau: float = 0.005
    """How far target nets move to the learnt ones at each update."""
    exploration_std: float = 0.1
    """Of the Gaussian added to raw actions while exploring."""
    learning_starts: int = 0
    """First exploring decisions that are uniform in -1..1, in every environment."""
    critic_warmup_updates: int = 300
    """First updates that move the critic alone: an actor that follows a critic which has not yet
    seen that users share one band runs into its bounds and stays there."""
    decay_updates: int = 0
    """Updates over which both learning rates fall on a line to a tenth; 0: they never fall."""
    is_compiled: bool = False
    """Whether updates after the head start run compiled: a minute to start, then twice as fast."""

    def __post_init__(self) -> None:
        if not 0 <= self.discount <= 1:
            raise ValueError(f"discount must be 0..1, got {self.discount}")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau must be > 0 and <= 1, got {self.tau}")
        for name in ("actor_learning_rate", "critic_learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        for name in (
            "exploration_std",
            "learning_starts",
            "critic_warmup_updates",
            "decay_updates",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")


def rate_scale(config: D3pgConfig, num_updates: int) -> float:
    """Return what the learning rates are multiplied with after so many updates.

    >>> [round(rate_scale(D3pgConfig(decay_updates=100), done), 2) for done in (0, 50, 100, 200)]
    [1.0, 0.55, 0.1, 0.1]
    """
    if not config.decay_updates:
        return 1.0
    return 1.0 - (1.0 - FINAL_RATE) * min(num_updates / config.decay_updates, 1.0)


def replay_fields(config: D3pgConfig, sizes: SlotSizes) -> Fields:
    """Return what one transition holds; the next slot only where it counts (discount > 0)."""
    users = sizes.num_users
    slot = {
        "user_features": ((users, sizes.user_dim), torch.float32),
        "user_mask": ((users,), torch.bool),
        "context": ((sizes.context_dim,), torch.float32),
    }
    fields = {
        **slot,
        "raw_action": ((users, ACTION_DIM), torch.float32),
        "reward": ((users,), torch.float32),
    }
    if config.discount:
        fields |= {f"next_{name}": kind for name, kind in slot.items()}
        fields["continues"] = ((), torch.bool)
    return fields


class D3pg:
    """Actor and critic, their targets, and the generator that they draw from."""

    def __init__(
        self,
        config: D3pgConfig,
        sizes: SlotSizes,
        rng: np.random.Generator,
        amend: Amend | None = None,
    ) -> None:
        self._config = config
        self._sizes = sizes
        self._rng = rng
        self._actor = build_actor(config.nets, sizes, rng)
        self._critic = build_critic(config.nets, sizes, rng, amend)
        self._is_decomposed = config.nets.architecture == "deep_sets"
        self._actor_adam = Adam(self._actor, config.actor_learning_rate)
        self._critic_adam = Adam(self._critic, config.critic_learning_rate)
        self._target_actor, self._target_actor_vector = slow_copy(self._actor)
        self._target_critic, self._target_critic_vector = slow_copy(self._critic)
        self._num_decisions = 0
        self._compiled_update = compile_update(
            self._actor,
            self._critic,
            discount=config.discount,
            learning_rates=(config.actor_learning_rate, config.critic_learning_rate),
            tau=config.tau,
            is_decomposed=self._is_decomposed,
        )

    def act(
        self,
        user_features: NDArray[np.float32],
        user_mask: NDArray[np.bool_],
        context: NDArray[np.float32],
        *,
        explore: bool,
    ) -> NDArray[np.float32]:
        """Return raw actions [env, user, 2] in -1..1; 0 for inactive users.

        Without exploration the diffusion actor still draws the noise that its chain begins with.

        Args:
            user_features: [env, user, F], finite.
            user_mask: [env, user].
            context: [env, C], finite.
            explore: Whether to add Gaussian noise, and to act at random at first.

        Raises:
            ValueError: arrays of another shape than the sizes say.
        """
        self._require_shapes(user_features, user_mask, context)
        if explore:
            self._num_decisions += 1
            if self._num_decisions <= self._config.learning_starts:
                shape = (*user_mask.shape, ACTION_DIM)
                drawn = self._rng.uniform(-1, 1, shape) * user_mask[:, :, None]
                return np.asarray(drawn, np.float32)
        with torch.inference_mode():
            slot = slot_of(
                torch.from_numpy(user_features),
                torch.from_numpy(user_mask),
                torch.from_numpy(context),
            )
            raw = self._choose(self._actor, slot)
            if explore:
                raw = raw + self._config.exploration_std * self._normal(raw.shape)
                raw = raw.clamp_(-1.0, 1.0) * slot.mask.unsqueeze(2)
            return raw.numpy()

    def update(self, minibatch: Mapping[str, Tensor]) -> dict[str, float]:
        """Learn from one minibatch with the fields of ``replay_fields``; return the metrics."""
        has_head_start = self._critic_adam.num_updates < self._config.critic_warmup_updates
        if self._config.is_compiled and not has_head_start:
            return self._update_compiled(minibatch)
        slot = slot_of(minibatch["user_features"], minibatch["user_mask"], minibatch["context"])
        reward, weights = minibatch["reward"], slot.weights
        if not self._is_decomposed:  # the flat critic rates the slot as one
            reward = losses.active_mean(reward, weights).unsqueeze(1)
            weights = weights.sum(1, keepdim=True)
        target = self._target(minibatch, reward) if self._config.discount else reward

        q = self._critic(slot, minibatch["raw_action"])
        critic_loss = losses.td_loss(q, target, weights)
        scale = rate_scale(self._config, self._critic_adam.num_updates)
        self._critic_adam.minimise(critic_loss, scale)

        raw = self._choose(self._actor, slot)
        actor_loss = losses.policy_loss(self._critic(slot, raw), weights)
        if not has_head_start:
            self._actor_adam.minimise(actor_loss, scale)

        rate = self._config.tau
        self._target_actor_vector.lerp_(self._actor_adam.vector, rate)
        self._target_critic_vector.lerp_(self._critic_adam.vector, rate)
        saturated = (raw.detach().abs() > 0.99).float().mean()
        values = (critic_loss.item(), -actor_loss.item(), saturated.item())
        return dict(zip(METRICS, values, strict=True))

    def _update_compiled(self, minibatch: Mapping[str, Tensor]) -> dict[str, float]:
        scale = rate_scale(self._config, self._critic_adam.num_updates)
        for adam in (self._actor_adam, self._critic_adam):
            adam.num_updates += 1
        users = minibatch["user_mask"].shape
        num_chains = 2 if self._config.discount else 1
        now = self.tensors()
        with torch.no_grad():
            new, metrics = self._compiled_update(
                now,
                minibatch,
                self._normal((num_chains, self._actor.num_noises, *users, ACTION_DIM)),
                torch.tensor(float(self._actor_adam.num_updates)),
                torch.tensor(float(self._critic_adam.num_updates)),
                torch.tensor(scale),
            )
            for name, vector in now.items():
                vector.copy_(new[name])
        return dict(zip(METRICS, metrics.tolist(), strict=True))

    def save(self, stem: Path) -> None:
        """Write weights, moments, targets and generator to ``stem``.safetensors and .json."""
        state = {
            "num_critic_updates": self._critic_adam.num_updates,
            "num_actor_updates": self._actor_adam.num_updates,
            "num_decisions": self._num_decisions,
            "rng": self._rng.bit_generator.state,
        }
        checkpoint.write(stem, self.tensors(), self._identity(), state)

    def load(self, stem: Path) -> None:
        """Become what was saved: acts and updates go on as if they had never stopped.

        Raises:
            ConfigError: no such files, damaged ones, or those of another configuration or sizes;
                the message names both sides.
        """
        tensors, state = checkpoint.read(stem, self._identity())
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        self._actor_adam.num_updates = state["num_actor_updates"]
        self._critic_adam.num_updates = state["num_critic_updates"]
        self._num_decisions = state["num_decisions"]
        self._rng.bit_generator.state = state["rng"]

    def _target(self, minibatch: Mapping[str, Tensor], reward: Tensor) -> Tensor:
        with torch.no_grad():
            slot = slot_of(
                minibatch["next_user_features"],
                minibatch["next_user_mask"],
                minibatch["next_context"],
            )
            raw = self._choose(self._target_actor, slot)
            next_q = self._target_critic(slot, raw)
            weights = slot.weights
            if not self._is_decomposed:
                weights = weights.sum(1, keepdim=True)
            discount = self._config.discount * minibatch["continues"]
            return losses.decomposed_target(reward, discount, next_q, weights)

    def _choose(self, actor: Actor, slot: Slot) -> Tensor:
        noise = self._normal((actor.num_noises, *slot.mask.shape, ACTION_DIM))
        raw: Tensor = actor(slot, noise)
        return raw * slot.mask.unsqueeze(2)

    def _normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(self._rng.standard_normal(shape, dtype=np.float32))

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, moments and targets by name, as they are now (no copies)."""
        return {
            **self._actor_adam.tensors("actor"),
            **self._critic_adam.tensors("critic"),
            "target_actor": self._target_actor_vector,
            "target_critic": self._target_critic_vector,
        }

    def _identity(self) -> dict[str, object]:
        return {"kind": "d3pg", "config": self._config, "sizes": self._sizes}

    def _require_shapes(self, *arrays: NDArray[np.generic]) -> None:
        sizes = self._sizes
        wanted = ((sizes.num_users, sizes.user_dim), (sizes.num_users,), (sizes.context_dim,))
        names = ("user_features", "user_mask", "context")
        for name, array, shape in zip(names, arrays, wanted, strict=True):
            if array.shape != (len(arrays[0]), *shape):
                raise ValueError(f"{name} must have shape {('env', *shape)}, got {array.shape}")
