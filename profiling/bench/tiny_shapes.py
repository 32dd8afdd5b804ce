"""The families of ``shapes.py`` with random weights, small enough to build in a test."""

from dataclasses import replace
from typing import Any

from diffusers import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from edge_node.zoo import text
from edge_node.zoo.worlds.builtin import PLAIN
from profiling.bench.shapes import SD3, SD15, SDXL

WIDTH = 32
"""Of tiny text encoders."""
UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
VAE: dict[str, Any] = {
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 4,
}
_TEXT = (CLIPTextModel, text.text_config(PLAIN, 2, WIDTH))
_PROJECTED = (CLIPTextModelWithProjection, text.text_config(PLAIN, 2, WIDTH))

TINY_SD15 = replace(
    SD15,
    nets={
        "unet": (UNet2DConditionModel, UNET),
        "vae": (AutoencoderKL, VAE),
        "text_encoder": _TEXT,
    },
    size_px=16,
    num_steps=4,
)
TINY_SDXL = replace(
    SDXL,
    nets={
        "unet": (
            UNet2DConditionModel,
            UNET
            | {
                "cross_attention_dim": 2 * WIDTH,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 6 * 8 + WIDTH,
            },
        ),
        "vae": (AutoencoderKL, VAE),
        "text_encoder": _TEXT,
        "text_encoder_2": _PROJECTED,
    },
    size_px=16,
    num_steps=4,
)
TINY_SD3 = replace(
    SD3,
    nets={
        "transformer": (
            SD3Transformer2DModel,
            {
                "sample_size": 8,
                "patch_size": 1,
                "in_channels": 4,
                "out_channels": 4,
                "num_layers": 2,
                "attention_head_dim": 8,
                "num_attention_heads": 4,
                "joint_attention_dim": WIDTH,
                "caption_projection_dim": 32,
                "pooled_projection_dim": 2 * WIDTH,
                "pos_embed_max_size": 16,
            },
        ),
        "vae": (
            AutoencoderKL,
            VAE | {"shift_factor": 0.06, "use_quant_conv": False, "use_post_quant_conv": False},
        ),
        "text_encoder": _PROJECTED,
        "text_encoder_2": _PROJECTED,
    },
    size_px=16,
    num_steps=4,
)
ALL = (TINY_SD15, TINY_SDXL, TINY_SD3)
