"""A folder with a net of SD 1.5's size and random weights: bytes and kernels without a download."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

from edge_node.zoo import text

# The published configuration of Stable Diffusion 1.5's denoiser: 860 M parameters.
SD15_UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}


def write_full_size(folder: Path) -> None:
    """Write a Stable Diffusion folder in float32, 3.4 GB of it the denoiser."""
    with torch.random.fork_rng():
        unet = UNet2DConditionModel(**SD15_UNET)
        encoder = CLIPTextModel(text.text_config(1, SD15_UNET["cross_attention_dim"]))
    StableDiffusionPipeline(
        unet=unet,
        text_encoder=encoder,
        vae=AutoencoderTiny(),
        tokenizer=text.tokenizer(),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
