"""Measure the built-in zoo: the judge, the exact checker, and every model against denoising steps.

    python -m edge_node.zoo.evaluate               everything, some minutes on 2 CPU cores
    python -m edge_node.zoo.evaluate --prompts 64  a quicker look

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
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from PIL import Image, ImageDraw

from edge_node.zoo import autoencoder, checker, judge, scenes
from edge_node.zoo.train import WEIGHTS
from protos import logs, manifest
from protos.seeds import stream

logger = logging.getLogger(__name__)

GRID_STEPS = (1, 2, 4, 8, 16, 32, 50)
MODELS = ("scene-nano", "scene-small", "scene-base")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What to measure."""

    prompts: int = 256
    """Held-out prompts of each kind (one object, two objects) at 50 steps."""
    step_prompts: int = 64
    """Held-out prompts at each other step count, half of them of each kind."""
    guidance_scale: float = 3.0
    """Classifier-free guidance."""
    seed: int = 101
    """Of prompts and start latents."""
    weights: Path = WEIGHTS
    """The folder of the zoo's models."""
    out: Path = Path("runs/zoo-evaluation")
    """Where the figures and the pictures go."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One model at one step count, on one kind of prompts."""

    model: str
    num_steps: int
    kind: str
    exact_frac: float
    clip_score: float
    num_images: int


def generate(
    pipeline: StableDiffusionPipeline,
    captions: Sequence[str],
    num_steps: int,
    guidance_scale: float,
    seed: int,
) -> np.ndarray:
    """Return images uint8 [n, h, w, 3]; prompt i starts from ``seed + i``."""
    parts = []
    for start in range(0, len(captions), 32):
        batch = list(captions[start : start + 32])
        parts.append(
            pipeline(
                batch,
                num_inference_steps=num_steps,
                guidance_scale=guidance_scale,
                generator=[
                    torch.Generator().manual_seed(seed + start + i) for i in range(len(batch))
                ],
                output_type="np",
            ).images
        )
    return (np.concatenate(parts) * 255).round().astype(np.uint8)


def score(model: str, settings: Settings, the_judge: judge.Judge) -> tuple[list[Score], np.ndarray]:
    """Return a model's scores and its row of the grid [steps, prompts, h, w, 3]."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        settings.weights / model, dtype=torch.float32, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    rng = stream(settings.seed, "prompts")
    drawn = {
        kind.__name__: scenes.distinct(rng, settings.prompts, kind, "held-out")
        for kind in (scenes.Single, scenes.Pair)
    }
    scores, rows = [], []
    for num_steps in GRID_STEPS:
        logger.info("%s at %d steps", model, num_steps)
        for kind, asked in drawn.items():
            count = settings.prompts if num_steps == GRID_STEPS[-1] else settings.step_prompts // 2
            part = asked[:count]
            captions = [scene.caption for scene in part]
            images = generate(pipeline, captions, num_steps, settings.guidance_scale, settings.seed)
            scores.append(
                Score(
                    model=model,
                    num_steps=num_steps,
                    kind=kind,
                    exact_frac=float(np.mean([*map(checker.matches, images, part)])),
                    clip_score=float(the_judge.clip_score(images, captions).mean()),
                    num_images=len(part),
                )
            )
            rows.append(images[:3])
    grid = np.stack([np.concatenate(rows[i : i + 2]) for i in range(0, len(rows), 2)])
    return scores, grid


def draw_grid(grids: dict[str, np.ndarray], file: Path) -> None:
    """Draw [steps, prompts, h, w, 3] of each model: a band a model, a column a step count."""
    label_px = 20
    bands = []
    for grid in grids.values():
        tiles = np.concatenate([np.concatenate(list(column), axis=0) for column in grid], axis=1)
        band = Image.new("RGB", (tiles.shape[1], tiles.shape[0] + label_px), "white")
        band.paste(Image.fromarray(tiles), (0, label_px))
        draw = ImageDraw.Draw(band)
        for index, num_steps in enumerate(GRID_STEPS):
            text = f"{num_steps} steps"
            draw.text((index * grid.shape[3] + 3, 4), text, fill="black")

        bands.append(band)
    sheet = Image.new("RGB", (bands[0].width, sum(band.height for band in bands)), "white")
    top = 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height
    sheet.save(file)


def table(
    scores: Sequence[Score],
    judge_frac: float,
    checker_frac: float,
    autoencoder_frac: float,
    name: str,
) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"Judge `{name}`: right caption of 64 for {judge_frac:.1%} of held-out rendered scenes.",
        f"Exact checker: {checker_frac:.1%} of held-out rendered scenes read right, and "
        f"{autoencoder_frac:.1%} of those after the autoencoder (no denoiser can do better).",
        "",
        "| model | steps | one object, exact | two objects, exact | CLIP score | images |",
        "|---|---|---|---|---|---|",
    ]
    cells = {(s.model, s.num_steps, s.kind): s for s in scores}
    for model in dict.fromkeys(s.model for s in scores):
        for num_steps in GRID_STEPS:
            one, two = cells[model, num_steps, "Single"], cells[model, num_steps, "Pair"]
            mean = (one.clip_score + two.clip_score) / 2
            lines.append(
                f"| {model} | {num_steps} | {one.exact_frac:.1%} | {two.exact_frac:.1%} | "
                f"{mean:.1f} | {one.num_images} + {two.num_images} |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the command line; return the exit code."""
    settings = tyro.cli(Settings, description=__doc__)
    logs.setup()
    diffusers_logging.set_verbosity_error()
    settings.out.mkdir(parents=True, exist_ok=True)
    the_judge = judge.load_judge(settings.weights / "judge")
    rng = stream(settings.seed, "rendered")
    judge_frac = judge.retrieval_frac(the_judge, rng)
    rendered = scenes.draw(rng, 1000, "held-out")
    images = scenes.render(rendered, rng)
    checker_frac = float(np.mean([*map(checker.matches, images, rendered)]))
    vae = AutoencoderTiny.from_pretrained(
        settings.weights / MODELS[-1] / "vae", dtype=torch.float32
    )
    restored = autoencoder.reconstruct(vae, images)
    autoencoder_frac = float(np.mean([*map(checker.matches, restored, rendered)]))
    scores, grids = [], {}
    for model in MODELS:
        if (settings.weights / model).exists():
            found, grids[model] = score(model, settings, the_judge)
            scores += found
    text = table(scores, judge_frac, checker_frac, autoencoder_frac, the_judge.scorer_name)
    draw_grid(grids, settings.out / "grid.png")
    record = {
        "manifest": asdict(manifest.collect()),
        "guidance_scale": settings.guidance_scale,
        "judge": the_judge.scorer_name,
        "judge_retrieval_frac": judge_frac,
        "checker_frac": checker_frac,
        "autoencoder_frac": autoencoder_frac,
        "scores": [asdict(s) for s in scores],
    }
    (settings.out / "evaluation.json").write_text(json.dumps(record, indent=1) + "\n")
    (settings.out / "evaluation.md").write_text(text)
    sys.stdout.write(text + f"\n{settings.out}/evaluation.md\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
