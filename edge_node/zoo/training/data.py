"""Training data: scenes rendered once, and the latents of scenes encoded once.

Both are functions of a world and a seed. Rendering an image takes about as long as a training step
needs for it, so a run renders nothing twice.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edge_node.zoo import text
from edge_node.zoo.judge import to_tensor
from edge_node.zoo.training.loop import LossAt, torch_generator
from edge_node.zoo.worlds.interface import IMAGE_PX, Scene, World
from protos.progress import StatusLine, time_left
from protos.seeds import stream

logger = logging.getLogger(__name__)

LATENT_SEED = 5
DROP_FRAC = 0.1
"""Captions left out for classifier-free guidance."""
DESCRIBED_FRAC = 0.5
"""Captions replaced by ones that leave less open (Betker et al. 2023, "Improving image generation
with better captions")."""
_PART = 250


@dataclass(frozen=True, slots=True)
class Pool:
    """Rendered training scenes: uint8 images [n, IMAGE_PX, IMAGE_PX, 3]."""

    scenes: list[Scene]
    images: np.ndarray

    def batch(self, rng: np.random.Generator, count: int) -> tuple[list[Scene], Tensor]:
        """Return random scenes and their images [count, 3, IMAGE_PX, IMAGE_PX] in [-1, 1]."""
        chosen = rng.integers(len(self.scenes), size=count)
        return [self.scenes[index] for index in chosen], to_tensor(self.images[chosen])


def pool(world: World[Any], count: int, seed: int) -> Pool:
    """Return ``count`` rendered scenes of the train split."""
    logger.info("rendering %d scenes of the %s world", count, world.name)
    rng = stream(seed, "pool")
    scenes = world.draw(rng, count, "train")
    return Pool(scenes, world.render(scenes, rng, IMAGE_PX))


@dataclass(frozen=True, slots=True)
class LatentData:
    """Training scenes as scaled latents [N, c, px/8, px/8] (float16) and tokens [N, t]."""

    latents: Tensor
    ids: Tensor
    described_ids: Tensor
    """Of the captions that tell what an image shows beyond its caption [N, t]."""
    empty_ids: Tensor
    """Of the empty caption [t]."""

    def loss_at(self, batch: int, layout_time: int) -> LossAt:
        """Return the function that draws a batch, drops some captions, and returns its loss."""

        def loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
            chosen, latents, ids = self._draw(rng, batch)
            is_described = torch.from_numpy(rng.random(batch) < DESCRIBED_FRAC)
            ids[is_described] = self.described_ids[chosen][is_described]
            ids[torch.from_numpy(rng.random(batch) < DROP_FRAC)] = self.empty_ids
            return _loss(model, rng, latents, ids, draw_times(rng, batch, layout_time))

        return loss

    def distillation_loss_at(
        self, batch: int, times_of: Callable[[np.random.Generator, int], Tensor]
    ) -> LossAt:
        """Return the same for a student: timesteps of its own choice, no caption dropped.

        Its module gets the empty caption's tokens as well, for the teacher's guidance.
        """

        def loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
            _, latents, ids = self._draw(rng, batch)
            return _loss(model, rng, latents, ids, self.empty_ids[None], times_of(rng, batch))

        return loss

    def _draw(self, rng: np.random.Generator, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        chosen = torch.from_numpy(rng.integers(len(self.latents), size=batch))
        return chosen, self.latents[chosen].float(), self.ids[chosen]


def _loss(model: nn.Module, rng: np.random.Generator, latents: Tensor, *others: Tensor) -> Tensor:
    noise = torch.randn(latents.shape, generator=torch_generator(rng))
    device = next(model.parameters()).device
    return model(*(part.to(device) for part in (latents, *others, noise)))


def draw_times(rng: np.random.Generator, batch: int, layout_time: int) -> Tensor:
    """Return timesteps [batch] in 0..999, half of them from ``layout_time`` on."""
    earliest = np.where(rng.random(batch) < 0.5, layout_time, 0)
    return torch.from_numpy(rng.integers(earliest, 1000))


@torch.no_grad()
def encode_scenes(
    autoencoder: AutoencoderTiny, world: World[Any], image_px: int, count: int, folder: Path
) -> LatentData:
    """Return the training latents, from ``folder`` where they are; else render, encode and keep.

    Where the autoencoder's ``scaling_factor`` is not set, it is: to unit variance of the latents.
    """
    words = text.tokenizer(world)
    digest = _digest(autoencoder, world)
    file = folder / f"latents-{world.name}-{image_px}-{count}-{digest}.safetensors"
    if not file.exists():
        drawn = world.draw(stream(LATENT_SEED, "denoiser-scenes"), count, "train")
        parts: list[Tensor] = []
        described: list[str] = []
        status, began_s = StatusLine(), time.perf_counter()
        for start in range(0, count, _PART):
            part, purpose = drawn[start : start + _PART], f"scenes-{start}"
            images = world.render(part, stream(LATENT_SEED, purpose), image_px)
            described += world.described(part, stream(LATENT_SEED, purpose))
            latents = autoencoder.encode(to_tensor(images).to(autoencoder.device)).latents
            parts.append(latents.half().cpu())
            done = min(start + _PART, count)
            left_s = (time.perf_counter() - began_s) * (count - done) / done
            status.show(
                f"encoding scenes {done}/{count}  {time_left(left_s)}", is_due=done == count
            )
        ids = text.token_ids(words, [scene.caption for scene in drawn]).to(torch.int16)
        described_ids = text.token_ids(words, described).to(torch.int16)
        partial = file.with_suffix(".partial")
        save_file(
            {"latents": torch.cat(parts).contiguous(), "ids": ids, "described_ids": described_ids},
            partial,
        )
        partial.rename(file)
    data = load_file(file)
    if autoencoder.config.scaling_factor == 1:
        scale = 1 / data["latents"].float().std().item()
        autoencoder.register_to_config(scaling_factor=scale)
    latents = (data["latents"].float() * autoencoder.config.scaling_factor).half()
    return LatentData(
        latents, data["ids"].long(), data["described_ids"].long(), text.token_ids(words, [""])[0]
    )


def _digest(autoencoder: AutoencoderTiny, world: World[Any]) -> str:
    """Return a short name of an encoder and what it encodes: other latents are of no use.

    64 of its scenes stand for what a world draws and paints.
    """
    rng = stream(LATENT_SEED, "digest")
    scenes = world.draw(rng, 64, "train")
    digest = hashlib.sha256(world.render(scenes, rng, IMAGE_PX).tobytes())
    digest.update("\n".join(scene.caption for scene in scenes).encode())
    for value in autoencoder.encoder.state_dict().values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]
