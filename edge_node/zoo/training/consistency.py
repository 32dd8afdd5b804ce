"""The few-step models: latent consistency distillation of a base model (Luo et al. 2023).

    f(x, t) = c_skip(t) x + c_out(t) x0(x, t)       the student, its boundary condition built in
    x_s     = DDIM(x_t; t -> s), guidance 3         one step of the teacher, s = t - JUMP
    loss    = |f(x_t, t) - f(x_s, s)|^2 / sigma_t^2 the second without gradient

The student takes the place of guided denoising: serving it costs one sample a step, not two.
Departs from Luo et al.: the target is the student itself and not a moving average of it (Song &
Dhariwal 2023, section 3.2); the guidance scale is fixed instead of drawn and embedded; the error is
taken in units of v, because in x0 the low timesteps, scaled by sigma, are forgotten.
"""

import numpy as np
import torch
from diffusers import LCMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextModel

from edge_node.zoo.training.denoiser import NOISE_SCHEDULE, Diffusion
from edge_node.zoo.training.loop import Recipe

RECIPES = {
    "plain": Recipe(
        num_updates=3450,
        batch=48,
        learning_rate=5e-4,
        seed=41,
        restarts=(1600, 1850),
        weight_decay=0.0,
        ema_decay=0.99,
        checkpoint_every=50,
    ),
    "open": Recipe(
        num_updates=4000,
        batch=48,
        learning_rate=5e-4,
        seed=71,
        weight_decay=0.0,
        ema_decay=0.995,
        checkpoint_every=100,
    ),
}
GUIDANCE_SCALE = 3.0
"""The teacher's, built into the student."""
JUMP = 100
"""Timesteps that the teacher goes at once: ten DDIM steps in all, as good as fifty here."""
GRID = np.arange(1, 51) * 20 - 1
"""The timesteps that LCMScheduler visits, whatever the step count."""
FIRST_FRAC = 0.25
"""Share of draws at the last timestep, pure noise, where every sampling begins."""
SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0


def lcm_scheduler() -> LCMScheduler:
    """Return the sampler that the folder names, on the teacher's noise schedule."""
    return LCMScheduler(
        **NOISE_SCHEDULE,
        clip_sample=False,
        set_alpha_to_one=False,
        original_inference_steps=len(GRID),
        timestep_scaling=TIMESTEP_SCALING,
    )


def guided_v(
    teacher: UNet2DConditionModel, noisy: Tensor, times: Tensor, context: Tensor, empty: Tensor
) -> Tensor:
    """Return what a teacher answers under its guidance (Ho & Salimans 2022, equation 6).

    It takes x_t [n, c, h, w], timesteps [n], and the hidden states [n, t, WIDTH] of the captions
    and of the empty one.
    """
    both = teacher(torch.cat([noisy, noisy]), times.repeat(2), torch.cat([empty, context])).sample
    free, conditioned = both.chunk(2)
    v: Tensor = free + GUIDANCE_SCALE * (conditioned - free)
    return v


class Consistency(Diffusion):
    """Student and frozen teacher."""

    def __init__(
        self, unet: UNet2DConditionModel, teacher: UNet2DConditionModel, encoder: CLIPTextModel
    ) -> None:
        super().__init__()
        self.unet = unet
        self.unet.set_attn_processor(AttnProcessor())
        self.teacher = teacher.requires_grad_(requires_grad=False)
        self.encoder = encoder.requires_grad_(requires_grad=False)

    def forward(
        self, latents: Tensor, ids: Tensor, empty_ids: Tensor, times: Tensor, noise: Tensor
    ) -> Tensor:
        """Return the mean squared distance of the student before and after a teacher's step."""
        with torch.no_grad():
            context = self.encoder(input_ids=ids).last_hidden_state
            empty = self.encoder(input_ids=empty_ids).last_hidden_state.expand_as(context)
            alpha, sigma = self.levels(times)
            noisy = alpha * latents + sigma * noise
            later_times = times - JUMP
            later = self._teacher_step(noisy, times, later_times, context, empty)
            target = self._clean(later, later_times.clamp(min=0), context)
        found = self._clean(noisy, times, context)
        return ((found - target) / self.levels(times)[1]).square().mean()

    def _teacher_step(
        self, noisy: Tensor, times: Tensor, later_times: Tensor, context: Tensor, empty: Tensor
    ) -> Tensor:
        """Return x_s by one guided DDIM step."""
        v = guided_v(self.teacher, noisy, times, context, empty)
        alpha, sigma = self.levels(times)
        next_alpha, next_sigma = self.levels(later_times)
        return next_alpha * (alpha * noisy - sigma * v) + next_sigma * (sigma * noisy + alpha * v)

    def _clean(self, noisy: Tensor, times: Tensor, context: Tensor) -> Tensor:
        """Return f(x, t) of the student."""
        alpha, sigma = self.levels(times)
        clean = alpha * noisy - sigma * self.unet(noisy, times, context).sample
        scaled = (TIMESTEP_SCALING * times[:, None, None, None]) ** 2
        c_skip = SIGMA_DATA**2 / (scaled + SIGMA_DATA**2)
        return c_skip * noisy + (scaled / (scaled + SIGMA_DATA**2)) ** 0.5 * clean


def draw_times(rng: np.random.Generator, batch: int) -> Tensor:
    """Return timesteps [batch] of the grid, the last one more often than the others."""
    is_first = rng.random(batch) < FIRST_FRAC
    return torch.from_numpy(np.where(is_first, GRID[-1], rng.choice(GRID, batch)))
