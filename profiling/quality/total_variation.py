"""Total variation: how much an image changes from pixel to pixel; noise has much, a blur little."""

import numpy as np
from numpy.typing import NDArray


def total_variation(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return each image's anisotropic total variation for each pixel, images [n, h, w, c] -> [n].

    The absolute differences to the right and downward neighbours, intensities in [0, 1], summed
    over the image, divided by its pixels and averaged over channels: between 0 and 2.

    Source: Rudin, Osher, Fatemi 1992, in the anisotropic form.
    """
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 [n, h, w, c], got {images.dtype} {images.shape}")
    pixels = images.astype(np.float64) / 255
    across = np.abs(np.diff(pixels, axis=2)).sum((1, 2))
    down = np.abs(np.diff(pixels, axis=1)).sum((1, 2))
    return np.asarray((across + down).mean(-1) / (images.shape[1] * images.shape[2]))
