"""Fréchet inception distance between two sets of images, on any scorer's features.

Responsible for the distance and its bootstrap, of features as arrays [n, d]. Not: loading scorers.
With few images the distance is biased upward (its covariance has rank < n), so two distances
compare only at the same n; a report always states n.

Source: Heusel et al. 2017; torchmetrics computes the distance of record.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

Features = NDArray[np.float64]
Net = Callable[[torch.Tensor], torch.Tensor]


class _Given(nn.Module):
    """Stands where torchmetrics has a feature net: the features are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def extract(net: Net, images: NDArray[np.uint8], device: str = "cpu", chunk: int = 64) -> Features:
    """Return the features [n, d] of uint8 images [n, h, w, 3] under a torchmetrics feature net."""
    rows = []
    with torch.inference_mode():
        for start in range(0, len(images), chunk):
            batch = torch.from_numpy(images[start : start + chunk]).permute(0, 3, 1, 2)
            rows.append(net(batch.to(device)).double().cpu().numpy())
    return np.concatenate(rows)


def frechet_distance(real: Features, generated: Features) -> float:
    """Return torchmetrics' FID of two sets of features, [n, d] and [m, d]."""
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1]))
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(generated), real=False)
    return float(metric.compute())


def bootstrap(real: Features, generated: Features, drawn: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the distance [r] for each resample: rows ``drawn`` [r, n] of ``generated``.

    Repeated rows lower the covariance's rank and so raise the distance; the replicates are moved
    by their mean excess, so that they lie around the distance of the whole set.
    """
    reference = _Moments(real)
    replicates = np.array([_distance(reference, _Moments(generated[rows])) for rows in drawn])
    excess = replicates.mean() - _distance(reference, _Moments(generated))
    return np.asarray(np.maximum(replicates - excess, 0.0))


class _Moments:
    """Mean and a factor F of the covariance, FᵀF, with as few rows as its rank."""

    def __init__(self, features: Features) -> None:
        if len(features) < 2:
            raise ValueError(f"a covariance needs >= 2 images, got {len(features)}")
        self.mean = features.mean(0)
        factor: Features = (features - self.mean) / np.sqrt(len(features) - 1)
        self.trace = float(np.square(factor).sum())
        self.factor: Features = factor
        if factor.shape[0] > factor.shape[1]:
            self.factor = np.asarray(np.linalg.qr(factor, mode="r"))


def _distance(one: _Moments, two: _Moments) -> float:
    """Return ``frechet_distance``, cheap for few images: the bootstrap needs thousands of it.

    Covariances are FᵀF and GᵀG; the trace of (FᵀF·GᵀG)^½ is the sum of F·Gᵀ's singular values.
    """
    shift = float(np.square(one.mean - two.mean).sum())
    shared = float(np.linalg.svdvals(one.factor @ two.factor.T).sum())
    return max(shift + one.trace + two.trace - 2 * shared, 0.0)
