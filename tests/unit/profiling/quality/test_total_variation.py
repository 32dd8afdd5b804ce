import numpy as np
import pytest
import torch
from torchmetrics.functional.image import total_variation as reference

from profiling.quality.total_variation import total_variation


def test_hand_computed_images():
    flat = np.full((2, 2, 1), 90)
    checkers = np.array([[[0], [255]], [[255], [0]]])  # 2 steps across and 2 down, over 4 pixels
    edge = np.array([[[0], [51]], [[0], [51]]])  # 2 steps of 0.2 across, over 4 pixels

    found = total_variation(np.stack([flat, checkers, edge]).astype(np.uint8))

    assert found == pytest.approx([0.0, 1.0, 0.1])


def test_channels_are_averaged():
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[0, 0, 1, 0] = image[0, 1, 0, 0] = 255  # checkers in one channel of three

    assert total_variation(image) == pytest.approx([1 / 3])


def test_it_is_torchmetrics_sum_for_each_pixel_and_channel():
    images = np.random.default_rng(3).integers(0, 256, (4, 7, 5, 3), dtype=np.uint8)

    tensor = torch.from_numpy(images / 255).permute(0, 3, 1, 2)
    expected = reference(tensor, reduction="none") / (7 * 5 * 3)

    assert total_variation(images) == pytest.approx(expected.numpy())


@pytest.mark.parametrize("images", [np.zeros((2, 2, 3), np.uint8), np.zeros((1, 2, 2, 3))])
def test_other_shapes_and_types_are_refused(images):
    with pytest.raises(ValueError, match="uint8"):
        total_variation(images)
