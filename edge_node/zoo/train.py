"""The command that trains the built-in zoo, from rendered scenes to diffusers folders."""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
import tyro
from diffusers import AutoencoderTiny, ConfigMixin, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, load_model
from torch import nn
from transformers import CLIPTextModel

from edge_node.catalog import ZOO
from edge_node.zoo import text
from edge_node.zoo.training import (
    autoencoder,
    card,
    consistency,
    contrast,
    data,
    denoiser,
    transformer,
)
from edge_node.zoo.training.loop import LossAt, Recipe, TrainingRecord, fit, seeded
from edge_node.zoo.worlds.builtin import OPEN, PLAIN
from edge_node.zoo.worlds.interface import World
from protos import command_line, logs, manifest

logger = logging.getLogger(__name__)

Model = Literal[
    "autoencoder",
    "judge",
    "scene-base",
    "scene-small",
    "scene-nano",
    "scene-turbo",
    "scene-wide",
    "scene-dit",
    "open-autoencoder",
    "open-judge",
    "open-base",
    "open-small",
    "open-wide",
    "open-turbo",
    "open-dit",
]
ORDER: tuple[Model, ...] = get_args(Model)


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """Train the built-in zoo from scratch: autoencoders, judges and denoisers of both worlds.

    $ python -m edge_node.zoo.train                         everything that is not finished
    $ python -m edge_node.zoo.train --model open-base       one of them, with what it needs
    $ accelerate launch -m edge_node.zoo.train              the same on several GPUs

    Data are rendered, nothing is downloaded. Stop it with Ctrl-C and start it again: it goes on
    from its last checkpoint under --work; a finished net is only exported again. Where there is no
    checkpoint, a denoiser goes on from its exported folder, if its recipe has more updates than
    that has seen. Weights land in edge_node/zoo/weights/MODEL/ as float16 safetensors, each with a
    model card.
    """

    model: tuple[Model, ...] = ORDER
    """Nets to train, in this order; what they need of others is trained first where it is not."""
    work: Path = Path("runs/zoo")
    """Checkpoints and the encoded training scenes."""
    weights: Path | None = None
    """Where the finished folders go; into the package by default."""
    updates: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Train for N updates instead of the recipe's number."""

    def __call__(self) -> int:
        """Train one after the other."""
        logs.setup()
        diffusers_logging.set_verbosity_error()
        self.work.mkdir(parents=True, exist_ok=True)
        trainer = Trainer(self.work, self.weights or ZOO, self.updates)
        for model in self.model:
            logger.info("training %s", model)
            trainer.train(model)
        return 0


class Trainer:
    """Trains each net once and hands it to those that need it."""

    def __init__(self, work: Path, weights: Path, updates: int | None = None) -> None:
        self._work, self._weights, self._updates = work, weights, updates

    def train(self, model: Model) -> None:
        """Train one net to its end and export it."""
        world = OPEN if model.startswith("open-") else PLAIN
        if model.endswith("autoencoder"):
            self._autoencoder(world)
        elif model.endswith("judge"):
            self._judge(world)
        elif model.endswith("turbo"):
            self._turbo(model, world)
        elif model.endswith("dit"):
            self._transformer(model, world)
        else:
            self._denoiser(model)

    def _autoencoder(self, world: World[Any]) -> None:
        name, lessons = f"{world.prefix}autoencoder", autoencoder.LESSONS[world.name]
        pool = data.pool(world, lessons.num_scenes, lessons.both.seed)
        with seeded(lessons.both.seed):
            net = autoencoder.Reconstruction(autoencoder.build(world), lessons.object_weight)

        def half(recipe: Recipe, folder: str) -> TrainingRecord:
            nonlocal net
            loss_at = autoencoder.loss_at(pool, world, recipe.batch, lessons.latent_noise)
            net, trained = fit(net, loss_at, recipe, self._work / folder)
            return trained

        both = half(self._recipe(lessons.both), name)
        net.net.encoder.requires_grad_(requires_grad=False)
        recipe = self._recipe(lessons.decoder)
        decoder = half(recipe, f"{name}-decoder")
        net.net.save_pretrained(self._weights / name)
        what = f"AutoencoderTiny, 64x64 to 8x8x{world.latent_channels}; the card is of its "
        what += f"decoder's training, after {both.num_updates:,} updates of both halves in "
        what += f"{both.wall_s / 60:.0f} min"
        self._card(name, _count(net), recipe, decoder, what, lessons.num_scenes)

    def _judge(self, world: World[Any]) -> None:
        name = f"{world.prefix}judge"
        recipe = self._recipe(contrast.RECIPES[world.name])
        pool = data.pool(world, contrast.NUM_SCENES, recipe.seed)
        loss_at = contrast.loss_at(pool, world, recipe.batch)
        with seeded(recipe.seed):
            net = contrast.Contrast(contrast.build(world))
        net, trained = fit(net, loss_at, recipe, self._work / name)
        contrast.export(net.net, world, self._weights / name)
        what = "CLIPModel: CLIP score and FID features"
        self._card(name, _count(net), recipe, trained, what, contrast.NUM_SCENES)

    def _denoiser(self, model: str) -> None:
        variant = denoiser.VARIANTS[model]
        world, recipe = variant.world, self._recipe(variant.recipe)
        vae, latents = self._latents(variant)
        what = f"StableDiffusionPipeline, UNet {variant.channels}"
        if variant.parent:
            unet = self._part(variant.parent, "unet", UNet2DConditionModel)
            unet.register_to_config(sample_size=variant.image_px // 8)
            what += f", fine-tuned from {variant.parent}, {variant.image_px} px"
        else:
            with seeded(recipe.seed):
                unet = denoiser.build(world, variant.channels, variant.image_px)
        if variant.trains_text:
            with seeded(recipe.seed + 1):
                encoder = text.encoder(world)
        else:
            encoder = self._text_encoder(world)
        net = denoiser.Denoising(unet, encoder)
        loss_at = latents.loss_at(recipe.batch, world.layout_time)
        sampler = denoiser.ancestral_scheduler() if variant.is_ancestral else None
        export = partial(denoiser.export, world=world, sampler=sampler)
        self._fit(model, net, loss_at, recipe, vae, what, variant.num_scenes, export)

    def _turbo(self, model: str, world: World[Any]) -> None:
        base, recipe = denoiser.BASES[world.name], self._recipe(consistency.RECIPES[world.name])
        vae, latents = self._latents(denoiser.VARIANTS[base])
        student = self._part(base, "unet", UNet2DConditionModel)
        teacher = self._part(base, "unet", UNet2DConditionModel)
        net = consistency.Consistency(student, teacher, self._text_encoder(world))
        loss_at = latents.distillation_loss_at(recipe.batch, consistency.draw_times)
        what = f"StableDiffusionPipeline with LCMScheduler, distilled from {base} with its "
        what += "guidance built in: sample with guidance_scale 1"
        export = partial(denoiser.export, world=world, sampler=consistency.lcm_scheduler())
        num_scenes = denoiser.VARIANTS[base].num_scenes
        self._fit(model, net, loss_at, recipe, vae, what, num_scenes, export)

    def _transformer(self, model: str, world: World[Any]) -> None:
        base, recipe = denoiser.BASES[world.name], self._recipe(transformer.RECIPES[world.name])
        vae, latents = self._latents(denoiser.VARIANTS[base])
        teacher = self._part(base, "unet", UNet2DConditionModel)
        with seeded(recipe.seed):
            student, encoder = transformer.build(world), transformer.text_encoder(world)
        net = transformer.GuidanceDistillation(student, encoder, teacher, self._text_encoder(world))
        times_of = partial(data.draw_times, layout_time=world.layout_time)
        loss_at = latents.distillation_loss_at(recipe.batch, times_of)
        what = f"PixArtAlphaPipeline, a transformer that learnt from {base}, its guidance built "
        what += "in: sample with guidance_scale 1"
        export = partial(transformer.export, world=world)
        num_scenes = denoiser.VARIANTS[base].num_scenes
        self._fit(model, net, loss_at, recipe, vae, what, num_scenes, export)

    def _fit(
        self,
        model: str,
        net: denoiser.Diffusion,
        loss_at: LossAt,
        recipe: Recipe,
        vae: AutoencoderTiny,
        what: str,
        num_scenes: int,
        export: Callable[..., None],
    ) -> None:
        """Train a denoiser to its end; export it at every checkpoint."""
        folder = self._weights / model

        def save(net: Any, trained: TrainingRecord) -> None:
            _, denoising = _denoising(net)
            export(denoising, net.encoder, vae, folder=folder)
            num_parameters = _count(denoising) + _count(net.encoder)
            self._card(model, num_parameters, recipe, trained, what, num_scenes)

        begun = card.trained(folder)
        if begun and begun.num_updates < recipe.num_updates:
            _load_exported(net, folder)
        else:
            begun = None
        found, trained = fit(
            net, loss_at, recipe, self._work / model, begun=begun, on_checkpoint=save
        )
        save(found, trained)

    def _latents(self, variant: denoiser.Variant) -> tuple[AutoencoderTiny, data.LatentData]:
        """Return a model's autoencoder and its training scenes, encoded by it."""
        name = f"{variant.world.prefix}autoencoder"
        if not (self._weights / name / "config.json").exists():
            self._autoencoder(variant.world)
        vae = AutoencoderTiny.from_pretrained(self._weights / name, dtype=torch.float32)
        vae.register_to_config(_name_or_path=name)  # not where it lies on this machine
        if variant.parent:
            parent = self._part(variant.parent, "vae", AutoencoderTiny)
            vae.register_to_config(scaling_factor=parent.config.scaling_factor)
        encoded = data.encode_scenes(
            vae, variant.world, variant.image_px, variant.num_scenes, self._work
        )
        return vae, encoded

    def _text_encoder(self, world: World[Any]) -> CLIPTextModel:
        """Return the text encoder of a world's base model, frozen."""
        encoder = self._part(denoiser.BASES[world.name], "text_encoder", CLIPTextModel)
        return encoder.requires_grad_(requires_grad=False)

    def _part(self, model: str, part: str, cls: Any) -> Any:
        """Return a part of another model, in float32; train that to its end where it is not."""
        folder = self._weights / model
        if not self._is_finished(model):
            self._denoiser(model)
        net = cls.from_pretrained(folder / part, dtype=torch.float32)
        if isinstance(net, ConfigMixin):
            net.register_to_config(_name_or_path=model)  # not where it lies on this machine
        return net

    def _is_finished(self, model: str) -> bool:
        trained = card.trained(self._weights / model)
        updates = self._updates or denoiser.VARIANTS[model].recipe.num_updates
        return trained is not None and trained.num_updates >= updates

    def _recipe(self, recipe: Recipe) -> Recipe:
        updates = self._updates
        return recipe if updates is None else replace(recipe, num_updates=updates)

    def _card(
        self,
        model: str,
        num_parameters: int,
        recipe: Recipe,
        trained: TrainingRecord,
        what: str,
        num_scenes: int,
    ) -> None:
        training = card.Training(
            model=model,
            what=what,
            num_parameters=num_parameters,
            recipe=recipe,
            data=f"{num_scenes:,} rendered scenes, train split",
            trained=trained,
            manifest=manifest.collect(),
        )
        card.write(training, self._weights / model)


def _load_exported(net: Any, folder: Path) -> None:
    """Fill a denoiser and its text encoder with the weights of a model's folder."""
    part, denoising = _denoising(net)
    denoising.load_state_dict(load_file(folder / part / "diffusion_pytorch_model.safetensors"))
    load_model(net.encoder, folder / "text_encoder" / "model.safetensors")


def _denoising(net: Any) -> tuple[str, Any]:
    """Return the name and the module of what denoises in a net that is trained."""
    part = "transformer" if hasattr(net, "transformer") else "unet"
    return part, getattr(net, part)


def _count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run("python -m edge_node.zoo.train", Train, arguments)


if __name__ == "__main__":
    sys.exit(main())
