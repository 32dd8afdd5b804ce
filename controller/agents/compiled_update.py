"""D3PG's update as one pure function of vectors, for torch.compile.

Owns the same mathematics as ``D3pg.update`` once more, without a call between two lines of it: the
compiler fuses all of it, both optimisers included. Refuses state: vectors in, vectors out.

The first call for a minibatch size compiles, which takes a C++ compiler and up to a minute; every
later update costs a half to a third (docs/algorithms.md). Numbers differ from the plain update's by
rounding.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from controller.agents import losses
from controller.agents.networks import Actor, Critic, Slot, slot_of
from controller.agents.optimiser import BETA1, BETA2, EPS

Vectors = dict[str, Tensor]
Update = Callable[
    [Vectors, Mapping[str, Tensor], Tensor, Tensor, Tensor, Tensor], tuple[Vectors, Tensor]
]
"""(vectors, minibatch, noise [1 or 2, ...], updates of the actor and the critic with this one,
scale of the learning rates) -> (vectors, metrics): those of ``D3pg.tensors``, and critic loss,
actor value, saturated fraction.
The target actor's noise comes first; without a discount there is the actor's alone."""


def compile_update(
    actor: Actor,
    critic: Critic,
    *,
    discount: float,
    learning_rates: tuple[float, float],
    tau: float,
    is_decomposed: bool,
) -> Update:
    """Return the update of an actor and a critic; only their shapes are used, not their weights."""

    def choose(vector: Tensor, slot: Slot, noise: Tensor) -> Tensor:
        raw: Tensor = functional_call(actor, _weights(actor, vector), (slot, noise))
        return raw * slot.mask.unsqueeze(2)

    def rate(vector: Tensor, slot: Slot, raw: Tensor) -> Tensor:
        q: Tensor = functional_call(critic, _weights(critic, vector), (slot, raw))
        return q

    def weights_of(slot: Slot) -> Tensor:
        return slot.weights if is_decomposed else slot.weights.sum(1, keepdim=True)

    def update(
        vectors: Vectors,
        minibatch: Mapping[str, Tensor],
        noise: Tensor,
        actor_updates: Tensor,
        critic_updates: Tensor,
        scale: Tensor,
    ) -> tuple[Vectors, Tensor]:
        slot, target = _slot(minibatch, ""), minibatch["reward"]
        weights = weights_of(slot)
        if not is_decomposed:
            target = losses.active_mean(target, slot.weights).unsqueeze(1)
        if discount:
            following = _slot(minibatch, "next_")
            raw = choose(vectors["target_actor"], following, noise[0])
            next_q = rate(vectors["target_critic"], following, raw)
            kept = discount * minibatch["continues"]
            target = losses.decomposed_target(target, kept, next_q, weights_of(following))

        def critic_loss(vector: Tensor) -> Tensor:
            return losses.td_loss(rate(vector, slot, minibatch["raw_action"]), target, weights)

        gradient, loss = grad_and_value(critic_loss)(vectors["critic"])
        new = _adam(vectors, "critic", gradient, critic_updates, scale * learning_rates[1])

        def actor_loss(vector: Tensor) -> tuple[Tensor, Tensor]:
            raw = choose(vector, slot, noise[-1])
            return losses.policy_loss(rate(new["critic"], slot, raw), weights), raw

        gradient, (minus_value, raw) = grad_and_value(actor_loss, has_aux=True)(vectors["actor"])
        new |= _adam(vectors, "actor", gradient, actor_updates, scale * learning_rates[0])
        for name in ("actor", "critic"):
            new[f"target_{name}"] = torch.lerp(vectors[f"target_{name}"], new[name], tau)
        return new, torch.stack((loss, -minus_value, (raw.abs() > 0.99).float().mean()))

    compiled: Update = torch.compile(update, fullgraph=True, dynamic=False)
    return compiled


def _slot(minibatch: Mapping[str, Tensor], prefix: str) -> Slot:
    names = ("user_features", "user_mask", "context")
    return slot_of(*(minibatch[f"{prefix}{name}"] for name in names))


def _weights(net: nn.Module, vector: Tensor) -> dict[str, Tensor]:
    """Return a net's weights by name as parts of a vector, in the order of ``as_vector``."""
    named = dict(net.named_parameters())
    parts = torch.split(vector, [parameter.numel() for parameter in named.values()])
    return {
        name: part.view(parameter.shape)
        for (name, parameter), part in zip(named.items(), parts, strict=True)
    }


def _adam(
    vectors: Vectors, name: str, gradient: Tensor, updates: Tensor, learning_rate: Tensor
) -> Vectors:
    mean = torch.lerp(vectors[f"{name}.mean"], gradient, 1 - BETA1)
    square = BETA2 * vectors[f"{name}.square"] + (1 - BETA2) * gradient.square()
    spread = (square / (1 - BETA2**updates)).sqrt() + EPS
    vector = vectors[name] - learning_rate * (mean / (1 - BETA1**updates)) / spread
    return {name: vector, f"{name}.mean": mean, f"{name}.square": square}
