"""Untrained diffusers pipelines of every family, small enough to build in a test."""

from typing import Any

from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from edge_node.zoo import text

WIDTH = 32
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def build(family: str) -> Any:
    """Return an untrained pipeline of a family, by its name in FAMILIES."""
    return _BUILDERS[family]()


def _sd() -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=_vae(4),
        text_encoder=CLIPTextModel(text.text_config(2, WIDTH)),
        tokenizer=text.tokenizer(),
        unet=_unet(WIDTH),
        scheduler=DDIMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _lcm() -> LatentConsistencyModelPipeline:
    return LatentConsistencyModelPipeline(
        vae=_vae(4),
        text_encoder=CLIPTextModel(text.text_config(2, WIDTH)),
        tokenizer=text.tokenizer(),
        unet=_unet(WIDTH, time_cond_proj_dim=16),
        scheduler=LCMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl() -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline(
        vae=_vae(4),
        text_encoder=CLIPTextModel(text.text_config(2, WIDTH)),
        text_encoder_2=CLIPTextModelWithProjection(text.text_config(2, WIDTH)),
        tokenizer=text.tokenizer(),
        tokenizer_2=text.tokenizer(),
        unet=_unet(
            2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        ),
        scheduler=EulerDiscreteScheduler(**NOISE, timestep_spacing="leading", steps_offset=1),
    )


def _sd3() -> StableDiffusion3Pipeline:
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * WIDTH,
        out_channels=4,
        pos_embed_max_size=16,
    )
    return StableDiffusion3Pipeline(
        vae=_vae(4, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=CLIPTextModelWithProjection(text.text_config(2, WIDTH)),
        text_encoder_2=CLIPTextModelWithProjection(text.text_config(2, WIDTH)),
        text_encoder_3=None,
        tokenizer=text.tokenizer(),
        tokenizer_2=text.tokenizer(),
        tokenizer_3=None,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
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
        vocab_size=text.text_config(2, WIDTH).vocab_size,
        d_model=WIDTH,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=3,
    )
    return {
        "tokenizer": text.tokenizer(),
        "text_encoder": T5EncoderModel(encoder).eval(),  # it has dropout
        "vae": _vae(4),
        "transformer": transformer,
        "scheduler": DDIMScheduler(**NOISE, clip_sample=False, steps_offset=1),
    }


def _unet(cross_width: int, **changes: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=cross_width,
        attention_head_dim=4,
        norm_num_groups=8,
        **changes,
    )


def _vae(channels: int, **changes: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        **changes,
    )


_BUILDERS = {
    "sd": _sd,
    "lcm": _lcm,
    "sdxl": _sdxl,
    "sd3": _sd3,
    "pixart-alpha": _pixart_alpha,
    "pixart-sigma": _pixart_sigma,
}
FAMILIES = tuple(_BUILDERS)
