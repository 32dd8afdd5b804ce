"""Untrained diffusers pipelines of every family, small enough to build in a test."""

from functools import partial
from typing import Any

from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, T5Config, T5EncoderModel

from edge_node.zoo import text
from edge_node.zoo.worlds.builtin import PLAIN
from profiling.bench import shapes, tiny_shapes
from profiling.bench.shapes import NOISE
from profiling.bench.tiny_shapes import WIDTH


def build(family: str) -> Any:
    """Return an untrained pipeline of a family, by its name in FAMILIES."""
    return _BUILDERS[family]()


def _lcm() -> LatentConsistencyModelPipeline:
    return LatentConsistencyModelPipeline(
        vae=AutoencoderKL(**tiny_shapes.VAE),
        text_encoder=CLIPTextModel(text.text_config(PLAIN, 2, WIDTH)),
        tokenizer=text.tokenizer(PLAIN),
        unet=UNet2DConditionModel(**tiny_shapes.UNET, time_cond_proj_dim=16),
        scheduler=LCMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _pixart_alpha() -> PixArtAlphaPipeline:
    return PixArtAlphaPipeline(**_pixart(sample_size=128, out_channels=8))


def _pixart_sigma() -> PixArtSigmaPipeline:
    return PixArtSigmaPipeline(**_pixart(sample_size=8, out_channels=4))


def _pixart(sample_size: int, out_channels: int) -> dict[str, Any]:
    """Return its parts; with a sample size of 128 the transformer is told sizes."""
    transformer = PixArtTransformer2DModel(
        sample_size=sample_size,
        patch_size=2,
        in_channels=4,
        out_channels=out_channels,
        num_layers=2,
        num_attention_heads=4,
        attention_head_dim=12,
        cross_attention_dim=48,
        caption_channels=WIDTH,
    )
    encoder = T5Config(
        vocab_size=text.text_config(PLAIN, 2, WIDTH).vocab_size,
        d_model=WIDTH,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=3,
    )
    return {
        "tokenizer": text.tokenizer(PLAIN),
        "text_encoder": T5EncoderModel(encoder).eval(),  # it has dropout
        "vae": AutoencoderKL(**tiny_shapes.VAE),
        "transformer": transformer,
        "scheduler": DDIMScheduler(**NOISE, clip_sample=False, steps_offset=1),
    }


_BUILDERS = {
    "sd": partial(shapes.build, tiny_shapes.TINY_SD15),
    "lcm": _lcm,
    "sdxl": partial(shapes.build, tiny_shapes.TINY_SDXL),
    "sd3": partial(shapes.build, tiny_shapes.TINY_SD3),
    "pixart-alpha": _pixart_alpha,
    "pixart-sigma": _pixart_sigma,
}
FAMILIES = tuple(_BUILDERS)
