"""The committed zoo is what its documentation says: sizes, formats, and what the models draw."""

import json
import struct

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    DiffusionPipeline,
    PixArtAlphaPipeline,
    StableDiffusionPipeline,
)

from edge_node.catalog import ZOO
from edge_node.zoo import judge
from edge_node.zoo.evaluate import MODELS
from edge_node.zoo.evaluation.images import generate, load
from edge_node.zoo.training.autoencoder import reconstruct
from edge_node.zoo.training.contrast import retrieval_frac
from edge_node.zoo.worlds.builtin import WORLDS
from edge_node.zoo.worlds.interface import IMAGE_PX
from protos.seeds import stream

SHARED = [f"{world.prefix}{part}" for world in WORLDS.values() for part in ("autoencoder", "judge")]
WORLD_OF = {model: world for name, world in WORLDS.items() for model in MODELS[name]}


def test_all_weights_are_float16_and_together_at_most_110_mb():
    files = sorted(ZOO.rglob("*.safetensors"))
    assert {file.relative_to(ZOO).parts[0] for file in files} == {*WORLD_OF, *SHARED}
    for file in files:
        if file.relative_to(ZOO).parts[0].endswith("autoencoder"):
            continue  # what training goes on from is in float32; no node loads it
        with file.open("rb") as stream_:
            (size,) = struct.unpack("<Q", stream_.read(8))
            header = json.loads(stream_.read(size))
        types = {value["dtype"] for name, value in header.items() if name != "__metadata__"}
        assert types <= {"F16", "I64"}, file
    assert sum(file.stat().st_size for file in files) <= 110e6


@pytest.mark.parametrize("model", [*WORLD_OF, *SHARED])
def test_each_model_has_a_card_with_its_training(model):
    training = json.loads((ZOO / model / "training.json").read_text())
    assert training["trained"]["num_updates"] == training["recipe"]["num_updates"]
    assert training["trained"]["wall_s"] > 0
    assert training["manifest"]["cpu"]
    card = (ZOO / model / "model_card.md").read_text()
    assert "Apache-2.0" in card
    assert (ZOO / model / "loss.png").stat().st_size > 1000


def the_judge(world):
    return judge.load_judge(ZOO / f"{world.prefix}judge")


LEAST_RETRIEVAL_FRAC = {"plain": 0.92, "open": 0.88}
"""The open world's judge was trained on fuller scenes of more kinds."""


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_the_judge_finds_the_right_caption(world):
    found = retrieval_frac(the_judge(world), world, stream(7, "test"), rounds=4)
    assert found >= LEAST_RETRIEVAL_FRAC[world.name]


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_the_check_reads_scenes_and_still_does_after_the_autoencoder(world):
    rng, folder = stream(9, "test"), ZOO / f"{world.prefix}autoencoder"
    scenes = world.draw(rng, 200, "held-out")
    images = world.render(scenes, rng, IMAGE_PX)
    decoded = reconstruct(AutoencoderTiny.from_pretrained(folder, dtype=torch.float32), images)

    for shown, least in ((images, 0.98), (decoded, 0.95)):
        pairs = zip(shown, scenes, strict=True)
        assert np.mean([world.held_frac(image, scene) for image, scene in pairs]) >= least


LEAST_ATOMS_FRAC = {
    "scene-nano": 0.3,
    "scene-small": 0.6,
    "scene-base": 0.9,
    "scene-turbo": 0.85,
    "scene-wide": 0.75,
    "scene-dit": 0.8,
    "open-base": 0.15,
}
"""Of 24 prompts at 8 steps: well below what docs/results/zoo.md has of many."""


@pytest.mark.parametrize("model", WORLD_OF)
def test_each_model_draws_what_it_is_asked(model):
    world, pipeline = WORLD_OF[model], load(ZOO / model)
    asked = world.distinct(stream(8, "test"), 24, "held-out")
    images = generate(pipeline, [scene.caption for scene in asked], num_steps=8, seed=1)

    side = 2 * IMAGE_PX if model.endswith("wide") else IMAGE_PX
    assert images.shape == (24, side, side, 3)
    held = [world.held_frac(image, scene) for image, scene in zip(images, asked, strict=True)]
    assert np.mean(held) >= LEAST_ATOMS_FRAC[model]


@pytest.mark.parametrize("model", [m for m in WORLD_OF if m.endswith(("nano", "base"))])
def test_denoising_steps_buy_quality(model):
    world, pipeline = WORLD_OF[model], load(ZOO / model)
    captions = [scene.caption for scene in world.distinct(stream(8, "test"), 24, "held-out")]
    scorer = the_judge(world)

    once, often = (
        scorer.clip_score(generate(pipeline, captions, n, seed=1), captions).mean() for n in (1, 16)
    )

    assert often > once + 5


@pytest.mark.parametrize("model", WORLD_OF)
def test_the_folder_names_its_own_pipeline(model):
    pipeline = DiffusionPipeline.from_pretrained(ZOO / model, local_files_only=True)

    expected = PixArtAlphaPipeline if model.endswith("dit") else StableDiffusionPipeline
    assert isinstance(pipeline, expected)
    for config in (ZOO / model).rglob("*config.json"):
        assert "/" not in json.loads(config.read_text()).get("_name_or_path", ""), config
