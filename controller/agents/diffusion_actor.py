"""The diffusion actor: an action is what is left of noise after a short reverse chain.

Responsible for one reverse transition and the chain. Not: losses, the net inside.

    x_i  action under noise, i = I..0 (code: x)     ε   noise estimate (code: noise_estimate)
    x_0  the action (code: clean)                   z   fresh noise of a transition (code: noise)
    s    the state (code: condition, once encoded)

The forward process is never run and no action is ever denoised as a training target: the actor
learns only from the critic's gradient, which passes through all actor steps.

Two parametrisations, since tanh on ε does not bound x_0: with the VP schedule the first transition
multiplies an error of ε by sqrt(1 / ᾱ_I - 1) = 12.4.

- ``"noise"``, the authors': ε = tanh(net), then x_0 by ``clean_from_noise``, clamped.
  Where the clamp binds no gradient passes.
- ``"clean"``: x_0 = tanh(net). Bounded and differentiable everywhere.

Source: reverse process of DDPM, Ho et al. 2020; as a policy, Wang et al. 2023 (Diffusion-QL) and
Du et al. 2024 (arXiv 2303.13052). Departs: "clean" predicts x_0.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from controller.agents.schedule import Schedule

Parametrisation = Literal["noise", "clean"]


def clean_from_noise(x: Tensor, noise_estimate: Tensor, alpha_bar: float) -> Tensor:
    """Return ``x_0 = (x_i - sqrt(1 - ᾱ_i) ε) / sqrt(ᾱ_i)``, clamped to -1..1 (any shape)."""
    clean = (x - (1 - alpha_bar) ** 0.5 * noise_estimate) * alpha_bar**-0.5
    return clean.clamp(-1.0, 1.0)


def reverse_transition(
    x: Tensor, clean: Tensor, noise: Tensor, schedule: Schedule, index: int
) -> Tensor:
    """Return ``x_{i-1} = μ̃_i(x_0, x_i) + sqrt(β̃_i) z`` for i = index + 1 (any shape)."""
    mean = schedule.clean_weight[index] * clean + schedule.noisy_weight[index] * x
    return mean + schedule.posterior_variance[index] ** 0.5 * noise


def reverse_chain(
    estimate_clean: Callable[[Tensor, int], Tensor], noise: Tensor, schedule: Schedule
) -> Tensor:
    """Return x_0 after all transitions from x_I.

    Args:
        estimate_clean: (x_i, index) -> x_0 as the net sees it now.
        noise: Standard normal [chain_len, ...]: x_I first, then each transition's z.
        schedule: Of the same chain_len.
    """
    x = noise[0]
    for index in range(schedule.chain_len - 1, 0, -1):
        clean = estimate_clean(x, index)
        x = reverse_transition(x, clean, noise[schedule.chain_len - index], schedule, index)
    return estimate_clean(x, 0)  # at i = 1 the posterior mean is x_0 and its variance 0


class Trunk(Protocol):
    """The net inside: it encodes the state once, then is asked at every actor step."""

    def encode(self, slot: Any) -> Any:
        """Return the condition: all that does not depend on x."""

    def estimate(self, condition: Any, x: Tensor | None, index: int) -> Tensor:
        """Return an unbounded estimate of x's shape: atanh of ε or of x_0."""


class DiffusionActor(nn.Module):
    """State and noise -> raw action [env, user, 2] in -1..1."""

    def __init__(self, trunk: Trunk, schedule: Schedule, parametrisation: Parametrisation) -> None:
        super().__init__()
        self.trunk = trunk
        self.schedule = schedule
        self.parametrisation = parametrisation
        self.num_noises = schedule.chain_len  # standard normal arrays that one decision uses up

    def forward(self, slot: Any, noise: Tensor) -> Tensor:
        """Run the chain; noise [num_noises, env, user, 2], standard normal."""
        condition = self.trunk.encode(slot)

        def estimate_clean(x: Tensor, index: int) -> Tensor:
            estimate = torch.tanh(self.trunk.estimate(condition, x, index))
            if self.parametrisation == "clean":
                return estimate
            return clean_from_noise(x, estimate, self.schedule.alpha_bar[index])

        return reverse_chain(estimate_clean, noise, self.schedule)
