import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from profiling.quality import fid


def exactly_normal(count, width, seed=0):
    """Return features whose sample mean is 0 and whose sample covariance is the identity."""
    drawn = np.random.default_rng(seed).normal(size=(count, width))
    drawn -= drawn.mean(0)
    whitening = np.linalg.inv(np.linalg.cholesky(np.cov(drawn.T)))
    return drawn @ whitening.T


class Corners(nn.Module):
    """Takes six pixels of an image as its features."""

    num_features = 6

    def forward(self, images):
        return images[:, :, 0, :2].flatten(1).double()


def test_equal_sets_have_no_distance():
    features = np.random.default_rng(0).normal(size=(50, 4))

    assert fid.frechet_distance(features, features) == pytest.approx(0, abs=1e-6)


def test_two_known_gaussians():
    # N(0, I) and N((3, 4), diag(2², 3²)): |(3, 4)|² + (1 - 2)² + (1 - 3)² = 25 + 1 + 4
    real = exactly_normal(200, 2)
    generated = exactly_normal(100, 2, seed=1) * [2, 3] + [3, 4]

    assert fid.frechet_distance(real, generated) == pytest.approx(30.0)


@pytest.mark.parametrize("count", [12, 80], ids=["fewer images than features", "more"])
def test_the_bootstrap_computes_the_distance_of_record(count):
    rng = np.random.default_rng(4)
    real, generated = rng.normal(size=(100, 24)), rng.normal(0.5, 2.0, size=(count, 24))

    everything_once = fid.bootstrap(real, generated, np.arange(count)[None])

    assert everything_once == pytest.approx([fid.frechet_distance(real, generated)])


def test_replicates_lie_around_the_distance_and_differ():
    rng = np.random.default_rng(4)
    real, generated = rng.normal(size=(200, 4)), rng.normal(1.0, 2.0, size=(60, 4))

    replicates = fid.bootstrap(real, generated, rng.integers(60, size=(50, 60)))

    assert replicates.mean() == pytest.approx(fid.frechet_distance(real, generated))
    assert replicates.std() > 0.1


def test_features_and_distance_together_are_torchmetrics_on_the_images():
    rng = np.random.default_rng(6)
    real = rng.integers(0, 200, (40, 4, 4, 3), dtype=np.uint8)
    generated = rng.integers(50, 256, (30, 4, 4, 3), dtype=np.uint8)
    metric = FrechetInceptionDistance(feature=Corners()).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real).permute(0, 3, 1, 2), real=True)
    metric.update(torch.from_numpy(generated).permute(0, 3, 1, 2), real=False)

    net = Corners()
    found = fid.frechet_distance(
        fid.extract(net, real, chunk=7), fid.extract(net, generated, chunk=30)
    )

    assert found == pytest.approx(float(metric.compute()))


def test_one_image_has_no_covariance():
    features = np.zeros((5, 3))

    with pytest.raises(ValueError, match=">= 2 images, got 1"):
        fid.bootstrap(features, features, np.array([[0]]))
