"""The report's pictures, drawn from the profile and the saved images.

Responsible for drawing. Not: computing; points, intervals and curves are in the profile.
"""

import io
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from profiling import curves
from profiling.records import ModelProfile, Profile
from profiling.report import page
from profiling.samples import image_path

LABELS = {
    "clip_score": "CLIP score (higher is better)",
    "fid": "FID (lower is better)",
    "total_variation": "total variation for each pixel",
}
_COLOURS = ("#1b6ca8", "#d1495b", "#3a8f5c", "#8a5aa8", "#c98a1b", "#444444")
_CELL_PX = 96
_MARGIN_PX = 24


def quality(profile: Profile, metric: str) -> bytes:
    """Return a PNG of one metric against denoising steps: means, intervals, fitted curves."""
    figure, axes = page.axes(6.4, 4.0, "denoising steps", LABELS[metric])
    for colour, model in zip(cycle(_COLOURS), profile.models, strict=False):
        fit = model.fit(metric)
        mean, low, high = map(np.array, (fit.mean, fit.mean_low, fit.mean_high))
        spread = np.maximum([mean - low, high - mean], 0)
        axes.errorbar(
            fit.num_steps, mean, spread, fmt="o", ms=4, capsize=2, color=colour,
            label=model.model_id,
        )  # fmt: skip
        dense = np.geomspace(min(fit.num_steps), max(fit.num_steps), 200)
        knees = (fit.a1.value, fit.a2.value, fit.a3.value, fit.a4.value)
        axes.plot(dense, curves.linear_saturation(dense, *knees), color=colour, lw=1.5)
    real = getattr(profile, f"real_{metric}")
    if real is not None:
        axes.axhline(real, color="0.4", ls="--", lw=1, label="real images")
    axes.grid(alpha=0.25)
    axes.set_xscale("log", base=2)
    ticks = sorted({step for model in profile.models for step in model.quality[0].num_steps})
    axes.set_xticks(ticks, [str(step) for step in ticks])
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return page.png(figure)


def latency(profile: Profile) -> bytes:
    """Return a PNG of generation time against denoising steps, with the affine fits."""
    figure, axes = page.axes(6.4, 4.0, "denoising steps", "seconds to generate")
    for colour, model in zip(cycle(_COLOURS), profile.models, strict=False):
        for number, fit in enumerate(model.latency):
            median = np.array(fit.median_s)
            spread = [median - np.array(fit.p10_s), np.array(fit.p90_s) - median]
            axes.errorbar(
                fit.num_steps, median, spread, fmt="os^v"[number % 4], ms=4, capsize=2,
                color=colour, label=f"{model.model_id}, batch {fit.batch}",
            )  # fmt: skip
            dense = np.linspace(0, max(fit.num_steps), 50)
            axes.plot(dense, curves.affine(dense, fit.b1.value, fit.b2.value), color=colour, lw=1)
    highest = max(max(fit.median_s) for model in profile.models for fit in model.latency)
    axes.grid(alpha=0.25)
    axes.set_ylim(0, 1.3 * highest)  # one disturbed repeat must not flatten everything else
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return page.png(figure)


def image_grid(folder: Path, model: ModelProfile, indices: Sequence[int]) -> bytes:
    """Return a PNG: a row for each prompt, numbered from 1, a column for each number of steps."""
    steps = model.quality[0].num_steps
    size = (_MARGIN_PX + _CELL_PX * len(steps), _MARGIN_PX + _CELL_PX * len(indices))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    middle = _MARGIN_PX + _CELL_PX // 2
    for column, num_steps in enumerate(steps):
        place = (middle + column * _CELL_PX, _MARGIN_PX // 2)
        draw.text(place, str(num_steps), fill="black", anchor="mm", font_size=13)
        for row, index in enumerate(indices):
            with Image.open(image_path(folder, model.model_id, num_steps, index)) as image:
                cell = image.convert("RGB").resize((_CELL_PX - 4, _CELL_PX - 4))
            sheet.paste(cell, (_MARGIN_PX + column * _CELL_PX + 2, _MARGIN_PX + row * _CELL_PX + 2))
    for row in range(len(indices)):
        place = (_MARGIN_PX // 2, middle + row * _CELL_PX)
        draw.text(place, str(row + 1), fill="black", anchor="mm", font_size=13)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
