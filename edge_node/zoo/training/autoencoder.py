"""The autoencoders: an eighth of an image's side, shared by all models of a world.

Diffusers' AutoencoderTiny (the class of TAESD): without group norms, which wash out colour in flat
images. Trained on rendered scenes by a squared and a small absolute error of opponent colours,
weighted up where objects are. In plain RGB the green-magenta axis is a small part of the error, and
training settled on one axis of colour: blue, green and purple came back as the same blue.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional

from edge_node.zoo.judge import to_tensor
from edge_node.zoo.training.data import Pool
from edge_node.zoo.training.loop import LossAt, Recipe, torch_generator
from edge_node.zoo.worlds.interface import IMAGE_PX, World

ABSOLUTE_WEIGHT = 0.1
OPPONENT = torch.tensor([[1.0, 1.0, 1.0], [2.0, 0.0, -2.0], [1.5, -3.0, 1.5]]) / 3**0.5
"""RGB to light-dark, red-blue, magenta-green, the rarer ones weighted up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lessons:
    """How a world's autoencoder is trained: both halves, then the decoder alone.

    The second time latents stay what they are, and edges become sharp.
    """

    both: Recipe
    decoder: Recipe
    latent_noise: float
    """Standard deviation of the noise on latents (theirs is about 0.5): decoding must forgive."""
    object_weight: float
    """Of a pixel within 2 pixels of an object."""
    num_scenes: int


_PLAIN = Recipe(
    num_updates=3200, batch=16, learning_rate=4e-3, seed=11, ema_decay=0.998, weight_decay=0.0
)
_OPEN = replace(_PLAIN, num_updates=9000, batch=32, seed=14, restarts=(4000,))
LESSONS = {
    "plain": Lessons(
        both=_PLAIN,
        decoder=replace(_PLAIN, num_updates=2500, learning_rate=2e-3, seed=12),
        latent_noise=0.05,
        object_weight=4.0,
        num_scenes=20_000,
    ),
    "open": Lessons(
        both=_OPEN,
        decoder=replace(_OPEN, num_updates=3000, learning_rate=2e-3, seed=15, restarts=()),
        latent_noise=0.03,
        object_weight=1.0,
        num_scenes=20_000,
    ),
}


def build(world: World[Any]) -> AutoencoderTiny:
    """Return a world's untrained autoencoder."""
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        num_encoder_blocks=(0, 1, 1, 2),
        num_decoder_blocks=(2, 2, 2, 0),
        latent_channels=world.latent_channels,
    )


class Reconstruction(nn.Module):
    """The autoencoder with its loss as forward, so that accelerate may wrap it."""

    def __init__(self, net: AutoencoderTiny, object_weight: float) -> None:
        super().__init__()
        self.net = net
        self._object_weight = object_weight

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """Return the scalar loss of images [n, 3, h, w] with latent noise [n, c, h/8, w/8]."""
        restored = self.net.decode(self.net.encode(images).latents + noise).sample
        return reconstruction_error(restored.float(), images, self._object_weight)


def reconstruction_error(restored: Tensor, images: Tensor, object_weight: float) -> Tensor:
    """Return the weighted error of images [n, 3, h, w]; objects differ from the first pixel."""
    error = restored - images
    opponent = (OPPONENT.to(error.device)[..., None, None] * error[:, None]).sum(dim=2)
    is_object = (images - images[:, :, :1, :1]).abs().amax(dim=1, keepdim=True) > 0.15
    is_near = functional.max_pool2d(is_object.float(), 5, stride=1, padding=2)
    weight = 1 + (object_weight - 1) * is_near
    return (weight * (opponent.square() + ABSOLUTE_WEIGHT * opponent.abs())).mean()


def loss_at(pool: Pool, world: World[Any], batch: int, latent_noise: float) -> LossAt:
    """Return the function that draws a batch of training scenes and returns its loss."""
    side = IMAGE_PX // 8

    def loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
        device = next(model.parameters()).device
        _, images = pool.batch(rng, batch)
        shape = (batch, world.latent_channels, side, side)
        noise = latent_noise * torch.randn(shape, generator=torch_generator(rng))
        return model(images.to(device), noise.to(device))

    return loss


@torch.no_grad()
def reconstruct(net: AutoencoderTiny, images: np.ndarray) -> np.ndarray:
    """Return uint8 images [n, h, w, 3] encoded and decoded: what no denoiser can exceed."""
    parts = [
        net.decode(net.encode(part.to(net.device)).latents).sample.cpu()
        for part in torch.split(to_tensor(images), 50)
    ]
    pixels = (torch.cat(parts).clamp(-1, 1) + 1) * 127.5
    return pixels.round().byte().permute(0, 2, 3, 1).numpy()
