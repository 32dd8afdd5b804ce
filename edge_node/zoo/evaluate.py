"""Measure the built-in zoo: judge, exact checker, styles, every model against denoising steps.

    python -m edge_node.zoo.evaluate                 everything, some minutes on 2 CPU cores
    python -m edge_node.zoo.evaluate --prompts 16    fewer prompts
    python -m edge_node.zoo.evaluate --prompts 256 --model scene-base scene-turbo --num-steps 1 4 16

Writes evaluation.json, evaluation.md and grid.png (the same prompts at every step count) and prints
the table. All prompts are held out: no model was trained on their combination of attributes.
"""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from diffusers import AutoencoderTiny, DiffusionPipeline, LCMScheduler, PixArtAlphaPipeline
from diffusers.utils import logging as diffusers_logging
from PIL import Image, ImageDraw

from edge_node.catalog import ZOO
from edge_node.engine import families
from edge_node.zoo import autoencoder, checker, denoiser, judge, scenes
from edge_node.zoo.style_probe import StyleProbe
from edge_node.zoo.styles import STYLES, Style
from protos import logs, manifest
from protos.seeds import stream

logger = logging.getLogger(__name__)

MODELS: tuple[str, ...] = (*denoiser.VARIANTS, "scene-turbo", "scene-dit")
GUIDANCE_SCALE = 3.0
"""Of classifier-free guidance, where the model does not have it built in."""
GRID_PX = 64
GRID_COLUMNS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Models, step counts and prompts to measure."""

    model: tuple[str, ...] = MODELS
    """The models."""
    num_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 50)
    """Step counts."""
    prompts: int = 64
    """Held-out prompts of each kind (one object, two objects)."""
    seed: int = 101
    """Of prompts and start latents."""
    weights: Path = ZOO
    """The folder of the zoo's models."""
    out: Path = Path("runs/zoo-evaluation")
    """Where the figures and the pictures go."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One model at one step count, on one kind of prompts."""

    model: str
    num_steps: int
    guidance_scale: float
    kind: str
    exact_frac: float
    clip_score: float
    style_frac: float
    """Share of the images that are found to be in the model's style."""
    num_images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class InstrumentChecks:
    """How well the instruments read rendered scenes, held out."""

    judge: str
    retrieval_frac: float
    checker_frac: dict[Style, float]
    style_frac: dict[Style, float]


def own_guidance_scale(pipeline: DiffusionPipeline) -> float:
    """Return the guidance scale that a model is sampled with: 1 where it is built in."""
    kinds = {type(pipeline), type(pipeline.scheduler)}
    return 1.0 if kinds & {PixArtAlphaPipeline, LCMScheduler} else GUIDANCE_SCALE


def generate(
    pipeline: DiffusionPipeline, captions: Sequence[str], num_steps: int, seed: int
) -> np.ndarray:
    """Return images uint8 [n, h, w, 3]; prompt i starts from ``seed + i``."""
    scale = own_guidance_scale(pipeline)
    parts = []
    for start in range(0, len(captions), 32):
        batch = captions[start : start + 32]
        seeds = range(seed + start, seed + start + len(batch))
        settings = {"num_inference_steps": num_steps, "guidance_scale": scale}
        parts.append(families.generated(pipeline, batch, seeds, **settings))
    return np.concatenate(parts)


def load(folder: Path) -> DiffusionPipeline:
    """Return a model's pipeline in float32, on the GPU where there is one."""
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")


def score(
    model: str, settings: Settings, the_judge: judge.Judge, probe: StyleProbe
) -> tuple[list[Score], np.ndarray]:
    """Return a model's scores and its row of the grid [steps, prompts, h, w, 3]."""
    pipeline = load(settings.weights / model)
    style = denoiser.variant_of(model).style
    rng = stream(settings.seed, "prompts")
    drawn = {
        kind.__name__: scenes.distinct(rng, settings.prompts, kind, "held-out")
        for kind in (scenes.Single, scenes.Pair)
    }
    scores, columns = [], []
    for num_steps in settings.num_steps:
        logger.info("%s at %d steps", model, num_steps)
        column = []
        for kind, asked in drawn.items():
            captions = [scene.caption for scene in asked]
            images = generate(pipeline, captions, num_steps, settings.seed)
            scores.append(
                Score(
                    model=model,
                    num_steps=num_steps,
                    guidance_scale=own_guidance_scale(pipeline),
                    kind=kind,
                    exact_frac=_exact_frac(images, asked, style),
                    clip_score=float(the_judge.clip_score(images, captions).mean()),
                    style_frac=probe.right_frac(images, style),
                    num_images=len(asked),
                )
            )
            column += list(images[:2])
        columns.append(np.stack(column))
    return scores, np.stack(columns)


def draw_grid(grids: dict[str, np.ndarray], num_steps: Sequence[int], file: Path) -> None:
    """Draw [steps, prompts, h, w, 3] of each model: a band a model, in it a column a step count."""
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


def check_instruments(
    the_judge: judge.Judge, probe: StyleProbe, rng: np.random.Generator
) -> InstrumentChecks:
    """Return what the instruments find in held-out rendered scenes."""
    checks = InstrumentChecks(
        judge=the_judge.scorer_name,
        retrieval_frac=judge.retrieval_frac(the_judge, rng),
        checker_frac={},
        style_frac={},
    )
    for style in STYLES:
        drawn = scenes.draw(rng, 1000, "held-out")
        images = scenes.render(drawn, rng, style=style)
        checks.checker_frac[style] = _exact_frac(images, drawn, style)
        checks.style_frac[style] = probe.right_frac(images, style)
    return checks


def ceiling(model: str, settings: Settings) -> float:
    """Return the exact share of held-out scenes read back after a model's autoencoder."""
    vae = AutoencoderTiny.from_pretrained(settings.weights / model / "vae", dtype=torch.float32)
    rng = stream(settings.seed, "ceiling")
    drawn = scenes.draw(rng, 500, "held-out")
    variant = denoiser.variant_of(model)
    images = scenes.render(drawn, rng, style=variant.style, image_px=variant.image_px)
    return _exact_frac(autoencoder.reconstruct(vae, images), drawn, variant.style)


def _exact_frac(images: np.ndarray, drawn: Sequence[scenes.Scene], style: Style) -> float:
    pairs = zip(images, drawn, strict=True)
    return float(np.mean([checker.matches(image, scene, style) for image, scene in pairs]))


def table(scores: Sequence[Score], checks: InstrumentChecks, ceilings: dict[str, float]) -> str:
    """Return the figures as Markdown."""
    read = ", ".join(f"{frac:.1%} {style}" for style, frac in checks.checker_frac.items())
    styles = ", ".join(f"{frac:.1%} {style}" for style, frac in checks.style_frac.items())
    lines = [
        f"Judge `{checks.judge}`: right caption of 64 for {checks.retrieval_frac:.1%} of "
        "held-out rendered scenes.",
        f"Exact checker, held-out rendered scenes read right: {read}.",
        f"Style probe, held-out rendered scenes recognised: {styles}.",
        "",
        "| model | steps | denoiser batch | one object, exact | two objects, exact | "
        "after its autoencoder | CLIP score | style recognised | images |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    cells = {(s.model, s.num_steps, s.kind): s for s in scores}
    for model, num_steps in dict.fromkeys((s.model, s.num_steps) for s in scores):
        one, two = cells[model, num_steps, "Single"], cells[model, num_steps, "Pair"]
        clip = f"{(one.clip_score + two.clip_score) / 2:.1f}"
        style = f"{(one.style_frac + two.style_frac) / 2:.1%}"
        lines.append(
            f"| {model} | {num_steps} | {1 if one.guidance_scale == 1 else 2} | "
            f"{one.exact_frac:.1%} | {two.exact_frac:.1%} | {ceilings[model]:.1%} | "
            f"{clip if denoiser.variant_of(model).style == 'plain' else '-'} | {style} | "
            f"{one.num_images} + {two.num_images} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the command line; return the exit code."""
    settings = tyro.cli(Settings, description=__doc__)
    logs.setup()
    diffusers_logging.set_verbosity_error()
    settings.out.mkdir(parents=True, exist_ok=True)
    the_judge = judge.load_judge(settings.weights / "judge")
    probe = StyleProbe(the_judge, stream(settings.seed, "probe"))
    checks = check_instruments(the_judge, probe, stream(settings.seed, "rendered"))
    scores, grids = [], {}
    for model in settings.model:
        found, grids[model] = score(model, settings, the_judge, probe)
        scores += found
    ceilings = {model: ceiling(model, settings) for model in settings.model}
    text = table(scores, checks, ceilings)
    draw_grid(grids, settings.num_steps, settings.out / "grid.png")
    record = {
        "manifest": asdict(manifest.collect()),
        "instruments": asdict(checks),
        "autoencoder_frac": ceilings,
        "scores": [asdict(s) for s in scores],
    }
    (settings.out / "evaluation.json").write_text(json.dumps(record, indent=1) + "\n")
    (settings.out / "evaluation.md").write_text(text)
    sys.stdout.write(text + f"\n{settings.out}/evaluation.md\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
