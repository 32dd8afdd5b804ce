"""The zoo's denoisers: latent diffusion UNets of some sizes, in Stable Diffusion's own layout.

v-prediction (Salimans & Ho 2022) on Stable Diffusion's scaled-linear schedule, rescaled to end in
pure noise (Lin et al. 2023: otherwise the last timestep still shows where a large object stands,
and what the caption says of it is not learnt); half of the timesteps are drawn where the layout is
settled; one caption in ten dropped for classifier-free guidance. A world's text encoder is trained
with its base model; all others take it over, frozen. Fine-tunes go on from another model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DiffusionPipeline,
    EulerAncestralDiscreteScheduler,
    SchedulerMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from edge_node.zoo import text
from edge_node.zoo.training.loop import Recipe
from edge_node.zoo.worlds.builtin import OPEN, PLAIN
from edge_node.zoo.worlds.interface import IMAGE_PX, World


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One denoiser: its size, what it is trained on and how."""

    world: World[Any]
    channels: tuple[int, ...] = (48, 96)
    recipe: Recipe
    trains_text: bool = False
    parent: str = ""
    """The model that it is a fine-tune of."""
    image_px: int = IMAGE_PX
    num_scenes: int
    """Training scenes, rendered and encoded once."""
    is_ancestral: bool = False
    """Whether its own sampler draws new noise at every step."""


VARIANTS = {
    "scene-base": Variant(
        world=PLAIN,
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
        num_scenes=50_000,
    ),
    "scene-small": Variant(
        world=PLAIN,
        recipe=Recipe(num_updates=2000, batch=64, learning_rate=1.2e-3, seed=32),
        num_scenes=50_000,
    ),
    "scene-nano": Variant(
        world=PLAIN,
        channels=(32, 64),
        recipe=Recipe(num_updates=1600, batch=64, learning_rate=1.5e-3, seed=33),
        num_scenes=50_000,
    ),
    "scene-wide": Variant(
        world=PLAIN,
        recipe=Recipe(
            num_updates=2400, batch=16, learning_rate=6e-4, seed=36, checkpoint_every=100
        ),
        parent="scene-small",
        image_px=128,
        num_scenes=8000,
    ),
    "open-base": Variant(
        world=OPEN,
        channels=(96, 160),
        recipe=Recipe(
            num_updates=10_000, batch=64, learning_rate=1e-3, seed=61, warmup_updates=200
        ),
        trains_text=True,
        num_scenes=80_000,
        is_ancestral=True,
    ),
    "open-small": Variant(
        world=OPEN,
        recipe=Recipe(num_updates=5000, batch=64, learning_rate=1.2e-3, seed=62),
        num_scenes=80_000,
        is_ancestral=True,
    ),
    "open-wide": Variant(
        world=OPEN,
        recipe=Recipe(
            num_updates=4000, batch=16, learning_rate=6e-4, seed=63, checkpoint_every=100
        ),
        parent="open-small",
        image_px=128,
        num_scenes=10_000,
        is_ancestral=True,
    ),
}
BASES = {variant.world.name: name for name, variant in VARIANTS.items() if variant.trains_text}
"""The model of a world that its text encoder is trained with."""


def build(world: World[Any], channels: tuple[int, ...], image_px: int) -> UNet2DConditionModel:
    """Return an untrained denoiser."""
    return UNet2DConditionModel(
        sample_size=image_px // 8,
        in_channels=world.latent_channels,
        out_channels=world.latent_channels,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * len(channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
        cross_attention_dim=text.WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


NOISE_SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "steps_offset": 1,
}


def scheduler() -> DDIMScheduler:
    """Return the noise schedule of all models, and the sampler of those that name no other."""
    return DDIMScheduler(
        **NOISE_SCHEDULE, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=False
    )


def ancestral_scheduler() -> EulerAncestralDiscreteScheduler:
    """Return the sampler that draws new noise at every step, on the same schedule."""
    return EulerAncestralDiscreteScheduler(**NOISE_SCHEDULE, timestep_spacing="trailing")


class Diffusion(nn.Module):
    """What is trained on the zoo's noise schedule, its loss as forward, for accelerate to wrap.

    Every forward takes scaled latents [n, c, px/8, px/8], their caption tokens [n, t],
    then timesteps [n] and standard normal noise like the latents; those that learn from a guided
    teacher take the tokens of the empty caption [1, t] before the timesteps.
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
        self.unet.set_attn_processor(AttnProcessor())  # torch's fused one is slow to train on a CPU
        self.encoder = encoder
        self.encoder.set_attn_implementation("eager")

    def forward(self, latents: Tensor, ids: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """Return the mean squared error of v."""
        alpha, sigma = self.levels(times)
        context = self.encoder(input_ids=ids).last_hidden_state
        out: Tensor = self.unet(alpha * latents + sigma * noise, times, context).sample
        return (out - (alpha * noise - sigma * latents)).square().mean()


def export(
    unet: UNet2DConditionModel,
    encoder: CLIPTextModel,
    autoencoder: AutoencoderTiny,
    world: World[Any],
    folder: Path,
    sampler: SchedulerMixin | None = None,
) -> None:
    """Write a Stable Diffusion folder in float16 that ``StableDiffusionPipeline`` loads."""
    pipeline = StableDiffusionPipeline(
        unet=unet,
        text_encoder=encoder,
        vae=autoencoder,
        tokenizer=text.tokenizer(world),
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
