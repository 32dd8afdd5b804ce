"""How the zoo's world looks in each style: what grounds and objects are painted with.

    plain    flat colours
    neon     a dimmed ground; an object is a glowing tube along its outline, darker within
    sketch   tinted paper; an object is hatched in its colour within a darker stroke

Hue and outline stay, so a caption means the same in every style and the exact checker can read it.
Hatching keeps to the image's own grid, two periods in a latent's cell, so that a decoder can draw
it. Widths are in pixels of a 64-pixel image.
"""

from typing import Literal, get_args

import numpy as np

Style = Literal["plain", "neon", "sketch"]
STYLES: tuple[Style, ...] = get_args(Style)

NIGHT = np.array([10, 5, 30], np.float32)
NEON_GROUND = 0.25
NEON_FILL = 0.65
NEON_TUBE_PX = 2.0
NEON_GLOW = 0.4
NEON_GLOW_PX = 1.5
PAPER = np.array([238, 222, 190], np.float32)
PAPER_TINT = 0.4
STROKE = 0.65
STROKE_PX = 1.5
HATCH_LIGHT = 0.35
HATCH_PERIOD_PX = 4


def ground(style: Style, colour: np.ndarray) -> np.ndarray:
    """Return what a background of this colour (RGB 0..255, float32 [3]) is painted with."""
    if style == "neon":
        return NIGHT + NEON_GROUND * colour
    if style == "sketch":
        return PAPER + PAPER_TINT * (colour - PAPER)
    return colour


def tones(style: Style, colour: np.ndarray) -> np.ndarray:
    """Return what an object of this colour is painted with, float32 [tones, 3]: body, edge, ..."""
    if style == "neon":
        return np.stack([NEON_FILL * colour, colour])
    if style == "sketch":
        return np.stack([colour, STROKE * colour, colour + HATCH_LIGHT * (PAPER - colour)])
    return colour[None]


def paint(style: Style, canvas: np.ndarray, distance: np.ndarray, colour: np.ndarray) -> None:
    """Paint one object onto a canvas.

    Args:
        style: how.
        canvas: float32 [h, w, 3], painted on.
        distance: to the object's outline, in pixels, negative inside [h, w].
        colour: the object's.
    """
    scale = len(canvas) / 64
    shades = tones(style, colour)
    if style == "neon":
        glow = NEON_GLOW * np.exp(-np.maximum(distance, 0) / (NEON_GLOW_PX * scale))
        _blend(canvas, glow, colour)
    _blend(canvas, covered(distance), shades[0])
    if style == "sketch":
        _blend(canvas, covered(distance) * _hatching(len(canvas)), shades[2])
    if style != "plain":
        width = scale * (NEON_TUBE_PX if style == "neon" else STROKE_PX)
        _blend(canvas, covered(np.abs(distance + width / 2) - width / 2), shades[1])


def covered(distance: np.ndarray) -> np.ndarray:
    """Return how much of each pixel lies inside an outline, from the signed distance to it."""
    return np.clip(0.5 - distance, 0, 1)


def _blend(canvas: np.ndarray, weight: np.ndarray, colour: np.ndarray) -> None:
    canvas += weight[..., None] * (colour - canvas)


def _hatching(image_px: int) -> np.ndarray:
    """Return 0 on the diagonal strokes and 1 between them, [image_px, image_px]."""
    axis = np.arange(image_px)
    period = HATCH_PERIOD_PX * image_px // 64
    return ((axis[:, None] + axis) % period < period // 2).astype(np.float32)
