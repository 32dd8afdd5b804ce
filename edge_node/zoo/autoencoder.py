"""The zoo's autoencoder: 64x64 RGB to 8x8 latents of 8 channels, shared by all its models.

Trained on rendered scenes by a squared and a small absolute error, both weighted up where objects
are, and a small KL term. (An absolute error alone settles on one axis of colour: it pays as much
for a blue that is a little off as for a blue that is orange.)
"""

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from edge_node.zoo import scenes
from edge_node.zoo.loop import Recipe, torch_generator

RECIPE = Recipe(
    num_updates=5000, batch=8, learning_rate=2e-3, seed=11, ema_decay=0.998, weight_decay=0.0
)
KL_WEIGHT = 1e-6
ABSOLUTE_WEIGHT = 0.1
OBJECT_WEIGHT = 4.0
"""Of a pixel that differs from the background; objects cover a tenth of a scene."""
LATENT_CHANNELS = 8


def build() -> AutoencoderKL:
    """Return the untrained autoencoder."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 48, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=scenes.IMAGE_PX,
        mid_block_add_attention=False,
    )


def to_tensor(images: np.ndarray) -> Tensor:
    """Return uint8 images [n, h, w, 3] as float32 [n, 3, h, w] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


class Reconstruction(nn.Module):
    """The autoencoder with its loss as forward, so that accelerate may wrap it."""

    def __init__(self, net: AutoencoderKL) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """Return the scalar loss of images [n, 3, h, w] with posterior noise [n, 8, h/8, w/8]."""
        posterior = self.net.encode(images).latent_dist
        restored = self.net.decode(posterior.mean + posterior.std * noise).sample
        is_object = (images - images[:, :, :1, :1]).abs().amax(dim=1, keepdim=True) > 0.15
        weight = 1 + (OBJECT_WEIGHT - 1) * is_object
        error = restored - images
        cost = weight * (error.square() + ABSOLUTE_WEIGHT * error.abs())
        return cost.mean() + KL_WEIGHT * posterior.kl().mean()


def loss_at(model: nn.Module, rng: np.random.Generator) -> Tensor:
    """Return the loss of one batch of training scenes."""
    device = next(model.parameters()).device
    images = to_tensor(scenes.render(scenes.draw(rng, RECIPE.batch, "train"), rng)).to(device)
    shape = (len(images), LATENT_CHANNELS, scenes.IMAGE_PX // 8, scenes.IMAGE_PX // 8)
    noise = torch.randn(shape, generator=torch_generator(rng)).to(device)
    return model(images, noise)


@torch.no_grad()
def psnr_db(net: AutoencoderKL, rng: np.random.Generator, count: int = 256) -> float:
    """Return the mean peak signal-to-noise ratio on held-out scenes, in dB."""
    images = to_tensor(scenes.render(scenes.draw(rng, count, "held-out"), rng)).to(net.device)
    restored = net.decode(net.encode(images).latent_dist.mean).sample.clamp(-1, 1)
    mse = (restored - images).square().mean(dim=(1, 2, 3)) / 4
    return float((-10 * torch.log10(mse)).mean())
