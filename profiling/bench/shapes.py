"""Models in their published sizes with random weights; tiny ones are in tiny_shapes.py.

Bytes, kernels and memory are those of trained models, without a download; what an image shows is
noise. Responsible for configurations, for building from one and for writing folders. Not: training.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from edge_node.config import ModelConfig
from edge_node.zoo import text
from edge_node.zoo.worlds.builtin import PLAIN


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A model without its weights."""

    name: str
    pipeline: Any
    """Class of its pipeline."""
    nets: Mapping[str, tuple[Any, Any]]
    """Part of the pipeline -> its class and configuration."""
    scheduler: tuple[Any, Mapping[str, Any]]
    """Class and configuration of the scheduler that its folder names."""
    settings: Mapping[str, Any]
    """Further arguments of the pipeline."""
    size_px: int
    """Width and height of its images."""
    num_steps: int
    """Denoising steps that it is commonly run with."""
    guidance_scale: float

    def model(self, folder: Path) -> ModelConfig:
        """Return the catalog's entry for a folder with it."""
        return ModelConfig(
            model_id=self.name,
            source=f"folder:{folder.resolve()}",
            default_num_steps=self.num_steps,
            default_guidance_scale=self.guidance_scale,
            width_px=self.size_px,
            height_px=self.size_px,
        )


def build(
    shape: Shape, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Any:
    """Return a pipeline with random weights, the same ones each time on a kind of device.

    Where an engine runs, in its device thread: building patches torch process-wide.
    """
    generator = torch.Generator(device).manual_seed(0)
    parts: dict[str, Any] = {}
    for name, (cls, config) in shape.nets.items():
        with init_empty_weights(include_buffers=False):
            is_diffusers = isinstance(config, Mapping)
            net = cls(**config) if is_diffusers else cls(config)
        _fill(net, dtype, device, generator)
        parts[name] = net.to(device=device, dtype=dtype).eval()
        if name.startswith("text_encoder"):
            tokenizer = text.tokenizer(PLAIN)
            tokenizer.model_max_length = config.max_position_embeddings
            parts[name.replace("text_encoder", "tokenizer")] = tokenizer
    scheduler, config = shape.scheduler
    return shape.pipeline(**parts, scheduler=scheduler(**config), **shape.settings)


def write(
    shape: Shape,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> None:
    """Write a model's folder; on a GPU the weights are drawn there, which takes no time."""
    build(shape, dtype, device).save_pretrained(folder, safe_serialization=True)


@torch.no_grad()
def _fill(
    net: nn.Module, dtype: torch.dtype, device: torch.device | str, generator: torch.Generator
) -> None:
    """Give a net parameters as torch begins with: within 1 / sqrt(inputs) of 0, norms' scales 1."""
    for module in net.modules():
        for name, empty in list(module.named_parameters(recurse=False)):
            value = torch.ones(empty.shape, dtype=dtype, device=device)
            if empty.dim() > 1 or name != "weight":
                reach = 1 / math.sqrt(empty[0].numel() if empty.dim() > 1 else len(empty))
                value.uniform_(-reach, reach, generator=generator)
            module.register_parameter(name, nn.Parameter(value, requires_grad=False))


NOISE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_NO_FILTER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
_NO_T5 = {"text_encoder_3": None, "tokenizer_3": None}
"""SD3 may be used without its third text encoder, of 4.8 billion parameters."""


def _clip(width: int, num_layers: int, num_heads: int, activation: str) -> CLIPTextConfig:
    """Return a published text tower; the ids of marks are those of the zoo's tokenizer."""
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        max_position_embeddings=77,
        hidden_act=activation,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=3,
    )


def _vae(latent_channels: int, size_px: int, **changes: Any) -> tuple[Any, Any]:
    config = {
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "latent_channels": latent_channels,
        "sample_size": size_px,
    }
    return AutoencoderKL, config | changes


_CLIP_L = _clip(768, 12, 12, "quick_gelu")
_CLIP_BIG_G = _clip(1280, 32, 20, "gelu")

SD15 = Shape(
    name="sd15",
    pipeline=StableDiffusionPipeline,
    nets={
        "unet": (
            UNet2DConditionModel,
            {
                "sample_size": 64,
                "block_out_channels": (320, 640, 1280, 1280),
                "attention_head_dim": 8,
                "cross_attention_dim": 768,
            },
        ),
        "vae": _vae(4, 512),
        "text_encoder": (CLIPTextModel, _CLIP_L),
    },
    scheduler=(
        DDIMScheduler,
        NOISE | {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1},
    ),
    settings=_NO_FILTER,
    size_px=512,
    num_steps=20,
    guidance_scale=7.5,
)
"""Stable Diffusion 1.5: 860 M parameters denoise."""

SDXL = Shape(
    name="sdxl",
    pipeline=StableDiffusionXLPipeline,
    nets={
        "unet": (
            UNet2DConditionModel,
            {
                "sample_size": 128,
                "block_out_channels": (320, 640, 1280),
                "down_block_types": ("DownBlock2D",) + 2 * ("CrossAttnDownBlock2D",),
                "up_block_types": 2 * ("CrossAttnUpBlock2D",) + ("UpBlock2D",),
                "attention_head_dim": (5, 10, 20),
                "transformer_layers_per_block": (1, 2, 10),
                "cross_attention_dim": 2048,
                "use_linear_projection": True,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816,
            },
        ),
        "vae": _vae(4, 1024, scaling_factor=0.13025, force_upcast=True),
        "text_encoder": (CLIPTextModel, _CLIP_L),
        "text_encoder_2": (CLIPTextModelWithProjection, _CLIP_BIG_G),
    },
    scheduler=(
        EulerDiscreteScheduler,
        NOISE | {"timestep_spacing": "leading", "steps_offset": 1},
    ),
    settings={},
    size_px=1024,
    num_steps=20,
    guidance_scale=5.0,
)
"""Stable Diffusion XL: 2.6 G parameters denoise."""

SD3 = Shape(
    name="sd3",
    pipeline=StableDiffusion3Pipeline,
    nets={
        "transformer": (
            SD3Transformer2DModel,
            {
                "sample_size": 128,
                "patch_size": 2,
                "in_channels": 16,
                "out_channels": 16,
                "num_layers": 24,
                "attention_head_dim": 64,
                "num_attention_heads": 24,
                "joint_attention_dim": 4096,
                "caption_projection_dim": 1536,
                "pooled_projection_dim": 2048,
                "pos_embed_max_size": 192,
            },
        ),
        "vae": _vae(
            16,
            1024,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        "text_encoder": (CLIPTextModelWithProjection, _CLIP_L),
        "text_encoder_2": (CLIPTextModelWithProjection, _CLIP_BIG_G),
    },
    scheduler=(FlowMatchEulerDiscreteScheduler, {"shift": 3.0}),
    settings=_NO_T5,
    size_px=1024,
    num_steps=28,
    guidance_scale=7.0,
)
"""Stable Diffusion 3 medium, without T5: 2.0 G parameters denoise."""

PUBLISHED = (SD15, SDXL, SD3)

SD15_DENOISER = replace(
    SD15,
    nets={
        "unet": SD15.nets["unet"],
        "vae": (AutoencoderTiny, {}),
        "text_encoder": (CLIPTextModel, text.text_config(PLAIN, 1, 768)),
    },
)
"""Little more than SD 1.5's denoiser: 3.4 GB in float32."""
