"""The judges: a small CLIPModel a world, for CLIP score and FID features.

They stand in for OpenAI's CLIP and for InceptionV3 where these cannot be had; records name one by
``Judge.scorer_name``. Responsible for scoring. Not: training (training/contrast.py).
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from edge_node.zoo import text


def to_tensor(images: np.ndarray) -> Tensor:
    """Return uint8 images [n, h, w, 3] as float32 [n, 3, h, w] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


class Judge:
    """Scores images [n, h, w, 3] uint8 of one of the zoo's worlds."""

    def __init__(
        self, net: CLIPModel, words: PreTrainedTokenizerBase, digest: str, device: str = "cpu"
    ) -> None:
        self._net = net.eval().requires_grad_(requires_grad=False).to(device)
        self._words = words
        features, px = net.config.projection_dim, net.config.vision_config.image_size
        self.scorer_name = f"zoo-judge-{digest[:12]} ({features} features, {px} px)"

    @torch.no_grad()
    def image_features(self, images: np.ndarray) -> np.ndarray:
        """Return unit-norm features, float32 [n, d]; other sizes are resized by area."""
        pixels = to_tensor(images).to(self._net.device)
        return _in_parts(pixels, lambda part: image_unit(self._net, part))

    @torch.no_grad()
    def text_features(self, captions: Sequence[str]) -> np.ndarray:
        """Return unit-norm features, float32 [n, d]."""
        ids = text.token_ids(self._words, captions).to(self._net.device)
        return _in_parts(ids, lambda part: text_unit(self._net, part))

    def clip_score(self, images: np.ndarray, captions: Sequence[str]) -> np.ndarray:
        """Return 100 cos of each image and its caption, floored at 0, float32 [n] (Hessel 2021)."""
        cosine = (self.image_features(images) * self.text_features(captions)).sum(axis=1)
        return np.maximum(100 * cosine, 0)

    def fid_module(self) -> nn.Module:
        """Return the module that torchmetrics' FrechetInceptionDistance takes as ``feature``."""
        return FidFeatures(self._net)


class FidFeatures(nn.Module):
    """Projected image features [n, d] of uint8 images [n, 3, h, w], not normalised."""

    def __init__(self, net: CLIPModel) -> None:
        super().__init__()
        self.net = net
        self.num_features = net.config.projection_dim

    def forward(self, images: Tensor) -> Tensor:
        """Return the features."""
        return _image_embedding(self.net, images.float() / 127.5 - 1)


def load_judge(folder: Path, device: str = "cpu") -> Judge:
    """Return the judge whose ``model.safetensors`` lies in ``folder``, computing in float32."""
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    net = CLIPModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    return Judge(net, PreTrainedTokenizerFast.from_pretrained(folder), digest, device)


def image_unit(net: CLIPModel, pixels: Tensor) -> Tensor:
    """Return unit-norm features of images [n, 3, h, w] in [-1, 1]."""
    return functional.normalize(_image_embedding(net, pixels), dim=-1)


def text_unit(net: CLIPModel, ids: Tensor) -> Tensor:
    """Return unit-norm features of tokens [n, t]."""
    embedding = net.text_projection(net.text_model(input_ids=ids).pooler_output)
    return functional.normalize(embedding, dim=-1)


def _image_embedding(net: CLIPModel, pixels: Tensor) -> Tensor:
    size = (net.config.vision_config.image_size,) * 2
    if pixels.shape[-2:] != size:
        pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
    return net.visual_projection(net.vision_model(pixel_values=pixels).pooler_output)


def _in_parts(rows: Tensor, embed: Callable[[Tensor], Tensor]) -> np.ndarray:
    return torch.cat([embed(part) for part in torch.split(rows, 256)]).cpu().float().numpy()
