"""Painting of the open world: all that a caption leaves open, drawn anew for each image.

Places without overlap, sizes, angles; textures of two tones of the thing's colour (plain, stripes,
dots, gradient; free period, angle and phase); a muted ground; light from one side that brightens
the image there and throws soft shadows. Lengths are in pixels of a 64-pixel image, whatever size is
painted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_node.zoo.worlds.interface import IMAGE_PX
from edge_node.zoo.worlds.open.scenes import COLOURS, Relation, Scene, Thing

_GAP_PX = 2.5
"""Least distance of two things' circumscribed circles."""
_LIGHTER, _DARKER = 0.3, 0.72
"""A texture's second tone: mixed with so much white, or so bright."""
_SHADOW, _SHADOW_PX = 0.35, 1.8
_LIGHT = 0.14
"""Brightness of the lit side over the middle's."""
_TRIES = 60
"""Places that are tried for a thing before all begin anew."""
_MARGIN_PX = 4.0
"""Of the centres of related things, beyond what makes the relation hold."""
_SCALE = {"ball": 0.9, "ring": 0.95, "star": 1.2}
"""Of a kind's radius: thinner kinds are larger, so that all can be told apart when small."""
STAR_INNER = 0.4
"""Radius of a star's inner corners, of its own."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A thing in its place."""

    thing: Thing
    x: float
    y: float
    radius: float
    """Of the circumscribed circle."""


def render(
    scenes: Sequence[Scene], rng: np.random.Generator, image_px: int = IMAGE_PX
) -> np.ndarray:
    """Return the scenes as uint8 images [n, image_px, image_px, 3].

    The same generator state lays the same scenes out alike in every size.
    """
    images = np.empty((len(scenes), image_px, image_px, 3), np.uint8)
    for image, scene, own in zip(images, scenes, rng.spawn(len(scenes)), strict=True):
        image[:] = _painted(lay_out(scene, own), own, image_px)
    return images


def described(scenes: Sequence[Scene], rng: np.random.Generator) -> list[str]:
    """Return captions that tell the places too, of the images painted from the same state."""
    return [
        scene.described((one.x / IMAGE_PX, one.y / IMAGE_PX) for one in lay_out(scene, own))
        for scene, own in zip(scenes, rng.spawn(len(scenes)), strict=True)
    ]


def lay_out(scene: Scene, rng: np.random.Generator) -> list[Placed]:
    """Return the scene's things in places that no two share and that its relation asks for."""
    things = [group.thing for group in scene.groups for _ in range(group.count)]
    largest = float(np.clip(14.5 - len(things), 7.5, 11.0))
    scales = np.array([_SCALE[thing.kind] for thing in things])
    while True:
        radii = scales * rng.uniform(max(6.5, 0.7 * largest), largest, len(things))
        places = _places(radii, rng)
        if places is None:
            continue
        placed = [
            Placed(thing, x=x, y=y, radius=float(radius))
            for thing, (x, y), radius in zip(things, places, radii, strict=True)
        ]
        if scene.relation is None or _holds(scene.relation, placed):
            return placed


def signed_distance(kind: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Return each point's distance to a thing's outline, negative inside.

    Args:
        kind: what it is, upright at the origin.
        x: to the right.
        y: downwards.
        radius: of its circumscribed circle.
    """
    if kind == "ball":
        return np.hypot(x, y) - radius
    if kind == "ring":
        return np.abs(np.hypot(x, y) - 0.74 * radius) - 0.26 * radius
    if kind == "star":
        return _star(x, y, radius)
    raise ValueError(f"unknown kind {kind!r}")


def turned(
    x: np.ndarray, y: np.ndarray, angle: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates along axes turned by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _star(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Return the distance to the nearest edge's line of a star of five points."""
    fifth = 2 * np.pi / 5
    angle = np.arctan2(x, -y)
    folded = np.abs(angle - fifth * np.rint(angle / fifth))  # 0 at a point, fifth / 2 in between
    away = np.hypot(x, y)
    along, across = away * np.cos(folded), away * np.sin(folded)
    inner = STAR_INNER * radius
    corner = inner * np.cos(fifth / 2), inner * np.sin(fifth / 2)
    edge = corner[0] - radius, corner[1]
    return ((along - radius) * edge[1] - across * edge[0]) / np.hypot(*edge)


def _places(radii: np.ndarray, rng: np.random.Generator) -> list[tuple[float, float]] | None:
    """Return centres without overlap; None where luck leaves no room."""
    places: dict[int, tuple[float, float, float]] = {}
    for index in np.argsort(-radii).tolist():
        radius = float(radii[index])
        tried = rng.uniform(radius + 1, IMAGE_PX - radius - 1, (_TRIES, 2)).tolist()
        free = (
            (x, y)
            for x, y in tried
            if all(
                math.hypot(x - other_x, y - other_y) >= radius + other + _GAP_PX
                for other_x, other_y, other in places.values()
            )
        )
        place = next(free, None)
        if place is None:
            return None
        places[index] = (*place, radius)
    return [places[index][:2] for index in range(len(radii))]


def _holds(relation: Relation, placed: Sequence[Placed]) -> bool:
    first, second = (
        next(one for one in placed if one.thing == thing)
        for thing in (relation.first, relation.second)
    )
    return relation.margin(first.x - second.x, first.y - second.y) >= _MARGIN_PX


def _painted(placed: Sequence[Placed], rng: np.random.Generator, image_px: int) -> np.ndarray:
    scale = image_px / IMAGE_PX
    axis = ((np.arange(image_px) + 0.5) / scale).astype(np.float32)
    x, y = axis[None, :], axis[:, None]
    canvas = np.empty((image_px, image_px, 3), np.float32)
    canvas[:] = _ground(rng)
    light = rng.uniform(0, 2 * np.pi)
    toward_x, toward_y = np.cos(light), np.sin(light)
    for one in placed:
        reach = one.radius + _SHADOW_PX + 2
        columns = slice(*np.searchsorted(axis, (one.x - reach, one.x + reach)))
        rows = slice(*np.searchsorted(axis, (one.y - reach, one.y + reach)))
        tile, tile_x, tile_y = canvas[rows, columns], x[:, columns] - one.x, y[rows] - one.y
        angle = rng.uniform(0, 2 * np.pi)
        shaded = turned(tile_x + _SHADOW_PX * toward_x, tile_y + _SHADOW_PX * toward_y, angle)
        shadow = np.clip(0.5 - signed_distance(one.thing.kind, *shaded, one.radius) / 3, 0, 1)
        tile *= 1 - _SHADOW * shadow[..., None]
        distance = signed_distance(one.thing.kind, *turned(tile_x, tile_y, angle), one.radius)
        covered = np.clip(0.5 - distance * scale, 0, 1)[..., None]
        tile += covered * (_texture(one, tile_x, tile_y, rng) - tile)
    middle = IMAGE_PX / 2
    canvas *= 1 + (_LIGHT / middle * (toward_x * (x - middle) + toward_y * (y - middle)))[..., None]
    return np.rint(np.clip(canvas, 0, 255)).astype(np.uint8)


def _ground(rng: np.random.Generator) -> np.ndarray:
    """Return a muted colour, dark or light, float32 [3]."""
    level = rng.uniform(40, 80) if rng.random() < 0.4 else rng.uniform(170, 225)
    return (level + rng.uniform(-7, 7, 3)).astype(np.float32)


def _texture(one: Placed, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a thing's colours, float32 [h, w, 3]."""
    first = np.array(COLOURS[one.thing.colour], np.float32)
    second = first + _LIGHTER * (255 - first) if rng.random() < 0.5 else _DARKER * first
    texture, phase, period = rng.integers(4), rng.uniform(0, 2 * np.pi), rng.uniform(6, 10)
    along, across = turned(x, y, rng.uniform(0, 2 * np.pi))
    waves = 2 * np.pi / period
    if texture == 0:
        share = np.zeros_like(along)
    elif texture == 1:
        share = np.clip(0.5 + 1.5 * np.sin(waves * along + phase), 0, 1)
    elif texture == 2:
        dots = np.cos(waves * along + phase) + np.cos(waves * across)
        share = np.clip(2 * (dots - 0.6), 0, 1)
    else:
        share = np.clip(0.5 + 0.5 * along / one.radius, 0, 1)
    return first + share[..., None] * (second - first)
