"""Tells the zoo's styles apart: a linear probe on what the judge sees of an image's patches.

The judge was trained on plain scenes and has no words for styles, so its own captions cannot
name them. The probe is fitted on rendered training scenes of every style; what it is asked about
afterwards are held-out scenes and generated images.
"""

import numpy as np

from edge_node.zoo import scenes
from edge_node.zoo.judge import Judge
from edge_node.zoo.styles import STYLES, Style

NUM_SCENES = 500
"""Rendered training scenes of each style."""
RIDGE = 1e-3
"""Added to the features' variances."""


class StyleProbe:
    """Linear discriminant of the judge's features: the styles' means, one covariance for all."""

    def __init__(self, judge: Judge, rng: np.random.Generator) -> None:
        self._judge = judge
        groups = []
        for style in STYLES:
            drawn = scenes.draw(rng, NUM_SCENES, "train")
            groups.append(judge.patch_features(scenes.render(drawn, rng, style=style)))
        means = np.stack([group.mean(axis=0) for group in groups])
        spread = np.concatenate([g - m for g, m in zip(groups, means, strict=True)])
        covariance = np.cov(spread.T) + RIDGE * np.eye(spread.shape[1])
        self._weights = np.linalg.solve(covariance, means.T)
        self._offsets = -0.5 * (means @ self._weights).diagonal()

    def styles(self, images: np.ndarray) -> list[Style]:
        """Return the style of each uint8 image [n, h, w, 3]."""
        scores = self._judge.patch_features(images) @ self._weights + self._offsets
        return [STYLES[index] for index in scores.argmax(axis=1)]

    def right_frac(self, images: np.ndarray, style: Style) -> float:
        """Return the share of images that are found to be in the style."""
        return float(np.mean([found == style for found in self.styles(images)]))
