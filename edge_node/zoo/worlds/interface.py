"""What training, judge and evaluation need of a world; each world is one value of ``World``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np

IMAGE_PX = 64
"""Side of an image, and the unit in which scenes are laid out, whatever size is rendered."""

Split = Literal["train", "held-out"]


class Scene(Protocol):
    """What an image shows, as far as its caption says it."""

    @property
    def caption(self) -> str:
        """The prompt."""
        ...


S = TypeVar("S", bound=Scene)


@dataclass(frozen=True, kw_only=True, slots=True)
class World(Generic[S]):
    """Captioned scenes that can be drawn at random, rendered, and read back from pixels."""

    name: str
    prefix: str
    """Of the names of its autoencoder and its judge."""
    words: tuple[str, ...]
    """Every word and mark that a caption may hold."""
    max_tokens: int
    """Of the longest caption, the marks of begin and end included."""
    latent_channels: int
    """Of its autoencoder."""
    layout_time: int
    """Timestep from which on a latent hardly shows its layout: half of training lies there."""
    draw: Callable[[np.random.Generator, int, Split], list[S]]
    """Draws that many scenes of the split."""
    spoiled: Callable[[S, np.random.Generator], S]
    """Changes one thing about a scene: a hard negative for the judge."""
    render: Callable[[Sequence[S], np.random.Generator, int], np.ndarray]
    """Paints scenes as uint8 images [n, px, px, 3] of that many pixels a side."""
    described: Callable[[Sequence[S], np.random.Generator], list[str]]
    """Captions that also tell what they leave open, of the images that ``render`` paints from the
    same generator state."""
    held_frac: Callable[[np.ndarray, S], float]
    """Share of the caption's atoms that an image [64 k, 64 k, 3] shows."""
    parse: Callable[[str], S] | None = None
    """Reads a caption back, where the world can; ValueError names what is none of it."""

    def distinct(self, rng: np.random.Generator, count: int, split: Split) -> list[S]:
        """Return scenes of the split with different captions; more of them keep the first.

        Raises:
            ValueError: the split holds too few.
        """
        drawn: dict[str, S] = {}
        for _ in range(50 * count):
            (scene,) = self.draw(rng, 1, split)
            drawn.setdefault(scene.caption, scene)
            if len(drawn) == count:
                return list(drawn.values())
        raise ValueError(f"the {split} split of the {self.name} world holds fewer than {count}")
