"""What the autoencoders promise: an eighth of the side, an error weighted where objects are."""

import numpy as np
import pytest
import torch

from edge_node.zoo.training import autoencoder, data
from edge_node.zoo.worlds.builtin import WORLDS
from protos.seeds import stream

GREY = 0.25


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize("px", [64, 128])
def test_a_latent_is_an_eighth_of_the_image(world, px):
    net = autoencoder.build(world)
    images = stream(1, "test").integers(0, 256, (2, px, px, 3), np.uint8)

    latents = net.encode(torch.zeros(2, 3, px, px)).latents

    assert latents.shape == (2, world.latent_channels, px // 8, px // 8)
    assert autoencoder.reconstruct(net, images).shape == images.shape
    assert autoencoder.reconstruct(net, images).dtype == np.uint8


def test_what_is_restored_exactly_costs_nothing():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1

    assert autoencoder.reconstruction_error(images, images, 4.0) == 0


def test_an_error_of_brightness_by_hand():
    images = torch.full((1, 3, 16, 16), GREY)

    # all channels off by 0.1: light-dark 3 * 0.1 / sqrt(3) = 0.1732, the two others 0
    # squares: 0.03 / 3 channels = 0.01; absolute: 0.1 * 0.1732 / 3 = 0.005774
    error = autoencoder.reconstruction_error(images + 0.1, images, 4.0)

    assert error.item() == pytest.approx(0.015774, abs=1e-5)


def test_an_error_at_an_object_weighs_more_up_to_two_pixels_from_it():
    images = torch.full((1, 3, 16, 16), GREY)
    images[..., 8, 8] = 1.0
    near, far = images.clone(), images.clone()
    near[..., 10, 10] += 0.1
    far[..., 11, 11] += 0.1

    costs = [autoencoder.reconstruction_error(one, images, 4.0) for one in (near, far)]

    assert costs[0] / costs[1] == pytest.approx(4.0)
    even = [autoencoder.reconstruction_error(one, images, 1.0) for one in (near, far)]
    assert even[0] == even[1] == costs[1]


def test_an_error_of_colour_by_hand():
    images = torch.full((1, 3, 16, 16), GREY)
    shift = torch.tensor([0.1, 0.0, -0.1])[:, None, None]

    # red-blue (2 * 0.1 + 2 * 0.1) / sqrt(3) = 0.2309, light-dark and magenta-green 0
    # squares: 0.05333 / 3 channels = 0.01778; absolute: 0.1 * 0.2309 / 3 = 0.007698
    error = autoencoder.reconstruction_error(images + shift, images, 4.0)

    assert error.item() == pytest.approx(0.025476, abs=1e-5)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_training_lowers_the_error(world):
    net = autoencoder.Reconstruction(autoencoder.build(world), 4.0)
    loss_at = autoencoder.loss_at(data.pool(world, 8, 1), world, 2, latent_noise=0.05)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)

    losses = []
    for _ in range(10):
        loss = loss_at(net, stream(2, "test"))  # always the same batch
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert np.isfinite(losses).all()
    assert losses[-1] < 0.9 * losses[0]
