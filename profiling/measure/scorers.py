"""The scorers a configuration names: the zoo's judge without a download, or the standard nets.

Responsible for names and loading. Not: scoring.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from edge_node.zoo.judge import Judge, load_judge
from profiling.measure import sources
from profiling.measure.config import ProfileConfig
from profiling.quality import clip_score
from profiling.quality.fid import Net


@dataclass(frozen=True, slots=True)
class ClipScorer:
    """Scores images by their prompts, and the name under which records know it."""

    name: str
    score: clip_score.Score
    """Images [n, h, w, 3] and their prompts -> CLIP scores [n]."""


@dataclass(frozen=True, slots=True)
class FidScorer:
    """The feature net of the FID, and the name under which records know it."""

    name: str
    net: Net
    """uint8 images [n, 3, h, w] -> features [n, d]."""


def clip(config: ProfileConfig) -> ClipScorer:
    """Return the configuration's CLIP scorer."""
    source = config.scorer.clip
    scheme, _, name = source.partition(":")
    if scheme in ("folder", "hub"):
        label = f"CLIP {name.rpartition('/')[2]} ({sources.digest(source)[:12]})"
        return ClipScorer(label, clip_score.pretrained(name, config.device))
    judge = _judge(source, config.device)
    return ClipScorer(
        judge.scorer_name,
        lambda images, prompts: judge.clip_score(images, list(prompts)).astype(np.float64),
    )


def fid(config: ProfileConfig) -> FidScorer:
    """Return the configuration's FID scorer."""
    if config.scorer.fid == "inception-v3":
        net: torch.nn.Module = FrechetInceptionDistance(feature=2048).inception
        return FidScorer("InceptionV3 (2048 features)", net.to(config.device))
    judge = _judge(config.scorer.fid, config.device)
    return FidScorer(judge.scorer_name, judge.fid_module())


def _judge(source: str, device: str) -> Judge:
    folder = sources.folder_of(source)
    if folder is None:
        raise ValueError(f"{source} is not a judge")
    return load_judge(folder, device)
