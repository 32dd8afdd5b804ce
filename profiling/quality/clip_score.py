"""CLIP score: how well images show their prompts, 100 times the cosine of their features."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

Images = NDArray[np.uint8]
Score = Callable[[Images, Sequence[str]], NDArray[np.float64]]


def cosine_score(image: NDArray[np.floating], text: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 100 cos(image, text) of each row, features [n, d] -> [n].

    Floored at 0, as the zoo's judge does.

    Source: Hessel et al. 2021, with the scale 100 that diffusion papers use.
    """
    if image.shape != text.shape:
        raise ValueError(f"one text for each image, got {image.shape} and {text.shape}")
    i, t = image.astype(np.float64), text.astype(np.float64)
    lengths = np.linalg.norm(i, axis=1) * np.linalg.norm(t, axis=1)
    return np.asarray(np.maximum(100 * (i * t).sum(1) / np.maximum(lengths, 1e-12), 0.0))


def pretrained(name: str, device: str) -> Score:
    """Return the score function of a CLIP model from a folder or a hub."""
    net = CLIPModel.from_pretrained(name, use_safetensors=True).to(device).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(name)
    tokens = AutoTokenizer.from_pretrained(name)

    def score(images: Images, prompts: Sequence[str]) -> NDArray[np.float64]:
        words = tokens(list(prompts), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            seen = net.get_image_features(**pixels(list(images), return_tensors="pt").to(device))
            read = net.get_text_features(**words.to(device))
        return cosine_score(_features(seen), _features(read))

    return score


def _features(answer: object) -> NDArray[np.float32]:
    """Return the projected features; transformers 5 wraps them in an output object."""
    tensor = getattr(answer, "pooler_output", answer)
    assert isinstance(tensor, torch.Tensor)
    return np.asarray(tensor.float().cpu().numpy())
