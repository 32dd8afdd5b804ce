"""The zoo's autoencoder: an eighth of an image's side, 8 channels, shared by all its models.

Diffusers' AutoencoderTiny (the class of TAESD): without group norms, which wash out colour in flat
images. Trained on rendered scenes by a squared and a small absolute error of opponent colours,
weighted up where objects are. In plain RGB the green-magenta axis is a small part of the error, and
training settled on one axis of colour: blue, green and purple came back as the same blue.

A style has an autoencoder of its own on the *same* latents: its encoder learns to map a styled
image to where the shared one maps the plain image, its decoder to paint that in the style.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional

from edge_node.zoo import scenes
from edge_node.zoo.loop import Recipe, torch_generator
from edge_node.zoo.styles import Style

RECIPE = Recipe(
    num_updates=3200, batch=16, learning_rate=4e-3, seed=11, ema_decay=0.998, weight_decay=0.0
)
DECODER_RECIPE = replace(RECIPE, num_updates=2500, learning_rate=2e-3, seed=12)
"""Afterwards, with the encoder as it is: latents stay what they are, edges become sharp."""
STYLE_RECIPE = replace(RECIPE, num_updates=1500, learning_rate=2e-3, seed=13)
LATENT_CHANNELS = 8
LATENT_NOISE = 0.05
"""Standard deviation of the noise on latents (theirs is about 0.6): decoding must forgive it."""
ABSOLUTE_WEIGHT = 0.1
OBJECT_WEIGHT = 4.0
"""Of a pixel within 2 pixels of an object; objects cover a tenth of a scene."""
OPPONENT = torch.tensor([[1.0, 1.0, 1.0], [2.0, 0.0, -2.0], [1.5, -3.0, 1.5]]) / 3**0.5
"""RGB to light-dark, red-blue, magenta-green, the rarer ones weighted up."""


def build() -> AutoencoderTiny:
    """Return the untrained autoencoder."""
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        num_encoder_blocks=(0, 1, 1, 2),
        num_decoder_blocks=(2, 2, 2, 0),
        latent_channels=LATENT_CHANNELS,
    )


def to_tensor(images: np.ndarray) -> Tensor:
    """Return uint8 images [n, h, w, 3] as float32 [n, 3, h, w] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


class Reconstruction(nn.Module):
    """The autoencoder with its loss as forward, so that accelerate may wrap it."""

    def __init__(self, net: AutoencoderTiny) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """Return the scalar loss of images [n, 3, h, w] with latent noise [n, 8, h/8, w/8]."""
        latents = self.net.encode(images).latents + LATENT_NOISE * noise
        return reconstruction_error(self.net.decode(latents).sample, images, images)


class Restyling(nn.Module):
    """A style's autoencoder on the latents of the shared one, with its loss as forward."""

    def __init__(self, shared: AutoencoderTiny) -> None:
        super().__init__()
        self.net = deepcopy(shared)
        self.shared = shared.encoder.requires_grad_(requires_grad=False)

    def forward(self, plain: Tensor, styled: Tensor, noise: Tensor) -> Tensor:
        """Return the loss of the same scenes, plain and styled [n, 3, h, w]."""
        latents = self.shared(plain)
        restored = self.net.decode(latents + LATENT_NOISE * noise).sample
        distance = (self.net.encode(styled).latents - latents).square().mean()
        return reconstruction_error(restored, styled, plain) + distance


def reconstruction_error(restored: Tensor, images: Tensor, plain: Tensor) -> Tensor:
    """Return the weighted error of images [n, 3, h, w]; ``plain`` shows where objects are."""
    error = restored - images
    opponent = torch.einsum("kc,nchw->nkhw", OPPONENT.to(error.device), error)
    is_object = (plain - plain[:, :, :1, :1]).abs().amax(dim=1, keepdim=True) > 0.15
    is_near = functional.max_pool2d(is_object.float(), 5, stride=1, padding=2)
    weight = 1 + (OBJECT_WEIGHT - 1) * is_near
    return (weight * (opponent.square() + ABSOLUTE_WEIGHT * opponent.abs())).mean()


def loss_at(model: nn.Module, rng: np.random.Generator) -> Tensor:
    """Return the loss of one batch of training scenes."""
    device = next(model.parameters()).device
    images = to_tensor(scenes.render(scenes.draw(rng, RECIPE.batch, "train"), rng)).to(device)
    return model(images, _latent_noise(rng).to(device))


def style_loss_at(style: Style) -> Callable[[nn.Module, np.random.Generator], Tensor]:
    """Return the function that draws training scenes, plain and in the style: their loss."""

    def draw(model: nn.Module, rng: np.random.Generator) -> Tensor:
        device = next(model.parameters()).device
        drawn = scenes.draw(rng, STYLE_RECIPE.batch, "train")
        plain = scenes.render(drawn, deepcopy(rng))
        styled = scenes.render(drawn, rng, style=style)
        parts = (to_tensor(plain), to_tensor(styled), _latent_noise(rng))
        return model(*(part.to(device) for part in parts))

    return draw


def _latent_noise(rng: np.random.Generator) -> Tensor:
    side = scenes.IMAGE_PX // 8
    return torch.randn((RECIPE.batch, LATENT_CHANNELS, side, side), generator=torch_generator(rng))


@torch.no_grad()
def reconstruct(net: AutoencoderTiny, images: np.ndarray) -> np.ndarray:
    """Return uint8 images [n, h, w, 3] encoded and decoded: what no denoiser can exceed."""
    parts = [
        net.decode(net.encode(part.to(net.device)).latents).sample.cpu()
        for part in torch.split(to_tensor(images), 50)
    ]
    pixels = (torch.cat(parts).clamp(-1, 1) + 1) * 127.5
    return pixels.round().byte().permute(0, 2, 3, 1).numpy()
