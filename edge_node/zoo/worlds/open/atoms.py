"""Which atoms of an open-world caption an image shows, read from its pixels without a net.

An atom is one statement of the caption: so many things of a colour and kind, or a relation. The
share of atoms that hold scores an image (as GenEval 2 does, Kamath et al. 2025, arXiv 2512.16853).
Things are the connected components of colourful pixels (grounds and shadows are muted), parted at
their necks where two touch; colour is the nearest hue, kind the template of the same area with the
highest overlap, over all angles.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from edge_node.zoo.worlds.interface import IMAGE_PX
from edge_node.zoo.worlds.open.painting import STAR_INNER, signed_distance, turned
from edge_node.zoo.worlds.open.scenes import COLOURS, KINDS, Relation, Scene, Thing

LEAST_CHROMA = 45.0
"""Largest less smallest of a pixel's R, G, B (0..255): what counts as colourful."""
EDGE_FRAC = 0.5
"""Of a thing's chroma, where its outline is."""
MIN_AREA_PX = 25
"""Smaller components are artefacts."""
MAX_AREA_PX = 600
"""Larger ones are no thing: the largest that is painted covers 324, noise the whole image."""
_CORE_FRAC, _CORE_BLUR_PX = 0.6, 0.7
"""A component's cores are deeper than this share of its greatest depth, depth so much blurred."""
MIN_OVERLAP = 0.6
"""Least intersection over union with the best template; below it the kind is unreadable."""
_FULL_TURN = {"ball": 0.0, "ring": 0.0, "star": 72.0}
"""Degrees after which a kind looks the same."""
_STEP_DEGREES = 9.0
_AREA_PER_SQUARE = {
    "ball": np.pi,
    "ring": np.pi * (1 - 0.48**2),
    "star": 5 * STAR_INNER * np.sin(np.pi / 5),
}
"""A kind's area over the square of its radius."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing as it was read, with its centre in pixels of a 64-pixel image."""

    thing: Thing
    x: float
    y: float


def held_frac(image: np.ndarray, scene: Scene) -> float:
    """Return the share of a caption's atoms that an image uint8 [64 k, 64 k, 3] shows."""
    found = read(image)
    counts = Counter(one.thing for one in found)
    held = sum(counts[group.thing] == group.count for group in scene.groups)
    if scene.relation:
        held += _holds(scene.relation, found)
    return held / scene.num_atoms


def read(image: np.ndarray) -> list[Found]:
    """Return the things that can be read, from the mean over k x k pixels."""
    k = len(image) // IMAGE_PX
    pixels = image.reshape(IMAGE_PX, k, IMAGE_PX, k, 3).mean(axis=(1, 3)).astype(np.float32)
    chroma = pixels.max(axis=-1) - pixels.min(axis=-1)
    labels, _ = ndimage.label(chroma > LEAST_CHROMA)
    found = []
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        rows, columns = box
        for own in _parted(labels[box] == label):
            one = _read_thing(pixels[box], np.where(own, chroma[box], 0.0))
            if one:
                found.append(Found(one.thing, one.x + columns.start, one.y + rows.start))
    return found


def _parted(component: np.ndarray) -> list[np.ndarray]:
    """Return the masks of the things that touch in a component's mask, each around its core.

    A core is where the distance to the outline, holes filled, is near its greatest.
    """
    filled = ndimage.binary_fill_holes(np.pad(component, 1))
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(filled), _CORE_BLUR_PX)
    cores, count = ndimage.label(depth[1:-1, 1:-1] > _CORE_FRAC * depth.max())
    if count < 2:
        return [component]
    nearest = ndimage.distance_transform_edt(
        cores == 0, return_distances=False, return_indices=True
    )
    return [component & (cores[tuple(nearest)] == core) for core in range(1, count + 1)]


def _read_thing(pixels: np.ndarray, chroma: np.ndarray) -> Found | None:
    """Return the thing in a tile, its centre from the tile's corner."""
    if (chroma > 0).sum() < MIN_AREA_PX:
        return None
    covered = chroma > EDGE_FRAC * np.median(chroma[chroma > 0])
    area = int(covered.sum())
    if not MIN_AREA_PX <= area <= MAX_AREA_PX:
        return None
    rows, columns = np.nonzero(covered)
    x, y = columns.mean() + 0.5, rows.mean() + 0.5
    tile_y, tile_x = (axis + 0.5 for axis in np.indices(covered.shape, np.float32))
    overlaps = {kind: _overlap(kind, covered, tile_x - x, tile_y - y, area) for kind in KINDS}
    kind = max(overlaps, key=overlaps.__getitem__)
    if overlaps[kind] < MIN_OVERLAP:
        return None
    colour = _nearest_hue(np.average(pixels[covered], axis=0, weights=chroma[covered]))
    return Found(Thing(colour, kind), float(x), float(y))


def _overlap(kind: str, covered: np.ndarray, x: np.ndarray, y: np.ndarray, area: int) -> float:
    """Return the highest intersection over union with a kind's templates of the same area."""
    angles = np.deg2rad(np.arange(0, max(_FULL_TURN[kind], 1), _STEP_DEGREES))[:, None, None]
    radius = np.sqrt(area / _AREA_PER_SQUARE[kind])
    template = signed_distance(kind, *turned(x, y, angles), radius) < 0
    both = (template & covered).sum(axis=(1, 2))
    return float((both / (template.sum(axis=(1, 2)) + area - both)).max())


def _nearest_hue(colour: np.ndarray) -> str:
    away = {name: abs((_hue(colour) - hue + 0.5) % 1 - 0.5) for name, hue in _hues().items()}
    return min(away, key=away.__getitem__)


@cache
def _hues() -> dict[str, float]:
    return {name: _hue(np.array(colour, np.float32)) for name, colour in COLOURS.items()}


def _hue(colour: np.ndarray) -> float:
    """Return the hue in turns."""
    red, green, blue = map(float, colour)
    return float(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue) / (2 * np.pi))


def _holds(relation: Relation, found: list[Found]) -> bool:
    """Return whether the two things are there, one each, and stand as the relation says."""
    firsts, seconds = (
        [one for one in found if one.thing == thing] for thing in (relation.first, relation.second)
    )
    if len(firsts) != 1 or len(seconds) != 1:
        return False
    return relation.margin(firsts[0].x - seconds[0].x, firsts[0].y - seconds[0].y) > 0
