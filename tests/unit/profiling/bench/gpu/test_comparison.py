import numpy as np
import pytest

from profiling.bench.gpu import comparison


def test_parity_tells_the_largest_difference_and_how_much_differs():
    image = np.random.default_rng(0).integers(5, 250, size=(16, 16, 3), dtype=np.uint8)
    other = image.copy()
    other[0, 0, 0] -= 3
    other[1, 1, 1] += 1

    found = comparison.parity([image, other], [image, image])

    assert found["difference_max"] == 3
    assert found["differing_frac"] == pytest.approx(2 / (2 * 16 * 16 * 3))
    assert 0.99 < found["ssim_min"] < 1
    assert comparison.parity([image], [image])["ssim_min"] == pytest.approx(1)
