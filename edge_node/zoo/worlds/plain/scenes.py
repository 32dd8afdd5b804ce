"""The plain world: captioned scenes of flat coloured shapes, rendered exactly.

Responsible for captions, the held-out split that is never trained on, and painting. Not: reading
generated images (checker.py).

A scene is either one object with its size and position, or two objects with their relation:

    a small red circle at the left on a gray background
    a red circle left of a blue square on a white background
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

from edge_node.zoo.worlds.interface import IMAGE_PX, Split

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 40),
    "green": (40, 165, 60),
    "blue": (45, 80, 225),
    "yellow": (245, 215, 45),
    "purple": (145, 50, 185),
    "orange": (245, 130, 25),
    "cyan": (55, 205, 225),
    "pink": (250, 135, 195),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (245, 245, 245),
    "black": (15, 15, 15),
    "gray": (128, 128, 128),
    "brown": (95, 60, 35),
}
SIZES = ("small", "large")
POSITIONS: dict[str, tuple[int, int]] = {
    "center": (0, 0),
    "left": (-12, 0),
    "right": (12, 0),
    "top": (0, -12),
    "bottom": (0, 12),
}
"""Offset of an object's centre from the image's, in pixels (x to the right, y down)."""
RELATIONS: dict[str, tuple[int, int]] = {
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}
"""Direction from the second object to the first."""

RADIUS_PX: dict[str, tuple[float, float]] = {
    "small": (8.5, 10.0),
    "medium": (10.0, 11.5),
    "large": (15.0, 17.5),
}
"""Range of half the bounding box's side. Medium is unsaid: the objects of a pair."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One coloured shape of a caption."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, slots=True)
class Single:
    """One object with its size and position."""

    thing: Thing
    size: str
    position: str
    background: str

    @property
    def caption(self) -> str:
        """The prompt."""
        where = f"at the {self.position} on a {self.background} background"
        return f"a {self.size} {self.thing} {where}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two objects of different colours and their relation."""

    first: Thing
    second: Thing
    relation: str
    background: str

    @property
    def caption(self) -> str:
        """The prompt."""
        return f"a {self.first} {self.relation} a {self.second} on a {self.background} background"


Scene = Single | Pair


def words() -> list[str]:
    """Return every word that a caption may hold."""
    found = {"a", "at", "the", "on", "background", *SHAPES, *COLOURS, *BACKGROUNDS, *SIZES}
    found |= set(POSITIONS) | {word for relation in RELATIONS for word in relation.split()}
    return sorted(found)


def split_of(scene: Scene) -> Split:
    """Return the split of a scene: a fifth of all combinations is held out for testing."""
    return "held-out" if crc32(scene.caption.encode()) % 5 == 0 else "train"


def draw_single(rng: np.random.Generator, split: Split) -> Single:
    """Return a random one-object scene of the split."""
    while True:
        scene = Single(
            _thing(rng), _pick(rng, SIZES), _pick(rng, POSITIONS), _pick(rng, BACKGROUNDS)
        )
        if split_of(scene) == split:
            return scene


def draw_pair(rng: np.random.Generator, split: Split) -> Pair:
    """Return a random two-object scene of the split."""
    while True:
        first, second = _thing(rng), _thing(rng)
        scene = Pair(first, second, _pick(rng, RELATIONS), _pick(rng, BACKGROUNDS))
        if first.colour != second.colour and split_of(scene) == split:
            return scene


def draw(
    rng: np.random.Generator, count: int, split: Split, pair_frac: float = 0.65
) -> list[Scene]:
    """Return ``count`` random scenes, a share ``pair_frac`` of them with two objects."""
    is_pair = rng.random(count) < pair_frac
    return [draw_pair(rng, split) if pair else draw_single(rng, split) for pair in is_pair]


def render(
    scenes: Sequence[Scene], rng: np.random.Generator, image_px: int = IMAGE_PX
) -> np.ndarray:
    """Return the scenes as uint8 images [n, image_px, image_px, 3], sizes and positions jittered.

    The same generator state lays the same scenes out alike in every size.
    """
    images = np.empty((len(scenes), image_px, image_px, 3), np.float32)
    placed = []
    for canvas, scene in zip(images, scenes, strict=True):
        canvas[:] = rgb(BACKGROUNDS[scene.background])
        placed += [(canvas, thing, box) for thing, box in _layout(scene, rng)]
    if not placed:
        return images.astype(np.uint8)
    canvases, things, boxes = zip(*placed, strict=True)
    scaled = np.array(boxes, np.float32) * np.float32(image_px / IMAGE_PX)
    distances = _distances([thing.shape for thing in things], scaled, image_px)
    for canvas, thing, distance in zip(canvases, things, distances, strict=True):
        canvas += _covered(distance)[..., None] * (rgb(COLOURS[thing.colour]) - canvas)
    return np.rint(images).astype(np.uint8)


def spoiled(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return the scene with one thing about it changed: a hard negative."""

    def other(known: tuple[str, ...], now: str) -> str:
        rest = [choice for choice in known if choice != now]
        return rest[rng.integers(len(rest))]

    def change(thing: Thing) -> Thing:
        if rng.random() < 0.5:
            return replace(thing, colour=other((*COLOURS,), thing.colour))
        return replace(thing, shape=other(SHAPES, thing.shape))

    kind = int(rng.integers(4))
    if kind == 0:
        return replace(scene, background=other((*BACKGROUNDS,), scene.background))
    if isinstance(scene, Single):
        if kind == 1:
            return replace(scene, position=other((*POSITIONS,), scene.position))
        if kind == 2:
            return replace(scene, size=other(SIZES, scene.size))
        return replace(scene, thing=change(scene.thing))
    if kind == 1:
        return replace(scene, relation=other((*RELATIONS,), scene.relation))
    if kind == 2:
        return replace(scene, first=scene.second, second=scene.first)
    return replace(scene, first=change(scene.first))


def rgb(colour: tuple[int, int, int]) -> np.ndarray:
    """Return a colour as float32 [3]."""
    return np.array(colour, np.float32)


def coverage(shape: str, centre_x: float, centre_y: float, radius: float) -> np.ndarray:
    """Return how much of each pixel one shape covers, float32 [64, 64] in [0, 1]."""
    box = np.array([[centre_x, centre_y, radius]], np.float32)
    return _covered(_distances([shape], box, IMAGE_PX)[0])


def _covered(distance: np.ndarray) -> np.ndarray:
    """Return how much of each pixel lies inside an outline, from the signed distance to it."""
    return np.clip(0.5 - distance, 0, 1)


def _pick(rng: np.random.Generator, choices: Collection[str]) -> str:
    return (*choices,)[rng.integers(len(choices))]


def _thing(rng: np.random.Generator) -> Thing:
    return Thing(_pick(rng, COLOURS), _pick(rng, SHAPES))


def _layout(
    scene: Scene, rng: np.random.Generator
) -> list[tuple[Thing, tuple[float, float, float]]]:
    """Return each thing with its box (centre x, centre y, radius), in pixels."""
    middle = IMAGE_PX / 2
    if isinstance(scene, Single):
        dx, dy = POSITIONS[scene.position]
        jitter = rng.uniform(-2, 2, 2)
        radius = rng.uniform(*RADIUS_PX[scene.size])
        return [(scene.thing, (middle + dx + jitter[0], middle + dy + jitter[1], radius))]
    dx, dy = RELATIONS[scene.relation]
    boxes = []
    for thing, sign in ((scene.first, 1), (scene.second, -1)):
        along, across = rng.uniform(-1.5, 1.5), rng.uniform(-5, 5)
        x = middle + 16 * sign * dx + (along if dx else across)
        y = middle + 16 * sign * dy + (along if dy else across)
        boxes.append((thing, (x, y, rng.uniform(*RADIUS_PX["medium"]))))
    return boxes


def _distances(shapes: Sequence[str], boxes: np.ndarray, image_px: int) -> np.ndarray:
    """Return each pixel's distance to shapes in boxes [n, 3] (x, y, radius): [n, px, px]."""
    axis = np.arange(image_px, dtype=np.float32) + 0.5
    x = axis[None, None, :] - boxes[:, 0, None, None]
    y = axis[None, :, None] - boxes[:, 1, None, None]
    radius = boxes[:, 2, None, None]
    names = np.array(shapes)
    out = np.empty((len(shapes), image_px, image_px), np.float32)
    for name in set(shapes):
        own = names == name
        out[own] = _signed_distance(name, x[own], y[own], radius[own])
    return out


def _signed_distance(shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return the distance in pixels to the outline, negative inside."""
    ax, ay = np.abs(x), np.abs(y)
    if shape == "circle":
        return np.sqrt(x * x + y * y) - radius
    if shape == "ring":
        return np.abs(np.sqrt(x * x + y * y) - 0.75 * radius) - 0.25 * radius
    if shape == "square":
        return np.maximum(ax, ay) - radius
    if shape == "diamond":
        return (ax + ay - radius) / np.sqrt(np.float32(2))
    if shape == "cross":
        arm = radius / 3
        return np.minimum(np.maximum(ax - radius, ay - arm), np.maximum(ax - arm, ay - radius))
    if shape == "triangle":
        slanted = (2 * ax - (y + radius)) / np.sqrt(np.float32(5))
        return np.maximum(slanted, y - radius)
    raise ValueError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")
