"""The zoo's denoisers: latent diffusion UNets of some sizes, in Stable Diffusion's own layout.

v-prediction (Salimans & Ho 2022) on Stable Diffusion's scaled-linear schedule, rescaled to end in
pure noise (Lin et al. 2023: otherwise the last timestep still shows where a large object stands,
and what the caption says of it is not learnt); half of the timesteps are drawn where the layout is
settled; one caption in ten dropped for classifier-free guidance. The text encoder is trained
with ``scene-base``; all other models take it over, frozen. Fine-tunes go on from another model.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DiffusionPipeline,
    SchedulerMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from edge_node.zoo import scenes, text
from edge_node.zoo.autoencoder import LATENT_CHANNELS, to_tensor
from edge_node.zoo.loop import LossAt, Recipe, torch_generator
from edge_node.zoo.styles import Style
from protos.seeds import stream

logger = logging.getLogger(__name__)

DATA_SEED = 5
DROP_FRAC = 0.1
LAYOUT_TIME = 850
"""Timestep from which on a latent hardly shows its layout: half of the draws lie there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One denoiser: its size, what it is trained on and how."""

    channels: tuple[int, ...] = (48, 96)
    recipe: Recipe
    trains_text: bool = False
    parent: Literal["scene-small"] | None = None
    """The model that it is a fine-tune of."""
    style: Style = "plain"
    image_px: int = scenes.IMAGE_PX
    num_scenes: int = 50_000
    """Training scenes, rendered and encoded once."""

    @property
    def data_name(self) -> str:
        """The training scenes' name; models with the same share them."""
        name = "latents" if self.style == "plain" else f"latents-{self.style}"
        return name if self.image_px == scenes.IMAGE_PX else f"{name}-{self.image_px}"


VARIANTS = {
    "scene-base": Variant(
        channels=(64, 128),
        recipe=Recipe(
            num_updates=13_500,
            batch=64,
            learning_rate=1e-3,
            seed=31,
            warmup_updates=200,
            restarts=(6500, 10_500),
        ),
        trains_text=True,
    ),
    "scene-small": Variant(
        recipe=Recipe(num_updates=2000, batch=64, learning_rate=1.2e-3, seed=32)
    ),
    "scene-nano": Variant(
        channels=(32, 64), recipe=Recipe(num_updates=1600, batch=64, learning_rate=1.5e-3, seed=33)
    ),
    "scene-neon": Variant(
        recipe=Recipe(num_updates=1800, batch=64, learning_rate=8e-4, seed=34),
        parent="scene-small",
        style="neon",
        num_scenes=20_000,
    ),
    "scene-sketch": Variant(
        recipe=Recipe(num_updates=1200, batch=64, learning_rate=8e-4, seed=35),
        parent="scene-small",
        style="sketch",
        num_scenes=20_000,
    ),
    "scene-wide": Variant(
        recipe=Recipe(
            num_updates=2400, batch=16, learning_rate=6e-4, seed=36, checkpoint_every=100
        ),
        parent="scene-small",
        image_px=128,
        num_scenes=8000,
    ),
}


def variant_of(model: str) -> Variant:
    """Return what a model draws and learns from; those that learn from ``scene-base`` are alike."""
    return VARIANTS.get(model, VARIANTS["scene-base"])


def build(channels: tuple[int, ...], image_px: int = scenes.IMAGE_PX) -> UNet2DConditionModel:
    """Return an untrained denoiser."""
    return UNet2DConditionModel(
        sample_size=image_px // 8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * len(channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
        cross_attention_dim=text.WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def scheduler() -> DDIMScheduler:
    """Return the sampler that the folders name as their own."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


class Diffusion(nn.Module):
    """What is trained on the zoo's noise schedule, its loss as forward, for accelerate to wrap.

    Every forward takes scaled latents [n, 8, px/8, px/8], their caption tokens [n, MAX_TOKENS],
    then timesteps [n] and standard normal noise like the latents; those that learn from a guided
    teacher take the tokens of the empty caption [1, MAX_TOKENS] before the timesteps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha_bar: Tensor
        self.register_buffer("alpha_bar", scheduler().alphas_cumprod, persistent=False)

    def levels(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha, sigma), each [n, 1, 1, 1]; before timestep 0 there is no noise."""
        alpha_bar = self.alpha_bar[times.clamp(min=0)].where(times >= 0, 1.0)[:, None, None, None]
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


class Denoising(Diffusion):
    """The denoiser and the text encoder."""

    def __init__(self, unet: UNet2DConditionModel, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.encoder = encoder

    def forward(self, latents: Tensor, ids: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """Return the mean squared error of v."""
        alpha, sigma = self.levels(times)
        context = self.encoder(input_ids=ids).last_hidden_state
        out: Tensor = self.unet(alpha * latents + sigma * noise, times, context).sample
        return (out - (alpha * noise - sigma * latents)).square().mean()


@dataclass(frozen=True, slots=True)
class LatentData:
    """Training scenes as scaled latents [N, 8, px/8, px/8] (float16), tokens [N, MAX_TOKENS]."""

    latents: Tensor
    ids: Tensor
    empty_ids: Tensor

    def loss_at(self, batch: int) -> LossAt:
        """Return the function that draws a batch, drops some captions, and returns its loss."""

        def loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
            latents, ids = self._draw(rng, batch)
            ids[torch.from_numpy(rng.random(batch) < DROP_FRAC)] = self.empty_ids
            return _loss(model, rng, latents, ids, draw_times(rng, batch))

        return loss

    def distillation_loss_at(
        self, batch: int, times_of: Callable[[np.random.Generator, int], Tensor]
    ) -> LossAt:
        """Return the same for a student: timesteps of its own choice, no caption dropped.

        Its module gets the empty caption's tokens as well, for the teacher's guidance.
        """

        def loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
            latents, ids = self._draw(rng, batch)
            return _loss(model, rng, latents, ids, self.empty_ids[None], times_of(rng, batch))

        return loss

    def _draw(self, rng: np.random.Generator, batch: int) -> tuple[Tensor, Tensor]:
        chosen = torch.from_numpy(rng.integers(len(self.latents), size=batch))
        return self.latents[chosen].float(), self.ids[chosen]


def _loss(model: nn.Module, rng: np.random.Generator, latents: Tensor, *others: Tensor) -> Tensor:
    noise = torch.randn(latents.shape, generator=torch_generator(rng))
    device = next(model.parameters()).device
    return model(*(part.to(device) for part in (latents, *others, noise)))


def draw_times(rng: np.random.Generator, batch: int) -> Tensor:
    """Return timesteps [batch] in 0..999, half of them where the layout is settled."""
    earliest = np.where(rng.random(batch) < 0.5, LAYOUT_TIME, 0)
    return torch.from_numpy(rng.integers(earliest, 1000))


@torch.no_grad()
def encode_scenes(autoencoder: AutoencoderTiny, variant: Variant, file: Path) -> LatentData:
    """Return the training latents, from ``file`` where it exists; else render, encode and write it.

    Where the autoencoder's ``scaling_factor`` is not set, it is: to unit variance of the latents.
    """
    if not file.exists():
        rng = stream(DATA_SEED, "denoiser-scenes")
        drawn = scenes.draw(rng, variant.num_scenes, "train")
        parts = []
        for start in range(0, len(drawn), 250):
            part = drawn[start : start + 250]
            images = scenes.render(part, rng, style=variant.style, image_px=variant.image_px)
            latents = autoencoder.encode(to_tensor(images).to(autoencoder.device)).latents
            parts.append(latents.half().cpu())
            if start % 10_000 == 0:
                logger.info("encoded %d/%d training scenes", start, len(drawn))
        ids = text.token_ids([scene.caption for scene in drawn]).to(torch.int16)
        save_file({"latents": torch.cat(parts).contiguous(), "ids": ids}, file)
    data = load_file(file)
    if autoencoder.config.scaling_factor == 1:
        scale = 1 / data["latents"].float().std().item()
        autoencoder.register_to_config(scaling_factor=scale)
    latents = (data["latents"].float() * autoencoder.config.scaling_factor).half()
    return LatentData(latents, data["ids"].long(), text.token_ids([""])[0])


def export(
    unet: UNet2DConditionModel,
    encoder: CLIPTextModel,
    autoencoder: AutoencoderTiny,
    folder: Path,
    sampler: SchedulerMixin | None = None,
) -> None:
    """Write a Stable Diffusion folder in float16 that ``StableDiffusionPipeline`` loads."""
    pipeline = StableDiffusionPipeline(
        unet=unet,
        text_encoder=encoder,
        vae=autoencoder,
        tokenizer=text.tokenizer(),
        scheduler=sampler or scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    write(pipeline, folder)


def write(pipeline: DiffusionPipeline, folder: Path) -> None:
    """Write a pipeline's folder, its weights in float16."""
    pipeline.save_pretrained(folder, safe_serialization=True)
    for file in folder.rglob("*.safetensors"):
        state = {key: value.half() for key, value in load_file(file).items()}
        save_file(state, file, metadata={"format": "pt"})
