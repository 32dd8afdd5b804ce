"""The variance-preserving noise schedule of the diffusion actor.

Responsible for the coefficients of every actor step. Not: nets.

    I    actor steps of the chain (code: chain_len)    i   one of them, 1..I (code: index i - 1)
    β_i  variance that step i adds (code: beta)        ᾱ_i product of 1 - β_1..i (code: alpha_bar)
    μ̃_i  posterior mean: clean_weight * x_0 + noisy_weight * x_i
    β̃_i  posterior variance (code: posterior_variance)

Whatever the chain's length, ᾱ_I = exp(-(beta_min + beta_max) / 2): longer chains are finer, not
noisier. At the last step of the way back (i = 1) the mean is x_0 itself and the variance is 0.

Source: DDPM, Ho et al. 2020 (posterior, eq. 6-7); discretised VP-SDE, Song et al. 2021; bounds 0.1
and 10: public code of D2SAC (Du et al. 2024, arXiv 2303.13052).
"""

from dataclasses import dataclass

import numpy as np

from protos.config import require


@dataclass(frozen=True, slots=True)
class Schedule:
    """Coefficients [chain_len] of each actor step; index 0 is the step next to the action.

    Plain numbers: torch.compile takes arrays of a closure for tensors.
    """

    beta: tuple[float, ...]
    alpha_bar: tuple[float, ...]
    clean_weight: tuple[float, ...]
    """Of x_0 in the posterior mean."""
    noisy_weight: tuple[float, ...]
    """Of x_i in the posterior mean."""
    posterior_variance: tuple[float, ...]

    @property
    def chain_len(self) -> int:
        """I, the number of actor steps."""
        return len(self.beta)


def vp_schedule(chain_len: int, *, beta_min: float, beta_max: float) -> Schedule:
    """Return ``β_i = 1 - exp(-beta_min/I - (2i - 1)/(2 I²) (beta_max - beta_min))`` and the rest.

    >>> [round(beta, 4) for beta in vp_schedule(2, beta_min=0.1, beta_max=10.0).beta]
    [0.724, 0.9768]

    Raises:
        ValueError: no actor step, or not 0 < beta_min <= beta_max.
    """
    require(chain_len >= 1, f"chain_len must be >= 1, got {chain_len}")
    are_ordered = 0 < beta_min <= beta_max
    require(are_ordered, f"beta_min must be > 0 and <= beta_max={beta_max}, got {beta_min}")
    i = np.arange(1, chain_len + 1)
    slope = (2 * i - 1) / (2 * chain_len**2)
    beta = -np.expm1(-beta_min / chain_len - slope * (beta_max - beta_min))
    alpha_bar = np.cumprod(1 - beta)
    before = np.concatenate([[1.0], alpha_bar[:-1]])
    return Schedule(
        beta=tuple(beta.tolist()),
        alpha_bar=tuple(alpha_bar.tolist()),
        clean_weight=tuple((beta * np.sqrt(before) / (1 - alpha_bar)).tolist()),
        noisy_weight=tuple(((1 - before) * np.sqrt(1 - beta) / (1 - alpha_bar)).tolist()),
        posterior_variance=tuple((beta * (1 - before) / (1 - alpha_bar)).tolist()),
    )
