"""An evaluation as people read it: tables, and a picture of the same prompts at all steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from edge_node.zoo.evaluation.record import Evaluation, Score

GRID_PX = 64
GRID_COLUMNS = 3


def tables(evaluation: Evaluation) -> str:
    """Return the figures as Markdown."""
    lines = [*_instruments(evaluation), *_scores(evaluation), *_gains(evaluation)]
    return "\n".join(lines) + "\n"


def _instruments(evaluation: Evaluation) -> list[str]:
    checks = evaluation.instruments
    return [
        f"Check by atoms, {evaluation.world} world, held-out rendered scenes: "
        f"{checks.atoms_frac:.1%}; after the autoencoder {checks.decoded_atoms_frac:.1%} "
        f"({checks.decoded_psnr_db:.1f} dB).",
        f"Judge `{checks.judge}`: right caption of 64 for {checks.retrieval_frac:.1%} of "
        "rendered scenes.",
    ]


def _scores(evaluation: Evaluation) -> list[str]:
    lines = [
        f"Spearman of its CLIP score with the atoms, all images: {evaluation.spearman:.2f}.",
        "",
        "| model | steps | samples a step | atoms (95 %) | all atoms | CLIP score (95 %) | FID "
        "| s an image | images |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(_row, evaluation.scores),
        "",
        "| model | sampler | of its range at 4 steps | steps to 90 % of its range | best atoms |",
        "|---|---|---|---|---|",
    ]
    for one in evaluation.summaries:
        few = "-" if one.range_frac_at_4_steps is None else f"{one.range_frac_at_4_steps:.0%}"
        lines.append(
            f"| {one.model} | {one.sampler} | {few} | {one.steps_to_90_percent} "
            f"| {one.best_atoms_frac:.1%} |"
        )
    names = ", ".join(evaluation.pareto)
    return [
        *lines,
        "",
        f"On the front of atoms against seconds: {names}.",
        f"Weights of the zoo: {evaluation.weights_bytes / 1e6:.0f} MB.",
    ]


def _gains(evaluation: Evaluation) -> list[str]:
    return [
        "",
        "What more steps gain, one-sided p-values of paired permutation tests:",
        "",
        "| model | steps | against | atoms | CLIP score | FID |",
        "|---|---|---|---|---|---|",
        *(
            f"| {g.model} | {g.num_steps} | {g.fewer_steps} | {g.atoms_p:.4f} | {g.clip_p:.4f} "
            f"| {g.fid_p:.4f} |"
            for g in evaluation.gains
        ),
    ]


def _row(score: Score) -> str:
    atoms, clip = score.atoms, score.clip_score
    return (
        f"| {score.model} | {score.num_steps} | {1 if score.guidance_scale == 1 else 2} "
        f"| {atoms.mean:.1%} ({atoms.low:.1%} .. {atoms.high:.1%}) | {score.exact_frac:.1%} "
        f"| {clip.mean:.1f} ({clip.low:.1f} .. {clip.high:.1f}) | {score.fid:.4f} "
        f"| {score.seconds:.3f} | {score.num_images} |"
    )


def draw_grid(grids: Mapping[str, np.ndarray], num_steps: Sequence[int], file: Path) -> None:
    """Draw [steps, prompts, h, w, 3] of each model: a band a model, in it a column a step count."""
    if not grids:
        return
    bands = [_band(f"{model}, {g.shape[2]} px", g, num_steps) for model, g in grids.items()]
    gap, columns = GRID_PX // 4, min(len(bands), GRID_COLUMNS)
    width, height = bands[0].width + gap, bands[0].height
    num_bands_down = -(-len(bands) // columns)
    sheet = Image.new("RGB", (columns * width - gap, num_bands_down * height), "white")
    for index, band in enumerate(bands):
        sheet.paste(band, (index % columns * width, index // columns * height))
    sheet.save(file)


def _band(title: str, grid: np.ndarray, num_steps: Sequence[int]) -> Image.Image:
    label_px = 18
    tiles = np.concatenate([np.concatenate(list(column), axis=0) for column in grid], axis=1)
    size = GRID_PX * grid.shape[0], GRID_PX * grid.shape[1]
    small = Image.fromarray(tiles).resize(size, Image.Resampling.BOX)
    band = Image.new("RGB", (small.width, small.height + 2 * label_px), "white")
    band.paste(small, (0, 2 * label_px))
    pen = ImageDraw.Draw(band)
    pen.text((3, 3), title, fill="black")
    for index, count in enumerate(num_steps):
        label = f"{count} step{'s' * (count > 1)}"
        pen.text((index * GRID_PX + 3, label_px + 3), label, fill="black")
    return band
