"""The learners' nets: actors and critics of the slot, Q-nets of the frame.

Responsible for shapes, masks and initial weights. Not: losses, noise, exploration.

Two architectures:

- ``"mlp"``: the authors'. All users in one vector, three hidden layers; the critic rates the whole
  slot with one number. What is learnt about user 1 says nothing about user 2.
- ``"deep_sets"``: users are exchangeable. Every user passes the same encoder, sees the mean over
  active users, and the critic predicts each user's own utility. Permuting users permutes the
  answer.

Inactive users change nothing: they are zeroed on the way in, have no weight in any mean, and their
raw action is 0. Their features must still be finite.

Source: sets: Zaheer et al. 2017 (Deep Sets).
"""

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import skip_init

from controller.agents.diffusion_actor import DiffusionActor, Parametrisation, Trunk
from controller.agents.schedule import vp_schedule
from controller.cell.observations import RAW_ACTION
from protos.config import require_non_negative, require_positive

ACTION_DIM = len(RAW_ACTION)
"""Raw numbers of one user: one for the bandwidth share, one for the denoising steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetConfig:
    """Which nets the allocation learner has."""

    actor: Literal["mlp", "diffusion"] = "diffusion"
    """What turns a state into a raw action."""
    architecture: Literal["mlp", "deep_sets"] = "deep_sets"
    """Users as one vector, or as an exchangeable set."""
    critic_action_input: Literal["amended", "raw"] = "amended"
    """What the critic is shown of an action: what the amender makes of it, or the raw action."""
    hidden: int = 64
    """Units of each of the three hidden layers."""
    chain_len: int = 5
    """Actor steps of the diffusion actor."""
    parametrisation: Parametrisation = "clean"
    """What the diffusion actor's net predicts: x_0 through tanh, or the noise with x_0 clamped."""
    beta_min: float = 0.1
    """Of the diffusion actor's schedule."""
    beta_max: float = 10.0
    """Of the diffusion actor's schedule."""

    def __post_init__(self) -> None:
        require_positive(self, "hidden")
        vp_schedule(self.chain_len, beta_min=self.beta_min, beta_max=self.beta_max)  # refuses too


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotSizes:
    """The widths of a slot's arrays."""

    num_users: int
    user_dim: int
    """F, features of one user."""
    context_dim: int
    """C, features of the slot; 0 is allowed."""

    def __post_init__(self) -> None:
        require_positive(self, "num_users", "user_dim")
        require_non_negative(self, "context_dim")


class Slot(NamedTuple):
    """A slot's observation as the nets read it, float32."""

    features: Tensor
    """[env, user, F], 0 where inactive."""
    mask: Tensor
    """[env, user], 1 where active."""
    weights: Tensor
    """[env, user], 1 / active users where active: sums with it are means over them."""
    context: Tensor
    """[env, 1, C + 1]: the context, and the fraction of users that are active."""
    compute_needs: Tensor | None
    """[env, user, 3], as ``soft_amender.compute_needs``; None where no action is amended."""


def slot_of(
    user_features: Tensor, user_mask: Tensor, context: Tensor, compute_needs: Tensor | None = None
) -> Slot:
    """Return a slot from features [env, user, F], mask [env, user] and context [env, C]."""
    mask = user_mask.to(torch.float32)
    active = mask.sum(1, keepdim=True)
    return Slot(
        features=user_features * mask.unsqueeze(2),
        mask=mask,
        weights=mask / active.clamp(min=1.0),
        context=torch.cat((context, active / mask.shape[1]), 1).unsqueeze(1),
        compute_needs=compute_needs,
    )


_linear, _embedding = partial(skip_init, nn.Linear), partial(skip_init, nn.Embedding)
"""Layers without values yet: ``draw_weights`` draws them, from no global generator."""


def mlp(*widths: int) -> nn.Sequential:
    """Return linear layers of these widths with ReLU between them: [..., first] -> [..., last]."""
    layers = [part for pair in pairwise(widths) for part in (nn.ReLU(), _linear(*pair))]
    return nn.Sequential(*layers[1:])


class MlpTrunk(nn.Module):
    """Three hidden layers over (state, x, actor step) of all users in one vector."""

    def __init__(self, sizes: SlotSizes, hidden: int, num_noises: int) -> None:
        super().__init__()
        width = sizes.num_users * ACTION_DIM
        self.state = _linear(_flat_dim(sizes), hidden)
        self.latent = _linear(width, hidden, bias=False) if num_noises else None
        self.steps = _embedding(num_noises, hidden) if num_noises else None
        self.rest = mlp(hidden, hidden, hidden, width)

    def encode(self, slot: Slot) -> Tensor:
        """Return the first layer's share of the state [env, hidden]."""
        state: Tensor = self.state(_flat(slot))
        return state

    def estimate(self, condition: Tensor, x: Tensor | None, index: int) -> Tensor:
        """Return an unbounded estimate [env, user, 2]."""
        if x is not None and self.latent is not None and self.steps is not None:
            step = self.steps.weight[index]
            condition = condition + functional.linear(x.flatten(1), self.latent.weight, step)
        out: Tensor = self.rest(functional.relu(condition))
        return out.view(len(out), -1, ACTION_DIM)


class DeepSetsTrunk(nn.Module):
    """The same layers for every user, each with the mean over active users added."""

    def __init__(
        self, sizes: SlotSizes, hidden: int, num_noises: int, out_dim: int = ACTION_DIM
    ) -> None:
        super().__init__()
        self.user = _linear(sizes.user_dim, hidden)
        self.context = _linear(sizes.context_dim + 1, hidden, bias=False)
        self.first = Exchange(hidden)
        self.latent = _linear(ACTION_DIM, hidden, bias=False) if num_noises else None
        self.steps = _embedding(num_noises, hidden) if num_noises else None
        self.second = Exchange(hidden)
        self.out = _linear(hidden, out_dim)

    def encode(self, slot: Slot) -> tuple[Tensor, Tensor]:
        """Return the state [env, user, hidden] and the weights of the mean."""
        h = functional.relu(self.user(slot.features) + self.context(slot.context))
        return self.first(h, slot.weights), slot.weights

    def estimate(self, condition: tuple[Tensor, Tensor], x: Tensor | None, index: int) -> Tensor:
        """Return an unbounded estimate [env, user, out_dim]."""
        state, weights = condition
        if x is not None and self.latent is not None and self.steps is not None:
            step = self.steps.weight[index]
            state = state + functional.linear(x, self.latent.weight, step)
        h = functional.relu(self.second(functional.relu(state), weights))
        out: Tensor = self.out(h)
        return out


class Exchange(nn.Module):
    """A layer of exchangeable users: own part plus a part of the mean over active users."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.own = _linear(hidden, hidden)
        self.mean = _linear(hidden, hidden, bias=False)

    def forward(self, h: Tensor, weights: Tensor) -> Tensor:
        """Map [env, user, hidden] to the same shape."""
        out: Tensor = self.own(h) + self.mean(weights.unsqueeze(1) @ h)
        return out


class MlpActor(nn.Module):
    """State -> raw action [env, user, 2] in -1..1, without noise."""

    num_noises = 0

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, slot: Slot, noise: Tensor) -> Tensor:  # noqa: ARG002 - as DiffusionActor
        """Return the raw action; noise is empty, [0, env, user, 2]."""
        return torch.tanh(self.trunk.estimate(self.trunk.encode(slot), None, 0))


class MlpCritic(nn.Module):
    """Slot and action -> one value of the slot [env, 1]."""

    def __init__(self, sizes: SlotSizes, hidden: int) -> None:
        super().__init__()
        width = _flat_dim(sizes) + sizes.num_users * ACTION_DIM
        self.layers = mlp(width, hidden, hidden, hidden, 1)

    def forward(self, slot: Slot, action: Tensor) -> Tensor:
        """Return values [env, 1]."""
        values: Tensor = self.layers(torch.cat((_flat(slot), action.flatten(1)), 1))
        return values


class DeepSetsCritic(nn.Module):
    """Slot and action -> each user's own value [env, user]."""

    def __init__(self, sizes: SlotSizes, hidden: int) -> None:
        super().__init__()
        sizes = replace(sizes, user_dim=sizes.user_dim + ACTION_DIM)
        self.trunk = DeepSetsTrunk(sizes, hidden, num_noises=0, out_dim=1)

    def forward(self, slot: Slot, action: Tensor) -> Tensor:
        """Return values [env, user]; those of inactive users mean nothing."""
        slot = slot._replace(features=torch.cat((slot.features, action), 2))
        return self.trunk.estimate(self.trunk.encode(slot), None, 0).squeeze(2)


Actor = MlpActor | DiffusionActor
Critic = MlpCritic | DeepSetsCritic


def build_actor(config: NetConfig, sizes: SlotSizes, rng: np.random.Generator) -> Actor:
    """Return a new actor; ``rng`` draws its weights."""
    num_noises = config.chain_len if config.actor == "diffusion" else 0
    trunk_class = DeepSetsTrunk if config.architecture == "deep_sets" else MlpTrunk
    trunk = trunk_class(sizes, config.hidden, num_noises)
    draw_weights(trunk, rng)
    if config.actor == "mlp":
        return MlpActor(trunk)
    schedule = vp_schedule(config.chain_len, beta_min=config.beta_min, beta_max=config.beta_max)
    return DiffusionActor(trunk, schedule, config.parametrisation)


def build_critic(config: NetConfig, sizes: SlotSizes, rng: np.random.Generator) -> Critic:
    """Return a new critic; ``rng`` draws its weights."""
    critic_class = DeepSetsCritic if config.architecture == "deep_sets" else MlpCritic
    critic = critic_class(sizes, config.hidden)
    draw_weights(critic, rng)
    return critic


def draw_weights(net: nn.Module, rng: np.random.Generator) -> None:
    """Draw linear layers from ±1 / sqrt(fan in), torch's own default, and embeddings alike."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            fan_in = module.weight.shape[1]
            for parameter in module.parameters():
                drawn = rng.uniform(-(fan_in**-0.5), fan_in**-0.5, parameter.shape)
                parameter.data.copy_(torch.from_numpy(drawn))


def _flat_dim(sizes: SlotSizes) -> int:
    return sizes.num_users * (sizes.user_dim + 1) + sizes.context_dim + 1


def _flat(slot: Slot) -> Tensor:
    return torch.cat((slot.features.flatten(1), slot.mask, slot.context.squeeze(1)), 1)
