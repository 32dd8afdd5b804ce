"""The transformers: PixArt-like denoisers that learn from a base model (Chen et al. 2024).

    v_teacher = guided answer of the base model at x_t, scale 3        two samples, without gradient
    loss      = |v_student(x_t, t) - v_teacher|^2                  one sample

Patches of one latent pixel are its tokens; captions enter by cross-attention from a small T5
encoder of its own, timesteps by one shared modulation (adaLN-single). Guidance is built in, at the
teacher's scale: guidance distillation (Meng et al. 2023, stage one). Departs from them: the scale
is fixed instead of drawn and embedded.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderTiny,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextModel, T5Config, T5EncoderModel

from edge_node.zoo import text
from edge_node.zoo.training import denoiser
from edge_node.zoo.training.consistency import guided_v
from edge_node.zoo.training.loop import Recipe
from edge_node.zoo.worlds.interface import IMAGE_PX, World

_PLAIN = Recipe(
    num_updates=6000,
    batch=64,
    learning_rate=1e-3,
    seed=51,
    warmup_updates=200,
    checkpoint_every=250,
)
RECIPES = {"plain": _PLAIN, "open": replace(_PLAIN, seed=72)}
NUM_HEADS = 6
HEAD_DIM = 16
NUM_LAYERS = 6
TEXT_WIDTH = 64


def build(world: World[Any]) -> PixArtTransformer2DModel:
    """Return a world's untrained transformer."""
    return PixArtTransformer2DModel(
        sample_size=IMAGE_PX // 8,
        patch_size=1,
        in_channels=world.latent_channels,
        out_channels=world.latent_channels,
        num_layers=NUM_LAYERS,
        num_attention_heads=NUM_HEADS,
        attention_head_dim=HEAD_DIM,
        cross_attention_dim=NUM_HEADS * HEAD_DIM,
        caption_channels=TEXT_WIDTH,
        use_additional_conditions=False,
    )


def text_encoder(world: World[Any]) -> T5EncoderModel:
    """Return its untrained text encoder, in T5's layout, on the world's tokens."""
    like = text.text_config(world, num_layers=2, width=TEXT_WIDTH)
    return T5EncoderModel(
        T5Config(
            vocab_size=like.vocab_size,
            d_model=like.hidden_size,
            d_kv=like.hidden_size // like.num_attention_heads,
            d_ff=like.intermediate_size,
            num_layers=like.num_hidden_layers,
            num_heads=like.num_attention_heads,
            dropout_rate=0.0,
            relative_attention_num_buckets=world.max_tokens,
            relative_attention_max_distance=world.max_tokens,
            feed_forward_proj="gated-gelu",
            pad_token_id=like.pad_token_id,
            eos_token_id=like.eos_token_id,
        )
    )


class GuidanceDistillation(denoiser.Diffusion):
    """Transformer, its text encoder and the frozen teacher."""

    def __init__(
        self,
        transformer: PixArtTransformer2DModel,
        encoder: T5EncoderModel,
        teacher: UNet2DConditionModel,
        teacher_encoder: CLIPTextModel,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.transformer.set_attn_processor(AttnProcessor())
        self.encoder = encoder
        self.teacher = teacher.requires_grad_(requires_grad=False)
        self.teacher_encoder = teacher_encoder.requires_grad_(requires_grad=False)

    def forward(
        self, latents: Tensor, ids: Tensor, empty_ids: Tensor, times: Tensor, noise: Tensor
    ) -> Tensor:
        """Return the mean squared distance between the student's v and the guided teacher's."""
        alpha, sigma = self.levels(times)
        noisy = alpha * latents + sigma * noise
        with torch.no_grad():
            context = self.teacher_encoder(input_ids=ids).last_hidden_state
            empty = self.teacher_encoder(input_ids=empty_ids).last_hidden_state
            target = guided_v(self.teacher, noisy, times, context, empty.expand_as(context))
        mask = ids != self.encoder.config.pad_token_id
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        out: Tensor = self.transformer(
            noisy, encoder_hidden_states=hidden, encoder_attention_mask=mask, timestep=times
        ).sample
        return (out - target).square().mean()


def export(
    transformer: PixArtTransformer2DModel,
    encoder: T5EncoderModel,
    autoencoder: AutoencoderTiny,
    world: World[Any],
    folder: Path,
) -> None:
    """Write a PixArt folder in float16 that ``PixArtAlphaPipeline`` loads."""
    pipeline = PixArtAlphaPipeline(
        tokenizer=text.tokenizer(world),
        text_encoder=encoder,
        vae=autoencoder,
        transformer=transformer,
        scheduler=denoiser.scheduler(),
    )
    denoiser.write(pipeline, folder)
