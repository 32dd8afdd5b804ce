"""The exact check: read a scene from an image's pixels, and compare it with the caption's.

Objects are the connected components that differ from the border's colour. Colour is the nearest of
the palette, shape the rendered template of the same box with the highest overlap; size, position
and relation follow from the boxes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from edge_node.zoo.worlds.interface import IMAGE_PX
from edge_node.zoo.worlds.plain import scenes

MIN_AREA_PX = 40
"""Smaller components are artefacts, unless they are dark or light seams (see MIN_OVERLAP)."""
MIN_OVERLAP = 0.5
"""Least intersection over union with the best template; below it the shape is unreadable."""
OBJECT_DISTANCE = 55.0
"""Least RGB distance from the background of an object's pixel."""
LARGE_RADIUS_PX = 12.3
CENTRE_PX = 6.0


@dataclass(frozen=True, slots=True)
class Found:
    """One object as it was read, with its box in pixels."""

    thing: scenes.Thing
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What an image shows."""

    background: str
    objects: tuple[Found, ...]


def read(image: np.ndarray) -> Reading | None:
    """Return what an image shows; None where an object cannot be read.

    Args:
        image: uint8 [64 k, 64 k, 3]; read as its mean over k x k pixels.
    """
    k = len(image) // IMAGE_PX
    pixels = image.reshape(IMAGE_PX, k, IMAGE_PX, k, 3).mean(axis=(1, 3))
    pixels = pixels.astype(np.float32)
    sides = pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]
    ground = np.median(np.concatenate([side.reshape(-1, 3) for side in sides]), axis=0)
    mask = np.linalg.norm(pixels - ground, axis=-1) > OBJECT_DISTANCE
    labels, count = ndimage.label(mask)
    objects = []
    for label in range(1, count + 1):
        component = labels == label
        if component.sum() < MIN_AREA_PX:
            continue
        found = _read_object(pixels, ground, component)
        if found is None:
            return None
        objects.append(found)
    return Reading(_nearest(ground[None], scenes.BACKGROUNDS), tuple(objects))


def matches(image: np.ndarray, scene: scenes.Scene) -> bool:
    """Return whether the image shows exactly the scene: every attribute and the relation."""
    reading = read(image)
    if reading is None or reading.background != scene.background:
        return False
    if isinstance(scene, scenes.Single):
        return len(reading.objects) == 1 and _is_single(reading.objects[0], scene)
    if len(reading.objects) != 2:
        return False
    shown = scene.first, scene.second, scene.relation
    return any(
        (first.thing, second.thing, _relation(first, second)) == shown
        for first, second in (reading.objects, reading.objects[::-1])
    )


def held_frac(image: np.ndarray, scene: scenes.Scene) -> float:
    """Return 1 where an image shows exactly the scene, else 0: its caption is one atom."""
    return float(matches(image, scene))


def _read_object(pixels: np.ndarray, ground: np.ndarray, component: np.ndarray) -> Found | None:
    core = ndimage.binary_erosion(component)
    inner = pixels[core if core.any() else component]
    direction = np.median(inner, axis=0) - ground
    is_inside = (pixels - ground) @ direction > 0.5 * direction @ direction
    component = component & is_inside  # the outline is where the blur is half way
    if component.sum() < MIN_AREA_PX:
        return None
    [(rows, columns)] = ndimage.find_objects(component.astype(int))
    top, bottom, left, right = rows.start, rows.stop, columns.start, columns.stop
    x, y = (left + right) / 2, (top + bottom) / 2
    radius = (bottom - top + right - left) / 4
    overlaps = {
        shape: max(_overlap(component, shape, x, y, radius + grown) for grown in (0, 0.5, 1))
        for shape in scenes.SHAPES
    }  # blur rounds corners off, so the true shape may be a little larger than its box
    best = max(overlaps, key=overlaps.__getitem__)
    if overlaps[best] < MIN_OVERLAP:
        return None
    return Found(scenes.Thing(_nearest(inner, scenes.COLOURS), best), x, y, radius)


def _overlap(component: np.ndarray, shape: str, x: float, y: float, radius: float) -> float:
    template = scenes.coverage(shape, x, y, radius) > 0.5
    return float((template & component).sum() / (template | component).sum())


def _nearest(pixels: np.ndarray, palette: Mapping[str, tuple[int, int, int]]) -> str:
    """Return the colour that most pixels [n, 3] are nearest to."""
    tones = np.array([*palette.values()], np.float32)
    nearest = np.linalg.norm(pixels[:, None] - tones, axis=-1).argmin(axis=1)
    return (*palette,)[int(np.bincount(nearest).argmax())]


def _is_single(found: Found, scene: scenes.Single) -> bool:
    size = "large" if found.radius > LARGE_RADIUS_PX else "small"
    return (found.thing, size, _position(found)) == (scene.thing, scene.size, scene.position)


def _position(found: Found) -> str:
    dx, dy = found.x - IMAGE_PX / 2, found.y - IMAGE_PX / 2
    if max(abs(dx), abs(dy)) < CENTRE_PX:
        return "center"
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "top" if dy < 0 else "bottom"


def _relation(first: Found, second: Found) -> str:
    dx, dy = first.x - second.x, first.y - second.y
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"
