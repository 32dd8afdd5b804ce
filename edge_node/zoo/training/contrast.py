"""Contrastive training of a world's judge (Radford et al. 2021), on scenes of its own.

Against the other captions of the batch and against hard negatives: each caption with one thing
about it changed.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig

from edge_node.zoo import text
from edge_node.zoo.judge import Judge, image_unit, text_unit
from edge_node.zoo.training.data import Pool
from edge_node.zoo.training.loop import LossAt, Recipe
from edge_node.zoo.worlds.interface import IMAGE_PX, World

RECIPES = {
    "plain": Recipe(num_updates=1000, batch=96, learning_rate=1e-3, seed=23, weight_decay=0.05),
    "open": Recipe(num_updates=1500, batch=96, learning_rate=1e-3, seed=24, weight_decay=0.05),
}
NUM_SCENES = 40_000
FEATURES = 128
"""Width of the projected image features, which FID uses too."""


def build(world: World[Any]) -> CLIPModel:
    """Return a world's untrained judge."""
    vision = CLIPVisionConfig(
        hidden_size=FEATURES,
        intermediate_size=4 * FEATURES,
        projection_dim=FEATURES,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=IMAGE_PX,
        patch_size=8,
    )
    config = CLIPConfig(
        text_config=text.text_config(world, num_layers=3).to_dict(),
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
        image = image_unit(self.net, images)
        both = text_unit(self.net, torch.cat([ids, wrong_ids]))
        scale = self.net.logit_scale.exp().clamp(max=100)
        logits = (scale * image @ both.T).float()
        target = torch.arange(len(image), device=image.device)
        to_image = logits[:, : len(image)].T
        return functional.cross_entropy(logits, target) + functional.cross_entropy(to_image, target)


def loss_at(pool: Pool, world: World[Any], batch: int) -> LossAt:
    """Return the function that draws a batch, blurs some of it a little, and returns its loss."""
    words = text.tokenizer(world)

    def loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
        device = next(model.parameters()).device
        scenes, images = pool.batch(rng, batch)
        blurred = functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
        weight = torch.from_numpy(rng.random((batch, 1, 1, 1), np.float32))
        images = torch.lerp(images, blurred, weight)
        ids = text.token_ids(words, [scene.caption for scene in scenes])
        wrong = text.token_ids(words, [world.spoiled(scene, rng).caption for scene in scenes])
        return model(images.to(device), ids.to(device), wrong.to(device))

    return loss


def export(net: CLIPModel, world: World[Any], folder: Path) -> None:
    """Write the judge as a folder of float16 safetensors, with its tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    net.config.save_pretrained(folder)
    text.tokenizer(world).save_pretrained(folder)
    state = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def retrieval_frac(
    judge: Judge, world: World[Any], rng: np.random.Generator, rounds: int = 16
) -> float:
    """Return how often the right caption of 64 wins, on held-out rendered scenes."""
    right = []
    for _ in range(rounds):
        drawn = world.distinct(rng, 64, "held-out")
        image = judge.image_features(world.render(drawn, rng, IMAGE_PX))
        words = judge.text_features([scene.caption for scene in drawn])
        right.append((image @ words.T).argmax(axis=1) == np.arange(64))
    return float(np.mean(right))
