"""Samplers as tables: every one of them is the same linear step with other coefficients.

    x    latent at this step          x0   the denoiser's estimate of the clean latent
    t    timestep                     out  what the denoiser returns (noise, v, flow or x0)
    z    fresh noise                  x0'  the estimate of the step before

    denoiser input:  in_scale * x
    x0    = skip * x + scale * out
    x_new = keep * x + now * x0 + before * x0' + fresh * z

A table holds the coefficients of one sampler for one step count. Requests with different samplers,
step counts and progress share one denoiser call: ``advance`` takes for each the coefficients of its
next step. Responsible for the coefficients; which timesteps and noise levels a step count visits is
diffusers' own choice (``set_timesteps``). Not: what is not linear (clipped or thresholded
estimates), which is refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

_SIGMA_DATA = 0.5
"""Of the boundary condition of consistency models (Luo et al. 2023)."""


class Coefficients(NamedTuple):
    """The linear steps of one sampler; every field [num_steps], or one value for all steps."""

    skip: Array
    scale: Array
    keep: Array
    now: Array
    before: Array | float = 0.0
    fresh: Array | float = 0.0
    in_scale: Array | float = 1.0


IN_SCALE = Coefficients._fields.index("in_scale")
TIMESTEP = len(Coefficients._fields)
"""Columns of ``SamplerTable.steps``."""


@dataclass(frozen=True, slots=True)
class SamplerTable:
    """One sampler at one step count on one noise schedule."""

    steps: NDArray[np.float32]
    """[num_steps, 8]: ``Coefficients`` in their order, then the timestep."""
    init_scale: float
    """Standard deviation of the first latent."""
    draws_noise: tuple[bool, ...]
    """Whether a step takes fresh noise from the request's generator."""

    @property
    def num_steps(self) -> int:
        """Denoiser calls of one image."""
        return len(self.steps)

    @property
    def coefficients(self) -> Tensor:
        """``Coefficients`` in their order [num_steps, 7], float32."""
        return torch.from_numpy(self.steps[:, :-1])

    @property
    def timesteps(self) -> Tensor:
        """Timesteps as the denoiser takes them [num_steps], float32."""
        return torch.from_numpy(self.steps[:, -1])


def advance(
    latents: Tensor,
    clean: Tensor,
    out: Tensor,
    noise: Tensor | None,
    coefficients: Sequence[Tensor],
) -> None:
    """Take one step, in place; nothing is changed where memory is short.

    Args:
        latents: x [n, ...], float32; afterwards x_new.
        clean: x0' of each request's last step (finite, whatever it is, at its first); afterwards
            x0.
        out: the denoiser's answers, like ``latents``.
        noise: z; None where nobody takes any, ignored where ``fresh`` is 0.
        coefficients: of each request's next step, in the order of ``Coefficients``: seven tensors
            [n, 1, ...].
    """
    skip, scale, keep, now, before, fresh, _ = coefficients
    estimate = torch.mul(latents, skip).addcmul_(out, scale)
    latents.mul_(keep).addcmul_(estimate, now).addcmul_(clean, before)
    if noise is not None:
        latents.addcmul_(noise, fresh)
    clean.copy_(estimate)


def sampler_table(name: str, own: Any, num_steps: int) -> SamplerTable:
    """Return the table of a sampler on the noise schedule of a model's own scheduler.

    Raises:
        ValueError: no such sampler, a sampler of the other kind of model, a setting not known here.
    """
    scheduler = make(name, own)
    _refuse_unknown(scheduler)
    scheduler.set_timesteps(num_steps)
    _drop_surplus(scheduler, num_steps)
    coefficients = _SAMPLERS[name][1](scheduler)
    columns = np.broadcast_arrays(*coefficients, scheduler.timesteps.cpu().numpy())
    draws_noise = columns[Coefficients._fields.index("fresh")] != 0
    return SamplerTable(
        steps=np.stack(columns, axis=1).astype(np.float32),
        init_scale=float(getattr(scheduler, "init_noise_sigma", 1.0)),
        draws_noise=tuple(draws_noise.tolist()),
    )


def make(name: str, own: Any) -> Any:
    """Return the diffusers scheduler that a sampler's table equals.

    Raises:
        ValueError: no such sampler, or a sampler of the other kind of model.
    """
    if name not in _SAMPLERS:
        raise ValueError(f"scheduler must be one of {', '.join(_SAMPLERS)}, got {name!r}")
    is_flow = isinstance(own, diffusers.FlowMatchEulerDiscreteScheduler)
    if is_flow != (name == "flow_euler"):
        kind = "flow matching: its sampler is flow_euler" if is_flow else "no flow matching"
        raise ValueError(f"the model is {kind}, got scheduler {name!r}")
    return _SAMPLERS[name][0].from_config(own.config)


def own_name(own: Any) -> str | None:
    """Return the name of a model's own scheduler, None where it is none of ours."""
    return next((name for name, (kind, _) in _SAMPLERS.items() if type(own) is kind), None)


def estimate(prediction: str, alpha: Array, sigma: Array) -> tuple[Array, Array]:
    """Return (skip, scale) of ``x0 = skip * x + scale * out`` for ``x = alpha x0 + sigma eps``.

    Source: v-prediction from Salimans & Ho 2022, appendix D.
    """
    if prediction == "epsilon":
        return 1 / alpha, -sigma / alpha
    if prediction == "v_prediction":
        return alpha, -sigma
    if prediction == "sample":
        return np.zeros_like(alpha), np.ones_like(alpha)
    raise ValueError(f"prediction_type must be epsilon, v_prediction or sample, got {prediction!r}")


def ddim(scheduler: Any) -> Coefficients:
    """Song, Meng, Ermon 2021 (DDIM), equation 12 with sigma = 0."""
    alpha_bar = scheduler.alphas_cumprod.double().numpy()
    times = scheduler.timesteps.numpy()
    previous = times - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    final = float(scheduler.final_alpha_cumprod)
    now_bar = alpha_bar[times]
    next_bar = np.where(previous >= 0, alpha_bar[np.maximum(previous, 0)], final)
    alpha, sigma = np.sqrt(now_bar), np.sqrt(1 - now_bar)
    skip, scale = estimate(scheduler.config.prediction_type, alpha, sigma)
    ratio = np.sqrt(1 - next_bar) / sigma  # eps = (x - alpha x0) / sigma
    return Coefficients(skip, scale, keep=ratio, now=np.sqrt(next_bar) - ratio * alpha)


def euler(scheduler: Any) -> Coefficients:
    """Karras et al. 2022, algorithm 2 without churn."""
    sigma, following = _levels(scheduler)
    return _variance_exploding(scheduler, sigma, following)


def euler_ancestral(scheduler: Any) -> Coefficients:
    """Euler down to a lower level, then fresh noise up to the next one (k-diffusion)."""
    sigma, following = _levels(scheduler)
    up = np.sqrt(following**2 * (sigma**2 - following**2) / sigma**2)
    down = np.sqrt(following**2 - up**2)
    return _variance_exploding(scheduler, sigma, down)._replace(fresh=up)


def dpmpp_2m(scheduler: Any) -> Coefficients:
    """Lu et al. 2022 (DPM-Solver++), algorithm 2; first order at the first and the last step."""
    config = scheduler.config
    levels = scheduler.sigmas.double().numpy()  # the one after the last step included
    alpha = 1 / np.sqrt(levels**2 + 1)
    sigma = levels * alpha
    with np.errstate(divide="ignore"):
        log_snr = np.log(alpha / sigma)  # lambda; infinite where no noise is left
    step = np.diff(log_snr)  # h
    gain = -alpha[1:] * np.expm1(-step)
    slope = np.zeros_like(step)  # h / (2 h of the step before): 0 makes a step first order
    slope[1:] = step[1:] / step[:-1] / 2
    is_short = config.lower_order_final and len(step) < 15
    if config.euler_at_final or config.final_sigmas_type == "zero" or is_short:
        slope[-1] = 0.0
    skip, scale = estimate(config.prediction_type, alpha[:-1], sigma[:-1])
    ratio = sigma[1:] / sigma[:-1]
    return Coefficients(skip, scale, keep=ratio, now=gain * (1 + slope), before=-gain * slope)


def lcm(scheduler: Any) -> Coefficients:
    """Luo et al. 2023 (LCM), algorithm 3: to the clean latent, then noise to the next level."""
    alpha_bar = scheduler.alphas_cumprod.double().numpy()
    times = scheduler.timesteps.numpy()
    now_bar = alpha_bar[times]
    next_bar = np.append(alpha_bar[times[1:]], 1.0)
    skip, scale = estimate(scheduler.config.prediction_type, np.sqrt(now_bar), np.sqrt(1 - now_bar))
    scaled = times * scheduler.config.timestep_scaling
    c_skip = _SIGMA_DATA**2 / (scaled**2 + _SIGMA_DATA**2)
    c_out = scaled / np.sqrt(scaled**2 + _SIGMA_DATA**2)
    return Coefficients(
        skip,
        scale,
        keep=np.sqrt(next_bar) * c_skip,
        now=np.sqrt(next_bar) * c_out,
        fresh=np.sqrt(1 - next_bar),
    )


def flow_euler(scheduler: Any) -> Coefficients:
    """Esser et al. 2024 (rectified flow): out = noise - x0, x = (1 - sigma) x0 + sigma noise."""
    sigma, following = _levels(scheduler)
    ratio = following / sigma
    return Coefficients(np.ones_like(sigma), -sigma, keep=ratio, now=1 - ratio)


def _levels(scheduler: Any) -> tuple[Array, Array]:
    """Return the noise level of each step [num_steps], and the one that follows it."""
    sigmas = scheduler.sigmas.double().numpy()
    return sigmas[:-1], sigmas[1:]


def _variance_exploding(scheduler: Any, sigma: Array, down: Array) -> Coefficients:
    """Return Euler's step from ``sigma`` to ``down`` of ``x = x0 + sigma eps``: x over alpha."""
    alpha = 1 / np.sqrt(sigma**2 + 1)
    skip, scale = estimate(scheduler.config.prediction_type, alpha, sigma * alpha)
    ratio = down / sigma
    return Coefficients(skip * alpha, scale, keep=ratio, now=1 - ratio, in_scale=alpha)


def _drop_surplus(scheduler: Any, num_steps: int) -> None:
    """Leave out a timestep too many: "trailing" spacing rounds 61 steps to 62, the last at -1."""
    if len(scheduler.timesteps) > num_steps:
        scheduler.timesteps = scheduler.timesteps[:num_steps]
        if hasattr(scheduler, "sigmas"):
            scheduler.sigmas = torch.cat([scheduler.sigmas[:num_steps], scheduler.sigmas[-1:]])


def _refuse_unknown(scheduler: Any) -> None:
    """Refuse settings under which a step is not the one computed here."""
    config = scheduler.config
    expected = {
        "clip_sample": False,
        "thresholding": False,
        "stochastic_sampling": False,
        "invert_sigmas": False,
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
        "solver_type": "midpoint",
        "timestep_type": "discrete",
    }
    for name, value in expected.items():
        if name in config and config[name] != value:
            raise ValueError(
                f"{type(scheduler).__name__} with {name} = {config[name]!r} is not supported; "
                f"{value!r} is"
            )


_SAMPLERS: dict[str, tuple[Any, Callable[[Any], Coefficients]]] = {
    "ddim": (diffusers.DDIMScheduler, ddim),
    "euler": (diffusers.EulerDiscreteScheduler, euler),
    "euler_ancestral": (diffusers.EulerAncestralDiscreteScheduler, euler_ancestral),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, dpmpp_2m),
    "lcm": (diffusers.LCMScheduler, lcm),
    "flow_euler": (diffusers.FlowMatchEulerDiscreteScheduler, flow_euler),
}
"""By the names of ``config.SAMPLERS``: the diffusers class that a table equals, and its steps."""
