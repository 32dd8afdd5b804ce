"""Train the built-in zoo from scratch: the autoencoder, the judge and the denoisers.

    python -m edge_node.zoo.train                          everything that is not finished, in order
    python -m edge_node.zoo.train --model scene-base       one of them (with what it needs)
    accelerate launch -m edge_node.zoo.train               the same on several GPUs

Data are rendered, nothing is downloaded. A run that was stopped continues from its last
checkpoint under --work; a finished net is only exported again. Weights land in
edge_node/zoo/weights/<model>/ as float16 safetensors, each with a model card.
"""

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
from torch import nn
from transformers import CLIPTextModel

from edge_node.catalog import ZOO
from edge_node.zoo import autoencoder, card, consistency, denoiser, judge, text, transformer
from edge_node.zoo.loop import LossAt, Recipe, TrainingRecord, fit
from protos import logs, manifest

logger = logging.getLogger(__name__)

Model = Literal[
    "autoencoder",
    "judge",
    "scene-base",
    "scene-small",
    "scene-nano",
    "scene-turbo",
    "scene-neon",
    "scene-sketch",
    "scene-wide",
    "scene-dit",
]
ORDER: tuple[Model, ...] = get_args(Model)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The nets to train, and the folders."""

    model: tuple[Model, ...] = ORDER
    """Nets to train, in this order; the autoencoder and base's text encoder are trained first
    where a denoiser needs them and they are not."""
    work: Path = Path("runs/zoo")
    """Checkpoints and the encoded training scenes."""
    weights: Path = ZOO
    """Where the finished folders go."""
    updates: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Train for N updates instead of the recipe's number."""


class Trainer:
    """Trains each net once and hands it to those that need it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def train(self, model: Model) -> None:
        """Train one net to its end and export it."""
        if model == "autoencoder":
            self._autoencoder()
        elif model == "judge":
            self._judge()
        elif model == "scene-turbo":
            self._turbo()
        elif model == "scene-dit":
            self._transformer()
        else:
            self._denoiser(model)

    def _autoencoder(self) -> None:
        net = autoencoder.Reconstruction(autoencoder.build())
        recipe = self._recipe(autoencoder.RECIPE)
        net, both = fit(net, autoencoder.loss_at, recipe, self._settings.work / "autoencoder")
        net.net.encoder.requires_grad_(requires_grad=False)
        recipe = self._recipe(autoencoder.DECODER_RECIPE)
        net, decoder = fit(net, autoencoder.loss_at, recipe, self._settings.work / "decoder")
        net.net.save_pretrained(self._settings.weights / "autoencoder")
        what = "AutoencoderTiny, 64x64 to 8x8x8; the card is of its decoder's training, after "
        what += f"{both.num_updates:,} updates of both halves in {both.wall_s / 60:.0f} min"
        self._card("autoencoder", _count(net), recipe, decoder, what)

    def _judge(self) -> None:
        recipe = self._recipe(judge.RECIPE)
        net = judge.Contrast(judge.build())
        net, trained = fit(net, judge.loss_at, recipe, self._settings.work / "judge")
        judge.export(net.net, self._settings.weights / "judge")
        self._card("judge", _count(net), recipe, trained, "CLIPModel: CLIP score and FID features")

    def _denoiser(self, model: Model) -> None:
        variant = denoiser.VARIANTS[model]
        vae, data = self._latents(model)
        recipe = self._recipe(variant.recipe)
        what = f"StableDiffusionPipeline, UNet {variant.channels}"
        if variant.parent is None:
            unet = denoiser.build(variant.channels, variant.image_px)
        else:
            unet = self._part(variant.parent, "unet", UNet2DConditionModel)
            unet.register_to_config(sample_size=variant.image_px // 8)
            what += f", fine-tuned from {variant.parent}; {variant.style}, {variant.image_px} px"
        encoder = text.encoder() if variant.trains_text else self._text_encoder()
        net = denoiser.Denoising(unet, encoder)
        self._fit(model, net, data.loss_at(recipe.batch), recipe, vae, what)

    def _turbo(self) -> None:
        vae, data = self._latents("scene-turbo")
        recipe = self._recipe(consistency.RECIPE)
        student = self._part("scene-base", "unet", UNet2DConditionModel)
        teacher = self._part("scene-base", "unet", UNet2DConditionModel)
        net = consistency.Consistency(student, teacher, self._text_encoder())
        loss_at = data.distillation_loss_at(recipe.batch, consistency.draw_times)
        what = "StableDiffusionPipeline with LCMScheduler, distilled from scene-base with its "
        what += "guidance built in: sample with guidance_scale 1"
        export = partial(denoiser.export, sampler=consistency.lcm_scheduler())
        self._fit("scene-turbo", net, loss_at, recipe, vae, what, export)

    def _transformer(self) -> None:
        vae, data = self._latents("scene-dit")
        recipe = self._recipe(transformer.RECIPE)
        teacher = self._part("scene-base", "unet", UNet2DConditionModel)
        net = transformer.GuidanceDistillation(
            transformer.build(), transformer.text_encoder(), teacher, self._text_encoder()
        )
        loss_at = data.distillation_loss_at(recipe.batch, denoiser.draw_times)
        what = "PixArtAlphaPipeline, a transformer that learnt from scene-base, its guidance built "
        what += "in: sample with guidance_scale 1"
        self._fit("scene-dit", net, loss_at, recipe, vae, what, transformer.export)

    def _fit(
        self,
        model: Model,
        net: denoiser.Diffusion,
        loss_at: LossAt,
        recipe: Recipe,
        vae: AutoencoderTiny,
        what: str,
        export: Callable[[nn.Module, nn.Module, AutoencoderTiny, Path], None] = denoiser.export,
    ) -> None:
        """Train a denoiser to its end; export it at every checkpoint."""

        def save(net: Any, trained: TrainingRecord) -> None:
            denoising = net.transformer if hasattr(net, "transformer") else net.unet
            export(denoising, net.encoder, vae, self._settings.weights / model)
            num_parameters = _count(denoising) + _count(net.encoder)
            self._card(model, num_parameters, recipe, trained, what)

        found, trained = fit(net, loss_at, recipe, self._settings.work / model, on_checkpoint=save)
        save(found, trained)

    def _latents(self, model: Model) -> tuple[AutoencoderTiny, denoiser.LatentData]:
        """Return a model's autoencoder and its training scenes, encoded by it."""
        variant = denoiser.variant_of(model)
        folder, work = self._settings.weights / "autoencoder", self._settings.work
        if not (folder / "config.json").exists():
            self._autoencoder()
        vae = AutoencoderTiny.from_pretrained(folder, dtype=torch.float32)
        if variant.style != "plain":
            restyling = autoencoder.Restyling(vae)
            loss_at = autoencoder.style_loss_at(variant.style)
            recipe = self._recipe(autoencoder.STYLE_RECIPE)
            vae = fit(restyling, loss_at, recipe, work / f"{model}-autoencoder")[0].net
        vae.register_to_config(_name_or_path="autoencoder")  # not where it lies on this machine
        if variant.parent is not None:
            parent = self._part(variant.parent, "vae", AutoencoderTiny)
            vae.register_to_config(scaling_factor=parent.config.scaling_factor)
        data = denoiser.encode_scenes(vae, variant, work / f"{variant.data_name}.safetensors")
        return vae, data

    def _text_encoder(self) -> CLIPTextModel:
        """Return base's text encoder, frozen."""
        encoder = self._part("scene-base", "text_encoder", CLIPTextModel)
        return encoder.requires_grad_(requires_grad=False)

    def _part(self, model: Model, part: str, cls: Any) -> Any:
        """Return a part of another model, in float32; train that model first where it is not."""
        folder = self._settings.weights / model
        if not folder.exists():
            self._denoiser(model)
        net = cls.from_pretrained(folder / part, dtype=torch.float32)
        if isinstance(net, ConfigMixin):
            net.register_to_config(_name_or_path=model)  # not where it lies on this machine
        return net

    def _recipe(self, recipe: Recipe) -> Recipe:
        updates = self._settings.updates
        return recipe if updates is None else replace(recipe, num_updates=updates)

    def _card(
        self, model: str, num_parameters: int, recipe: Recipe, trained: TrainingRecord, what: str
    ) -> None:
        training = card.Training(
            model=model,
            what=what,
            num_parameters=num_parameters,
            recipe=recipe,
            data=_data(model),
            trained=trained,
            manifest=manifest.collect(),
        )
        card.write(training, self._settings.weights / model)


def _count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def _data(model: str) -> str:
    if model in ("autoencoder", "judge"):
        return "rendered scenes, train split, fresh ones each update"
    count = denoiser.variant_of(model).num_scenes
    return f"{count:,} rendered scenes, train split, encoded once with seed {denoiser.DATA_SEED}"


def main() -> int:
    """Run the command line; return the exit code."""
    settings = tyro.cli(Settings, description=__doc__)
    logs.setup()
    diffusers_logging.set_verbosity_error()
    settings.work.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(settings)
    for model in settings.model:
        logger.info("training %s", model)
        trainer.train(model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
