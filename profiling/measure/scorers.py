"""The scorers a configuration names: the zoo's judge without a download, or the standard nets.

Responsible for names and loading. Not: scoring.
"""

import numpy as np
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from edge_node.zoo.judge import Judge, load_judge
from profiling.measure import sources
from profiling.measure.config import ProfileConfig
from profiling.quality import clip_score
from profiling.quality.fid import Net


def clip(config: ProfileConfig) -> tuple[str, clip_score.Score]:
    """Return the CLIP scorer: its name in records; images [n, h, w, 3], prompts -> scores [n]."""
    source = config.scorer.clip
    scheme, _, name = source.partition(":")
    if scheme in ("folder", "hub"):
        label = f"CLIP {name.rpartition('/')[2]} ({sources.digest(source)[:12]})"
        return label, clip_score.pretrained(name, config.device)
    judge = _judge(source, config.device)
    return (
        judge.scorer_name,
        lambda images, prompts: judge.clip_score(images, list(prompts)).astype(np.float64),
    )


def fid(config: ProfileConfig) -> tuple[str, Net]:
    """Return the FID's feature net: its name in records; images [n, 3, h, w] -> features [n, d]."""
    if config.scorer.fid == "inception-v3":
        net: torch.nn.Module = FrechetInceptionDistance(feature=2048).inception
        return "InceptionV3 (2048 features)", net.to(config.device)
    judge = _judge(config.scorer.fid, config.device)
    return judge.scorer_name, judge.fid_module()


def _judge(source: str, device: str) -> Judge:
    folder = sources.folder_of(source)
    if folder is None:
        raise ValueError(f"{source} is not a judge")
    return load_judge(folder, device)
