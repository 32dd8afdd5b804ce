"""The zoo's denoisers: latent diffusion UNets of three sizes, in Stable Diffusion's own layout.

v-prediction (Salimans & Ho 2022) on Stable Diffusion's scaled-linear schedule, rescaled to end in
pure noise (Lin et al. 2023: otherwise the last timestep still shows where a large object stands,
and what the caption says of it is not learnt); half of the timesteps are drawn where the layout is
settled; one caption in ten dropped for classifier-free guidance. The text encoder is trained
with ``scene-base``; the smaller models take it over, frozen.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from edge_node.zoo import scenes, text
from edge_node.zoo.autoencoder import LATENT_CHANNELS, to_tensor
from edge_node.zoo.loop import Recipe, torch_generator
from protos.seeds import stream

logger = logging.getLogger(__name__)

NUM_SCENES = 50_000
"""Training scenes, rendered and encoded once."""
DATA_SEED = 5
DROP_FRAC = 0.1
LAYOUT_TIME = 850
"""Timestep from which on a latent hardly shows its layout: half of the draws lie there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One size of denoiser and how it is trained."""

    channels: tuple[int, ...]
    recipe: Recipe
    trains_text: bool = False


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
        channels=(48, 96),
        recipe=Recipe(num_updates=2000, batch=64, learning_rate=1.2e-3, seed=32),
    ),
    "scene-nano": Variant(
        channels=(32, 64),
        recipe=Recipe(num_updates=1600, batch=64, learning_rate=1.5e-3, seed=33),
    ),
}


def build(channels: tuple[int, ...]) -> UNet2DConditionModel:
    """Return an untrained denoiser."""
    return UNet2DConditionModel(
        sample_size=scenes.IMAGE_PX // 8,
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


class Denoising(nn.Module):
    """The denoiser and the text encoder with the diffusion loss as forward."""

    def __init__(self, unet: UNet2DConditionModel, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.encoder = encoder
        self.alpha_bar: Tensor
        self.register_buffer("alpha_bar", scheduler().alphas_cumprod, persistent=False)

    def forward(self, latents: Tensor, ids: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """Return the mean squared error of v.

        Args:
            latents: scaled latents [n, 8, 8, 8].
            ids: caption tokens [n, MAX_TOKENS].
            times: timesteps [n].
            noise: standard normal, like ``latents``.
        """
        alpha_bar = self.alpha_bar[times][:, None, None, None]
        noisy = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * noise
        v = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * latents
        context = self.encoder(input_ids=ids).last_hidden_state
        out: Tensor = self.unet(noisy, times, context).sample
        return (out - v).square().mean()


@dataclass(frozen=True, slots=True)
class LatentData:
    """Training scenes as scaled latents [N, 8, 8, 8] (float16) and tokens [N, MAX_TOKENS]."""

    latents: Tensor
    ids: Tensor
    empty_ids: Tensor

    def loss_at(self, batch: int) -> Callable[[nn.Module, np.random.Generator], Tensor]:
        """Return the function that draws a batch and returns its loss."""

        def draw(model: nn.Module, rng: np.random.Generator) -> Tensor:
            device = next(model.parameters()).device
            rows = torch.from_numpy(rng.integers(len(self.latents), size=batch))
            ids = self.ids[rows].clone()
            ids[torch.from_numpy(rng.random(batch) < DROP_FRAC)] = self.empty_ids
            earliest = np.where(rng.random(batch) < 0.5, LAYOUT_TIME, 0)
            times = torch.from_numpy(rng.integers(earliest, 1000))
            latents = self.latents[rows].float()
            noise = torch.randn(latents.shape, generator=torch_generator(rng))
            return model(*(x.to(device) for x in (latents, ids, times, noise)))

        return draw


@torch.no_grad()
def encode_scenes(autoencoder: AutoencoderTiny, file: Path) -> LatentData:
    """Return the training latents, from ``file`` where it exists; else render, encode and write it.

    Sets the autoencoder's ``scaling_factor`` so that the latents have unit variance.
    """
    if not file.exists():
        rng = stream(DATA_SEED, "denoiser-scenes")
        drawn = scenes.draw(rng, NUM_SCENES, "train")
        parts = []
        for start in range(0, NUM_SCENES, 250):
            images = to_tensor(scenes.render(drawn[start : start + 250], rng))
            latents = autoencoder.encode(images.to(autoencoder.device)).latents
            parts.append(latents.half().cpu())
            if start % 10_000 == 0:
                logger.info("encoded %d/%d training scenes", start, NUM_SCENES)
        ids = text.token_ids([scene.caption for scene in drawn]).to(torch.int16)
        save_file({"latents": torch.cat(parts).contiguous(), "ids": ids}, file)
    data = load_file(file)
    scale = 1 / data["latents"].float().std().item()
    autoencoder.register_to_config(scaling_factor=scale)
    latents = (data["latents"].float() * scale).half()
    return LatentData(latents, data["ids"].long(), text.token_ids([""])[0])


def export(
    unet: UNet2DConditionModel, encoder: CLIPTextModel, autoencoder: AutoencoderTiny, folder: Path
) -> None:
    """Write a Stable Diffusion folder in float16 that ``StableDiffusionPipeline`` loads."""
    parts = {"unet": unet, "text_encoder": encoder, "vae": autoencoder}
    pipeline = StableDiffusionPipeline(
        **parts,
        tokenizer=text.tokenizer(),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    for name in parts:
        file = (
            "model.safetensors" if name == "text_encoder" else "diffusion_pytorch_model.safetensors"
        )
        state = {key: value.half() for key, value in load_file(folder / name / file).items()}
        save_file(state, folder / name / file, metadata={"format": "pt"})
