"""D3PG, and with an MLP actor DDPG: who gets which bandwidth and steps, learnt per slot.

Responsible for the nets, exploration and one update: arrays become raw actions in -1..1,
minibatches become metrics. Not: the environment, the replay, what a raw action means.

    loop:  raw = agent.act(user_features, user_mask, context, explore=True)
           reward = testbed(amend(raw))                     # [env, user]
           replay.add(...);  agent.update(replay.sample(n))

Source: DDPG, Lillicrap et al. 2016; with a diffusion actor, public code of D2SAC (Du et al. 2024)
and the later D3PG of this paper's first author (arXiv 2507.20524). Departures:
docs/explanation/algorithms.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from controller.agents import losses
from controller.agents.learner import Learner, require_shape
from controller.agents.networks import (
    ACTION_DIM,
    Actor,
    Critic,
    NetConfig,
    Slot,
    SlotSizes,
    build_actor,
    build_critic,
    slot_of,
)
from controller.agents.optimiser import LearntNet, compiled
from controller.agents.replay import Fields
from controller.agents.soft_amender import COMPUTE_NEEDS, SoftAmender
from protos.config import require, require_non_negative, require_positive

FINAL_RATE = 0.1
"""Of the learning rates after ``decay_updates``, over those at first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class D3pgConfig:
    """How the allocation is learnt."""

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
    """Whether gradients are computed by compiled code: a minute or two to start, then an update
    takes half to two thirds of the time. Needs a C++ compiler."""

    def __post_init__(self) -> None:
        require(0 <= self.discount <= 1, f"discount must be 0..1, got {self.discount}")
        require(0 < self.tau <= 1, f"tau must be > 0 and <= 1, got {self.tau}")
        require_positive(self, "actor_learning_rate", "critic_learning_rate")
        require_non_negative(
            self, "exploration_std", "learning_starts", "critic_warmup_updates", "decay_updates"
        )


def rate_scale(config: D3pgConfig, num_updates: int) -> float:
    """Return what the learning rates are multiplied with after so many updates.

    >>> [round(rate_scale(D3pgConfig(decay_updates=100), done), 2) for done in (0, 50, 100, 200)]
    [1.0, 0.55, 0.1, 0.1]
    """
    if not config.decay_updates:
        return 1.0
    return 1.0 - (1.0 - FINAL_RATE) * min(num_updates / config.decay_updates, 1.0)


def replay_fields(config: D3pgConfig, sizes: SlotSizes, *, is_amended: bool = False) -> Fields:
    """Return what one transition holds; the next slot only where it counts (discount > 0).

    ``is_amended``: the critic is shown amended actions.
    """
    users = sizes.num_users
    slot: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "user_features": ((users, sizes.user_dim), torch.float32),
        "user_mask": ((users,), torch.bool),
        "context": ((sizes.context_dim,), torch.float32),
    }
    if is_amended:
        slot["compute_needs"] = ((users, len(COMPUTE_NEEDS)), torch.float32)
    fields = {
        **slot,
        "raw_action": ((users, ACTION_DIM), torch.float32),
        "reward": ((users,), torch.float32),
    }
    if config.discount:
        fields |= {f"next_{name}": kind for name, kind in slot.items()}
        fields["continues"] = ((), torch.bool)
    return fields


class D3pg(Learner):
    """Actor and critic."""

    def __init__(
        self,
        config: D3pgConfig,
        sizes: SlotSizes,
        rng: np.random.Generator,
        amend: SoftAmender | None = None,
    ) -> None:
        """Without ``amend`` the critic reads raw actions."""
        self._config, self._fields, self._amend = config, replay_fields(config, sizes), amend
        self._actor: LearntNet[Actor] = LearntNet(
            build_actor(config.nets, sizes, rng), config.actor_learning_rate, config.tau
        )
        self._critic: LearntNet[Critic] = LearntNet(
            build_critic(config.nets, sizes, rng), config.critic_learning_rate, config.tau
        )
        identity = {"kind": "d3pg", "config": config, "sizes": sizes}
        super().__init__(identity, rng, actor=self._actor, critic=self._critic)
        self._is_decomposed = config.nets.architecture == "deep_sets"
        self._critic_step, self._actor_step = self._critic_gradient, self._actor_gradient
        if config.is_compiled:  # which both can be: they change nothing but what they return
            self._critic_step = compiled(self._critic_gradient)
            self._actor_step = compiled(self._actor_gradient)

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
        seen = {"user_features": user_features, "user_mask": user_mask, "context": context}
        for name, array in seen.items():
            require_shape(name, array, len(user_features), self._fields[name][0])
        if explore:
            self._num_decisions += 1
            if self._num_decisions <= self._config.learning_starts:
                shape = (*user_mask.shape, ACTION_DIM)
                drawn = self._rng.uniform(-1, 1, shape) * user_mask[:, :, None]
                return np.asarray(drawn, np.float32)
        with torch.inference_mode():
            slot = slot_of(*(torch.from_numpy(array) for array in seen.values()))
            raw = _raw_action(self._actor.net, slot, self._noise(slot))
            if explore:
                raw = raw + self._config.exploration_std * self._normal(raw.shape)
                raw = raw.clamp_(-1.0, 1.0) * slot.mask.unsqueeze(2)
            return raw.numpy()

    def update(self, minibatch: Mapping[str, Tensor]) -> dict[str, float]:
        """Learn from one minibatch with the fields of ``replay_fields``; return the metrics."""
        slot = _slot(minibatch, "")
        scale = rate_scale(self._config, self._critic.num_updates)
        is_warmed_up = self._critic.num_updates >= self._config.critic_warmup_updates
        target_noise = self._noise(slot) if self._config.discount else None
        critic_loss, gradient = self._critic_step(slot, minibatch, target_noise)
        self._critic.update(gradient, scale)

        actor_loss, saturated, gradient = self._actor_step(slot, self._noise(slot))
        if is_warmed_up:
            self._actor.update(gradient, scale)
        return {
            "d3pg/critic_loss": critic_loss.item(),
            "d3pg/actor_value": -actor_loss.item(),
            "d3pg/saturated_frac": saturated.item(),
        }

    def _critic_gradient(
        self, slot: Slot, minibatch: Mapping[str, Tensor], target_noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the critic's loss and gradient; without noise the next slot counts nothing."""
        target, weights = minibatch["reward"], self._weights(slot)
        if not self._is_decomposed:  # the MLP critic rates the slot as a whole
            target = losses.active_mean(target, slot.weights).unsqueeze(1)
        if target_noise is not None:
            with torch.no_grad():
                following = _slot(minibatch, "next_")
                raw = _raw_action(self._actor.target, following, target_noise)
                next_q = self._rate(self._critic.target, following, raw)
            discount = self._config.discount * minibatch["continues"]
            target = losses.decomposed_target(target, discount, next_q, self._weights(following))
        q = self._rate(self._critic.net, slot, minibatch["raw_action"])
        loss = losses.td_loss(q, target, weights)
        return loss.detach(), self._critic.gradient(loss)

    def _actor_gradient(self, slot: Slot, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the actor's loss, the fraction of saturated raw actions, and the gradient."""
        raw = _raw_action(self._actor.net, slot, noise)
        q = self._rate(self._critic.net, slot, raw)
        loss = losses.policy_loss(q, self._weights(slot))
        saturated = (raw.detach().abs() > 0.99).float().mean()
        return loss.detach(), saturated, self._actor.gradient(loss)

    def _rate(self, critic: Critic, slot: Slot, raw: Tensor) -> Tensor:
        q: Tensor = critic(slot, self._amend(slot, raw) if self._amend else raw)
        return q

    def _weights(self, slot: Slot) -> Tensor:
        """Return the weights of the critic's values: one a user, or one of the slot as a whole."""
        return slot.weights if self._is_decomposed else slot.weights.sum(1, keepdim=True)

    def _noise(self, slot: Slot) -> Tensor:
        """Return what one decision of the actor uses up."""
        return self._normal((self._actor.net.num_noises, *slot.mask.shape, ACTION_DIM))

    def _normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(self._rng.standard_normal(shape, dtype=np.float32))


def _slot(minibatch: Mapping[str, Tensor], prefix: str) -> Slot:
    return slot_of(
        minibatch[f"{prefix}user_features"],
        minibatch[f"{prefix}user_mask"],
        minibatch[f"{prefix}context"],
        minibatch.get(f"{prefix}compute_needs"),
    )


def _raw_action(actor: Actor, slot: Slot, noise: Tensor) -> Tensor:
    raw: Tensor = actor(slot, noise)
    return raw * slot.mask.unsqueeze(2)
