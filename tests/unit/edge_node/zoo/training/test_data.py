"""What training data promise: functions of world and seed, encoded once, timesteps where asked."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edge_node.zoo import text
from edge_node.zoo.training import autoencoder, data
from edge_node.zoo.worlds.builtin import PLAIN, WORLDS
from protos.seeds import stream

each_world = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)


class Recorder(nn.Module):
    """Keeps what a loss function hands to its net."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.got = ()

    def forward(self, *parts):
        self.got = parts
        return self.weight.sum()


@each_world
def test_the_same_seed_renders_the_same_pool_and_draws_the_same_batch(world):
    first, again, other = (data.pool(world, 12, seed) for seed in (1, 1, 2))

    assert first.scenes == again.scenes
    assert np.array_equal(first.images, again.images)
    assert first.scenes != other.scenes
    (scenes, images), (same, equal) = (pool.batch(stream(3, "x"), 5) for pool in (first, again))
    assert scenes == same
    assert torch.equal(images, equal)


@each_world
def test_a_batch_pairs_scenes_with_their_images_in_minus_one_to_one(world):
    pool = data.pool(world, 12, 1)

    scenes, images = pool.batch(stream(3, "x"), 6)

    assert images.shape == (6, 3, 64, 64)
    assert -1 <= images.min() < images.max() <= 1
    pixels = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    held = [world.held_frac(image, scene) for image, scene in zip(pixels, scenes, strict=True)]
    assert np.mean(held) >= 0.95


@each_world
def test_a_pool_is_of_the_train_split(world):
    held_out = {scene.caption for scene in world.draw(stream(1, "x"), 2000, "held-out")}

    assert not held_out & {scene.caption for scene in data.pool(world, 100, 1).scenes}


@each_world
def test_latents_are_written_once_and_read_back_the_same(world, tmp_path, monkeypatch):
    net = autoencoder.build(world)

    written = data.encode_scenes(net, world, 64, 6, tmp_path)

    def refuse(*_):
        raise AssertionError("encoded again")

    monkeypatch.setattr(net, "encode", refuse)
    read = data.encode_scenes(net, world, 64, 6, tmp_path)
    assert written.latents.shape == (6, world.latent_channels, 8, 8)
    assert written.ids.shape == (6, world.max_tokens)
    assert torch.equal(written.latents, read.latents)
    assert torch.equal(written.ids, read.ids)
    assert torch.equal(written.described_ids, read.described_ids)
    assert torch.equal(written.ids, written.described_ids) == (world is PLAIN)
    assert torch.equal(written.empty_ids, read.empty_ids)


def test_latents_of_another_encoder_size_or_number_are_never_taken(tmp_path):
    first, other = (autoencoder.build(PLAIN) for _ in range(2))

    data.encode_scenes(first, PLAIN, 64, 6, tmp_path)
    data.encode_scenes(other, PLAIN, 64, 6, tmp_path)
    data.encode_scenes(first, PLAIN, 128, 6, tmp_path)
    data.encode_scenes(first, PLAIN, 64, 7, tmp_path)

    assert len(list(tmp_path.iterdir())) == 4
    assert not list(tmp_path.glob("*.partial"))


def test_latents_of_scenes_that_are_painted_otherwise_are_never_taken(tmp_path):
    net = autoencoder.build(PLAIN)
    darker = replace(PLAIN, render=lambda *given: PLAIN.render(*given) // 2)

    before = data.encode_scenes(net, PLAIN, 64, 6, tmp_path)
    after = data.encode_scenes(net, darker, 64, 6, tmp_path)

    assert len(list(tmp_path.iterdir())) == 2
    assert not torch.equal(before.latents, after.latents)


@each_world
def test_latents_are_scaled_to_unit_variance_and_the_autoencoder_says_by_what(world, tmp_path):
    net = autoencoder.build(world)
    again = deepcopy(net)
    found = data.encode_scenes(net, world, 64, 6, tmp_path)

    assert found.latents.float().std().item() == pytest.approx(
        1, abs=0.02
    )  # float16 of untrained nets
    assert net.config.scaling_factor != 1
    again.register_to_config(scaling_factor=2 * net.config.scaling_factor)
    doubled = data.encode_scenes(again, world, 64, 6, tmp_path)
    assert torch.allclose(doubled.latents.float(), 2 * found.latents.float(), rtol=2e-3)


def latent_data(world, count=40):
    ids = torch.full((count, world.max_tokens), 7)
    empty = text.token_ids(text.tokenizer(world), [""])[0]
    latents = torch.arange(count).half()[:, None, None, None].expand(-1, 2, 8, 8)
    return data.LatentData(latents.contiguous(), ids, ids + 1, empty)


@each_world
def test_half_of_the_captions_are_descriptions_and_one_in_ten_is_left_out(world):
    found, net = latent_data(world), Recorder()

    found.loss_at(4000, world.layout_time)(net, stream(1, "x"))

    latents, ids, times, noise = net.got
    left_out = (ids == found.empty_ids).all(dim=1).float().mean().item()
    assert left_out == pytest.approx(0.1, abs=0.02)  # 4 * sqrt(0.1 * 0.9 / 4000) = 0.019
    described = (ids == 8).all(dim=1).float().mean().item()
    assert described == pytest.approx(0.45, abs=0.032)  # 4 * sqrt(0.45 * 0.55 / 4000) = 0.031
    assert (found.ids == 7).all()
    assert latents.shape == noise.shape == (4000, 2, 8, 8)
    assert latents.dtype == torch.float32
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    assert times.shape == (4000,)


@each_world
def test_a_student_gets_every_caption_the_empty_one_and_timesteps_of_its_choice(world):
    found, net = latent_data(world), Recorder()

    found.distillation_loss_at(50, lambda _, n: torch.full((n,), 123))(net, stream(1, "x"))

    _, ids, empty_ids, times, _ = net.got
    assert (ids == 7).all()
    assert empty_ids.tolist() == [found.empty_ids.tolist()]
    assert times.tolist() == [123] * 50


@pytest.mark.parametrize(
    ("layout_time", "frac"),
    [
        # one half is drawn there, and of the other half what falls there by itself
        (850, 0.5 + 0.5 * 0.15),
        (500, 0.5 + 0.5 * 0.5),
        (0, 1.0),
    ],
)
def test_half_of_the_timesteps_are_drawn_from_the_layout_time_on(layout_time, frac):
    times = data.draw_times(stream(1, "x"), 20_000, layout_time)

    assert times.dtype == torch.int64
    assert times.min() == 0
    assert times.max() == 999
    # four standard deviations: 4 * sqrt(0.25 / 20000) = 0.014
    assert (times >= layout_time).float().mean().item() == pytest.approx(frac, abs=0.014)
