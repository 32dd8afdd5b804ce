"""The judge: a small CLIPModel trained on the same world, other seeds; CLIP score and FID features.

It stands in for OpenAI's CLIP and for InceptionV3 where these cannot be had; records name it by
``Judge.scorer_name``. Trained contrastively against the other captions of the batch and against
hard negatives: each caption with one attribute, or its relation, changed.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig

from edge_node.zoo import scenes, text
from edge_node.zoo.autoencoder import to_tensor
from edge_node.zoo.loop import Recipe

RECIPE = Recipe(num_updates=1000, batch=96, learning_rate=1e-3, seed=23, weight_decay=0.05)
FEATURES = 128
"""Width of the projected image features, which FID uses too."""


def build() -> CLIPModel:
    """Return the untrained judge."""
    vision = CLIPVisionConfig(
        hidden_size=FEATURES,
        intermediate_size=4 * FEATURES,
        projection_dim=FEATURES,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=scenes.IMAGE_PX,
        patch_size=8,
    )
    config = CLIPConfig(
        text_config=text.text_config(num_layers=3).to_dict(),
        vision_config=vision.to_dict(),
        projection_dim=FEATURES,
        logit_scale_init_value=float(np.log(10)),
    )
    return CLIPModel(config)


class Contrast(nn.Module):
    """The judge with its contrastive loss as forward."""

    def __init__(self, net: CLIPModel) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor, ids: Tensor, wrong_ids: Tensor) -> Tensor:
        """Return the loss of images [n, 3, h, w], captions and hard negatives [n, t]."""
        image = _image_unit(self.net, images)
        both = _text_unit(self.net, torch.cat([ids, wrong_ids]))
        scale = self.net.logit_scale.exp().clamp(max=100)
        logits = scale * image @ both.T
        target = torch.arange(len(image), device=image.device)
        to_image = logits[:, : len(image)].T
        return functional.cross_entropy(logits, target) + functional.cross_entropy(to_image, target)


def loss_at(model: nn.Module, rng: np.random.Generator) -> Tensor:
    """Return the loss of one batch of training scenes, some of them blurred a little."""
    device = next(model.parameters()).device
    drawn = scenes.draw(rng, RECIPE.batch, "train")
    images = to_tensor(scenes.render(drawn, rng))
    blurred = functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    weight = torch.from_numpy(rng.random((len(images), 1, 1, 1), np.float32))
    images = torch.lerp(images, blurred, weight)
    ids = text.token_ids([scene.caption for scene in drawn])
    wrong = text.token_ids([spoiled(scene, rng).caption for scene in drawn])
    return model(images.to(device), ids.to(device), wrong.to(device))


def spoiled(scene: scenes.Scene, rng: np.random.Generator) -> scenes.Scene:
    """Return the scene with one thing about it changed: a hard negative."""

    def other(known: tuple[str, ...], now: str) -> str:
        rest = [choice for choice in known if choice != now]
        return rest[rng.integers(len(rest))]

    def change(thing: scenes.Thing) -> scenes.Thing:
        if rng.random() < 0.5:
            return replace(thing, colour=other((*scenes.COLOURS,), thing.colour))
        return replace(thing, shape=other(scenes.SHAPES, thing.shape))

    kind = int(rng.integers(4))
    if kind == 0:
        return replace(scene, background=other((*scenes.BACKGROUNDS,), scene.background))
    if isinstance(scene, scenes.Single):
        if kind == 1:
            return replace(scene, position=other((*scenes.POSITIONS,), scene.position))
        if kind == 2:
            return replace(scene, size=other(scenes.SIZES, scene.size))
        return replace(scene, thing=change(scene.thing))
    if kind == 1:
        return replace(scene, relation=other((*scenes.RELATIONS,), scene.relation))
    if kind == 2:
        return replace(scene, first=scene.second, second=scene.first)
    return replace(scene, first=change(scene.first))


class Judge:
    """Scores images [n, h, w, 3] uint8 of the zoo's world."""

    def __init__(self, net: CLIPModel, digest: str, device: str = "cpu") -> None:
        self._net = net.eval().requires_grad_(requires_grad=False).to(device)
        self.scorer_name = f"zoo-judge-{digest[:12]} ({FEATURES} features, {scenes.IMAGE_PX} px)"

    @torch.no_grad()
    def image_features(self, images: np.ndarray) -> np.ndarray:
        """Return unit-norm features, float32 [n, FEATURES]; other sizes are resized by area."""
        pixels = to_tensor(images).to(self._net.device)
        return _in_parts(pixels, lambda part: _image_unit(self._net, _fit(part)))

    @torch.no_grad()
    def patch_features(self, images: np.ndarray) -> np.ndarray:
        """Return the last layer's mean over patches, float32 [n, FEATURES]: texture, not words."""
        pixels = to_tensor(images).to(self._net.device)
        tower = self._net.vision_model
        return _in_parts(pixels, lambda p: tower(pixel_values=_fit(p)).last_hidden_state.mean(1))

    @torch.no_grad()
    def text_features(self, captions: list[str]) -> np.ndarray:
        """Return unit-norm features, float32 [n, FEATURES]."""
        ids = text.token_ids(captions).to(self._net.device)
        return _in_parts(ids, lambda part: _text_unit(self._net, part))

    def clip_score(self, images: np.ndarray, captions: list[str]) -> np.ndarray:
        """Return 100 cos of each image and its caption, floored at 0, float32 [n] (Hessel 2021)."""
        cosine = (self.image_features(images) * self.text_features(captions)).sum(axis=1)
        return np.maximum(100 * cosine, 0)

    def fid_module(self) -> nn.Module:
        """Return the module that torchmetrics' FrechetInceptionDistance takes as ``feature``."""
        return FidFeatures(self._net)


class FidFeatures(nn.Module):
    """Projected image features [n, FEATURES] of uint8 images [n, 3, h, w], not normalised."""

    num_features = FEATURES

    def __init__(self, net: CLIPModel) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Return the features."""
        return _image_embedding(self.net, _fit(images.float() / 127.5 - 1))


def load_judge(folder: Path, device: str = "cpu") -> Judge:
    """Return the judge whose ``model.safetensors`` lies in ``folder``, computing in float32."""
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    net = CLIPModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    return Judge(net, digest, device)


def export(net: CLIPModel, folder: Path) -> None:
    """Write the judge as a float16 safetensors folder."""
    folder.mkdir(parents=True, exist_ok=True)
    net.config.save_pretrained(folder)
    state = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def retrieval_frac(judge: Judge, rng: np.random.Generator, rounds: int = 16) -> float:
    """Return how often the right caption of 64 wins, on held-out rendered scenes."""
    right = []
    for _ in range(rounds):
        drawn = scenes.distinct(rng, 32, scenes.Single, "held-out")
        drawn += scenes.distinct(rng, 32, scenes.Pair, "held-out")
        image = judge.image_features(scenes.render(drawn, rng))
        words = judge.text_features([scene.caption for scene in drawn])
        right.append((image @ words.T).argmax(axis=1) == np.arange(64))
    return float(np.mean(right))


def _image_embedding(net: CLIPModel, pixels: Tensor) -> Tensor:
    return net.visual_projection(net.vision_model(pixel_values=pixels).pooler_output)


def _image_unit(net: CLIPModel, pixels: Tensor) -> Tensor:
    return functional.normalize(_image_embedding(net, pixels), dim=-1)


def _text_unit(net: CLIPModel, ids: Tensor) -> Tensor:
    embedding = net.text_projection(net.text_model(input_ids=ids).pooler_output)
    return functional.normalize(embedding, dim=-1)


def _fit(pixels: Tensor) -> Tensor:
    size = scenes.IMAGE_PX, scenes.IMAGE_PX
    if pixels.shape[-2:] == size:
        return pixels
    return functional.interpolate(pixels, size, mode="bilinear", antialias=True)


def _in_parts(rows: Tensor, embed: Callable[[Tensor], Tensor]) -> np.ndarray:
    return torch.cat([embed(part) for part in torch.split(rows, 256)]).cpu().float().numpy()
