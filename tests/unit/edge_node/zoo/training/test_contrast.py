"""What the judge's training promises: a loss by hand, one that falls, a folder that scores."""

import math

import numpy as np
import pytest
import torch

from edge_node.zoo import judge, text
from edge_node.zoo.training import contrast, data
from edge_node.zoo.worlds.builtin import WORLDS
from protos.seeds import stream

each_world = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)


@each_world
def test_the_loss_is_finite_and_falls(world):
    net = contrast.Contrast(contrast.build(world))
    loss_at = contrast.loss_at(data.pool(world, 8, 1), world, 6)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-4)

    losses = []
    for _ in range(8):
        loss = loss_at(net, stream(2, "x"))  # always the same batch
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0]


def test_the_loss_by_hand(monkeypatch):
    # two images along the axes; captions right, hard negatives at 45 degrees; scale e^0 = 1
    net = contrast.Contrast(contrast.build(WORLDS["plain"]))
    net.net.logit_scale.data.zero_()
    half = math.sqrt(0.5)
    monkeypatch.setattr(contrast, "image_unit", lambda *_: torch.eye(2))
    captions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [half, half], [half, half]])
    monkeypatch.setattr(contrast, "text_unit", lambda *_: captions)

    loss = net(torch.zeros(2, 3, 64, 64), torch.zeros(2, 16), torch.zeros(2, 16))

    # of each image: -log(e / (e + 1 + 2 e^half)); of each caption: -log(e / (e + 1))
    e = math.e
    to_caption = -math.log(e / (e + 1 + 2 * math.exp(half)))
    to_image = -math.log(e / (e + 1))
    assert loss.item() == pytest.approx(to_caption + to_image, rel=1e-5)


@each_world
def test_hard_negatives_are_the_spoiled_captions_of_the_batch(world):
    pool, words, got = data.pool(world, 8, 1), text.tokenizer(world), []

    class Net(torch.nn.Linear):
        def forward(self, *parts):
            got.extend(parts)

    contrast.loss_at(pool, world, 6)(Net(1, 1), stream(2, "x"))

    images, ids, wrong = got
    scenes, clear = pool.batch(stream(2, "x"), 6)
    assert images.shape == clear.shape
    assert images.std() < clear.std()  # some of it is blurred
    assert torch.equal(ids, text.token_ids(words, [scene.caption for scene in scenes]))
    assert (ids != wrong).any(dim=1).all()


@each_world
def test_an_exported_judge_scores_as_its_net_does(world, tmp_path):
    net = contrast.build(world).eval()
    drawn = world.draw(stream(1, "x"), 4, "held-out")
    images, captions = world.render(drawn, stream(1, "x"), 64), [scene.caption for scene in drawn]

    contrast.export(net, world, tmp_path)
    loaded = judge.load_judge(tmp_path)

    ids = text.token_ids(text.tokenizer(world), captions)
    with torch.no_grad():
        image = judge.image_unit(net, judge.to_tensor(images))
        words = judge.text_unit(net, ids)
    expected = (100 * (image * words).sum(dim=1)).clamp(min=0).numpy()
    assert loaded.clip_score(images, captions) == pytest.approx(expected, abs=0.1)  # float16
    assert loaded.scorer_name.startswith("zoo-judge-")
    assert np.linalg.norm(loaded.image_features(images), axis=1) == pytest.approx([1] * 4)
    assert loaded.fid_module()(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape == (2, 128)


@each_world
def test_a_judge_that_knows_its_captions_finds_the_right_one(world, monkeypatch):
    class Knowing:
        """Answers with the place of a scene in the order of the draw."""

        def image_features(self, images):
            return np.eye(len(images), dtype=np.float32)

        def text_features(self, captions):
            return np.eye(len(captions), dtype=np.float32)

    knowing = Knowing()
    assert contrast.retrieval_frac(knowing, world, stream(1, "x"), rounds=1) == 1
    monkeypatch.setattr(Knowing, "text_features", lambda _, c: np.eye(len(c))[::-1])
    assert contrast.retrieval_frac(knowing, world, stream(1, "x"), rounds=1) == 0
