"""What the training command promises: every model of a world, trained for two updates, loads."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DiffusionPipeline,
    EulerAncestralDiscreteScheduler,
    LCMScheduler,
    PixArtAlphaPipeline,
    StableDiffusionPipeline,
)
from safetensors.torch import load_file

from edge_node.catalog import header
from edge_node.zoo import judge, train
from edge_node.zoo.training import autoencoder, card, consistency, contrast, denoiser, transformer
from edge_node.zoo.worlds.builtin import WORLDS
from protos.seeds import stream

# diffusers fills in the LCM sampler's steps_offset and says so
pytestmark = pytest.mark.filterwarnings("ignore:The configuration file of this scheduler")
NUM_SCENES, BATCH = 6, 2


def shrink(patch):
    """Leave the nets what they are, and take a handful of scenes for them."""
    for module in (consistency, contrast, transformer):
        for name, recipe in module.RECIPES.items():
            patch.setitem(module.RECIPES, name, replace(recipe, batch=BATCH))
    for name, lessons in autoencoder.LESSONS.items():
        small = replace(
            lessons,
            both=replace(lessons.both, batch=BATCH),
            decoder=replace(lessons.decoder, batch=BATCH),
            num_scenes=NUM_SCENES,
        )
        patch.setitem(autoencoder.LESSONS, name, small)
    for name, variant in denoiser.VARIANTS.items():
        recipe = replace(variant.recipe, batch=BATCH)
        patch.setitem(
            denoiser.VARIANTS, name, replace(variant, recipe=recipe, num_scenes=NUM_SCENES)
        )
    patch.setattr(contrast, "NUM_SCENES", NUM_SCENES)


@pytest.fixture(scope="module", params=WORLDS)
def trained(request, tmp_path_factory):
    """A world, its models' names, and the folder of their weights and of their checkpoints."""
    world, root = WORLDS[request.param], tmp_path_factory.mktemp(request.param)
    is_open = world.name == "open"
    mine = tuple(model for model in train.ORDER if model.startswith("open-") == is_open)
    trainer = train.Trainer(root / "work", root / "weights", updates=2)
    (root / "work").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        for model in mine:
            trainer.train(model)
    return world, mine, root


def drawers(models):
    return [model for model in models if not model.endswith(("autoencoder", "judge"))]


def test_every_model_has_a_folder_a_card_and_its_updates(trained):
    _, models, root = trained

    assert sorted(folder.name for folder in (root / "weights").iterdir()) == sorted(models)
    for model in models:
        written = json.loads((root / "weights" / model / "training.json").read_text())
        assert written["model"] == model
        assert written["trained"]["num_updates"] == written["recipe"]["num_updates"] == 2
        assert f"# {model}" in (root / "weights" / model / "model_card.md").read_text()


def test_every_denoiser_draws_an_image_of_its_size_from_its_folder(trained):
    world, models, root = trained
    (scene,) = world.draw(stream(1, "test"), 1, "held-out")

    for model in drawers(models):
        pipeline = DiffusionPipeline.from_pretrained(root / "weights" / model)
        pipeline.set_progress_bar_config(disable=True)
        own = {"use_resolution_binning": False} if model.endswith("dit") else {}
        out = pipeline(scene.caption, num_inference_steps=1, output_type="np", **own)
        px = 128 if model.endswith("wide") else 64
        assert out.images.shape == (1, px, px, 3), model


def test_a_folder_names_its_own_pipeline_and_sampler(trained):
    _, models, root = trained

    for model in drawers(models):
        pipeline = DiffusionPipeline.from_pretrained(root / "weights" / model)
        is_transformer, is_turbo = model.endswith("dit"), model.endswith("turbo")
        expected = PixArtAlphaPipeline if is_transformer else StableDiffusionPipeline
        assert isinstance(pipeline, expected), model
        is_ancestral = model in ("open-base", "open-small", "open-wide")
        sampler = EulerAncestralDiscreteScheduler if is_ancestral else DDIMScheduler
        assert isinstance(pipeline.scheduler, LCMScheduler if is_turbo else sampler), model
        for config in (root / "weights" / model).rglob("*config.json"):
            assert "/" not in json.loads(config.read_text()).get("_name_or_path", ""), config


def test_a_denoisers_weights_are_float16(trained):
    _, models, root = trained

    for model in drawers(models):
        for file in (root / "weights" / model).rglob("*.safetensors"):
            _, entries = header(file)
            assert {entry["dtype"] for entry in entries.values()} <= {"F16", "I64"}, file


def test_all_models_of_a_world_share_words_and_the_scale_of_latents(trained):
    world, models, root = trained
    pipelines = {
        model: DiffusionPipeline.from_pretrained(root / "weights" / model)
        for model in drawers(models)
    }

    scales = {pipeline.vae.config.scaling_factor for pipeline in pipelines.values()}
    assert len(scales) == 1
    for pipeline in pipelines.values():
        assert {*world.words} <= {*pipeline.tokenizer.get_vocab()}
        assert pipeline.tokenizer.model_max_length == world.max_tokens
        assert pipeline.vae.config.latent_channels == world.latent_channels
    encoders = [
        pipeline.text_encoder.state_dict()
        for model, pipeline in pipelines.items()
        if not model.endswith("dit")  # its own
    ]
    for state in encoders[1:]:
        assert all((state[key] == value).all() for key, value in encoders[0].items())


def test_the_autoencoder_and_the_judge_load(trained):
    world, _, root = trained
    (scene,) = world.draw(stream(1, "test"), 1, "held-out")
    image = world.render([scene], stream(1, "test"), 64)

    vae = AutoencoderTiny.from_pretrained(root / "weights" / f"{world.prefix}autoencoder")
    scored = judge.load_judge(root / "weights" / f"{world.prefix}judge").clip_score(
        image, [scene.caption]
    )

    assert autoencoder.reconstruct(vae, image).shape == image.shape
    assert 0 <= scored[0] <= 100


def test_what_is_finished_is_only_exported_again(trained, monkeypatch):
    world, _, root = trained
    shrink(monkeypatch)
    small = "open-small" if world.name == "open" else "scene-small"
    weights = root / "weights" / small / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    weights.unlink()

    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(denoiser.Denoising, "forward", refuse)
    train.Trainer(root / "work", root / "weights", updates=2).train(small)

    assert weights.read_bytes() == before


def test_without_a_checkpoint_a_model_goes_on_from_its_folder(trained, tmp_path, monkeypatch):
    world, _, root = trained
    shrink(monkeypatch)
    base = denoiser.BASES[world.name]
    shutil.copytree(root / "weights", tmp_path / "weights")
    (tmp_path / "work").mkdir()
    given = []

    def forward(self, *_):
        given.append({name: value.detach().clone() for name, value in self.named_parameters()})
        return sum(value.sum() for value in self.parameters() if value.requires_grad)

    for cls in (denoiser.Denoising, transformer.GuidanceDistillation):
        monkeypatch.setattr(cls, "forward", forward)
    for model, part in ((base, "unet"), (base.replace("base", "dit"), "transformer")):
        given.clear()
        train.Trainer(tmp_path / "work", tmp_path / "weights", updates=3).train(model)

        (third,) = given
        file = root / "weights" / model / part / "diffusion_pytorch_model.safetensors"
        for name, value in load_file(file).items():
            assert torch.equal(third[f"{part}.{name}"], value.float()), name
        assert card.trained(tmp_path / "weights" / model).num_updates == 3


def test_what_a_model_needs_is_trained_first(tmp_path, monkeypatch):
    shrink(monkeypatch)
    (tmp_path / "work").mkdir()

    train.Trainer(tmp_path / "work", tmp_path / "weights", updates=1).train("scene-small")

    made = sorted(folder.name for folder in (tmp_path / "weights").iterdir())
    assert made == ["autoencoder", "scene-base", "scene-small"]
