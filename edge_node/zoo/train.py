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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from diffusers import AutoencoderTiny
from diffusers.utils import logging as diffusers_logging
from torch import nn
from transformers import CLIPTextModel

from edge_node.zoo import autoencoder, card, denoiser, judge, text
from edge_node.zoo.loop import Recipe, Trained, fit
from protos import logs, manifest

logger = logging.getLogger(__name__)

WEIGHTS = Path(__file__).resolve().parent / "weights"
_WORK = Path(__file__).resolve().parents[2] / "runs" / "zoo"

Model = Literal["autoencoder", "judge", "scene-base", "scene-small", "scene-nano"]
ORDER: tuple[Model, ...] = ("autoencoder", "judge", "scene-base", "scene-small", "scene-nano")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What to train, and where."""

    model: tuple[Model, ...] = ORDER
    """Nets to train, in this order; the autoencoder and base's text encoder are trained first
    where a denoiser needs them and they are not."""
    work: Path = _WORK
    """Checkpoints and the encoded training scenes."""
    weights: Path = WEIGHTS
    """Where the finished folders go."""
    updates: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Train for N updates instead of the recipe's number (a quick look, or a longer training)."""


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
        self._card("autoencoder", net, recipe, decoder, what)

    def _judge(self) -> None:
        recipe = self._recipe(judge.RECIPE)
        net, trained = fit(
            judge.Contrast(judge.build()), judge.loss_at, recipe, self._settings.work / "judge"
        )
        judge.export(net.net, self._settings.weights / "judge")
        self._card("judge", net, recipe, trained, "CLIPModel: CLIP score and FID features")

    def _denoiser(self, model: Model) -> None:
        variant = denoiser.VARIANTS[model]
        vae_folder = self._settings.weights / "autoencoder"
        if not (vae_folder / "config.json").exists():
            self._autoencoder()
        vae = AutoencoderTiny.from_pretrained(vae_folder, dtype=torch.float32)
        vae.register_to_config(_name_or_path="autoencoder")  # not where it lies on this machine
        data = denoiser.encode_scenes(vae, self._settings.work / "latents.safetensors")
        recipe = self._recipe(variant.recipe)
        net = denoiser.Denoising(denoiser.build(variant.channels), self._text_encoder(model))
        folder = self._settings.weights / model

        def save(net: nn.Module, trained: Trained) -> None:
            denoiser.export(net.unet, net.encoder, vae, folder)
            self._card(
                model, net, recipe, trained, f"StableDiffusionPipeline, UNet {variant.channels}"
            )

        loss_at = data.loss_at(recipe.batch)
        save(*fit(net, loss_at, recipe, self._settings.work / model, on_checkpoint=save))

    def _text_encoder(self, model: Model) -> CLIPTextModel:
        if denoiser.VARIANTS[model].trains_text:
            return text.encoder()
        base = self._settings.weights / "scene-base" / "text_encoder"
        if not base.exists():
            self._denoiser("scene-base")
        return CLIPTextModel.from_pretrained(base, dtype="float32").requires_grad_(
            requires_grad=False
        )

    def _recipe(self, recipe: Recipe) -> Recipe:
        updates = self._settings.updates
        return recipe if updates is None else replace(recipe, num_updates=updates)

    def _card(
        self, model: str, net: nn.Module, recipe: Recipe, trained: Trained, what: str
    ) -> None:
        training = card.Training(
            model=model,
            what=what,
            num_parameters=sum(p.numel() for p in net.parameters()),
            recipe=recipe,
            data=f"rendered scenes, train split; {denoiser.NUM_SCENES:,} encoded once with seed "
            f"{denoiser.DATA_SEED} for denoisers, fresh ones each update otherwise",
            trained=trained,
            manifest=manifest.collect(),
        )
        card.write(training, self._settings.weights / model)


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
