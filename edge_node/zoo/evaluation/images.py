"""Images of the zoo's models, by diffusers' own pipelines."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, LCMScheduler, PixArtAlphaPipeline

from edge_node.engine import families

GUIDANCE_SCALE = 3.0
"""Of classifier-free guidance, where the model does not have it built in."""
_BATCH = 32


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
    for start in range(0, len(captions), _BATCH):
        batch = captions[start : start + _BATCH]
        seeds = range(seed + start, seed + start + len(batch))
        settings = {"num_inference_steps": num_steps, "guidance_scale": scale}
        parts.append(families.generated(pipeline, batch, seeds, **settings))
    return np.concatenate(parts)


def load(folder: Path) -> DiffusionPipeline:
    """Return a model's pipeline in float32, on the GPU where there is one."""
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
