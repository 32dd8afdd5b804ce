"""Prompts, real images, and the check of generated ones by atoms.

Responsible for drawing prompts: the first n are the same, however many follow. Not: generating.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_node.zoo.worlds.builtin import WORLDS
from edge_node.zoo.worlds.interface import IMAGE_PX, Scene, World
from profiling.measure.config import ProfileConfig
from protos import seeds
from protos.config import ConfigError

Images = NDArray[np.uint8]
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, with the seed that every model and step count starts from."""

    text: str
    seed: int
    scene: Scene | None
    """Its scene, if it is of one of the zoo's worlds."""


def check(config: ProfileConfig) -> None:
    """Refuse prompts and real images that cannot suffice, before anything is measured.

    Raises:
        ConfigError: too few of them; the file, the limit and the value are named.
    """
    prompts(config, config.grid.max_images)
    if config.scorer.reference not in ("scenes", ""):
        _reference_files(config, config.scorer.num_reference)


def prompts(config: ProfileConfig, count: int) -> list[Prompt]:
    """Return the first ``count`` prompts.

    Raises:
        ConfigError: the prompt file has fewer lines.
    """
    rng = seeds.stream(config.seed, "image-seeds")
    drawn = [int(rng.integers(2**31)) for _ in range(count)]
    if config.scorer.prompts == "scenes":
        chosen = _draw(config, count, "prompts")
        return [Prompt(s.caption, seed, s) for s, seed in zip(chosen, drawn, strict=True)]
    lines = [line.strip() for line in Path(config.scorer.prompts).read_text().splitlines()]
    texts = [line for line in lines if line]
    if len(texts) < count:
        raise ConfigError(
            f"{config.scorer.prompts} holds {len(texts)} prompts, grid.max_images is {count}"
        )
    world = _world(config)
    return [
        Prompt(text, seed, _scene(world, text)) for text, seed in zip(texts, drawn, strict=False)
    ]


def reference(config: ProfileConfig, count: int) -> Images:
    """Return the real images [n, h, w, 3] that FID compares with.

    Raises:
        ConfigError: the reference folder holds too few, or images of unlike sizes.
    """
    if config.scorer.reference == "scenes":
        rng = seeds.stream(config.seed, "reference-rendering")
        return _world(config).render(_draw(config, count, "reference"), rng, IMAGE_PX)
    files = _reference_files(config, count)
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    if len({image.shape for image in images}) > 1:
        folder = config.scorer.reference
        raise ConfigError(f"the images in {folder} must all have the same size")
    return np.stack(images)


def rendered(config: ProfileConfig, asked: Sequence[Prompt]) -> Images | None:
    """Return what a perfect model would draw; None where the scenes are not known."""
    known = [prompt.scene for prompt in asked if prompt.scene is not None]
    if len(known) < len(asked):
        return None
    return _world(config).render(known, seeds.stream(config.seed, "floor-rendering"), IMAGE_PX)


def atoms_frac(
    config: ProfileConfig, images: Images, asked: Sequence[Prompt]
) -> list[float | None]:
    """Return the share of its prompt's atoms that each image shows; None where it is not known.

    Args:
        config: it names the world.
        images: [n, h, w, 3]; squares of a multiple of 64 pixels can be read.
        asked: [n].
    """
    height, width = images.shape[1:3]
    if height != width or height % IMAGE_PX:
        return [None] * len(images)
    world = _world(config)
    return [
        None if prompt.scene is None else world.held_frac(image, prompt.scene)
        for image, prompt in zip(images, asked, strict=True)
    ]


def _reference_files(config: ProfileConfig, count: int) -> list[Path]:
    folder = Path(config.scorer.reference)
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if len(files) < count:
        raise ConfigError(f"{folder} holds {len(files)} images, num_reference is {count}")
    return files[:count]


def _world(config: ProfileConfig) -> World[Any]:
    return WORLDS[config.scorer.world]


def _scene(world: World[Any], text: str) -> Scene | None:
    """Return the scene that a prompt of one's own names; None where the world has none such."""
    try:
        return world.parse(text) if world.parse else None
    except ValueError:
        return None


def _draw(config: ProfileConfig, count: int, purpose: str) -> list[Scene]:
    """Draw held-out scenes one by one, so that more of them keep the first."""
    rng, world = seeds.stream(config.seed, purpose), _world(config)
    return [scene for _ in range(count) for scene in world.draw(rng, 1, "held-out")]
