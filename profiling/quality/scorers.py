"""The scorers a configuration names: the zoo's judge without a download, or the standard nets.

Owns names and loading. Refuses to score.
"""

from pathlib import Path

import numpy as np
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from edge_node.zoo.judge import Judge, load_judge
from profiling import sources
from profiling.config import ProfileConfig
from profiling.quality import clip_score
from profiling.quality.fid import Net


def clip(config: ProfileConfig) -> clip_score.Score:
    """Return the function that gives images [n, h, w, 3] and their prompts CLIP scores [n]."""
    scheme, _, name = config.scorer.clip.partition(":")
    if scheme in ("folder", "hub"):
        return clip_score.pretrained(name, config.device)
    judge = _judge(config.scorer.clip, config.device)
    return lambda images, prompts: judge.clip_score(images, list(prompts)).astype(np.float64)


def features(config: ProfileConfig) -> Net:
    """Return the feature net of the FID, uint8 images [n, 3, h, w] -> [n, d]."""
    if config.scorer.fid == "inception-v3":
        net: torch.nn.Module = FrechetInceptionDistance(feature=2048).inception
        return net.to(config.device)
    return _judge(config.scorer.fid, config.device).fid_module()


def _judge(source: str, device: str) -> Judge:
    folder = sources.folder_of(source)
    if folder is None:
        raise ValueError(f"{source} is not a judge")
    return load_judge(Path(folder), device)
