import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessorPil

from edge_node.zoo import text
from edge_node.zoo.training import contrast
from edge_node.zoo.worlds.builtin import PLAIN
from profiling.quality import clip_score


def test_hand_computed_cosines():
    image = np.array([[3.0, 4.0], [1.0, 0.0], [1.0, 0.0]])
    words = np.array([[4.0, 3.0], [0.0, 2.0], [-1.0, 0.0]])

    found = clip_score.cosine_score(image, words)

    assert found == pytest.approx([96.0, 0.0, 0.0])  # 100·24/25; orthogonal; opposite, floored


def test_images_and_texts_must_pair_up():
    with pytest.raises(ValueError, match="one text for each image"):
        clip_score.cosine_score(np.zeros((2, 3)), np.zeros((1, 3)))


def test_a_clip_folder_scores_as_its_net_does(tmp_path):
    net, generator = contrast.build(PLAIN).eval(), torch.Generator().manual_seed(0)
    for weights in net.parameters():
        weights.data.normal_(std=0.1, generator=generator)
    net.save_pretrained(tmp_path)
    text.tokenizer(PLAIN).save_pretrained(tmp_path)
    pixels = CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=64)
    pixels.save_pretrained(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    prompts = ["a red circle left of a blue square", "a small green ring", "a large cross"]

    found = clip_score.pretrained(str(tmp_path), "cpu")(images, prompts)

    with torch.inference_mode():
        inputs = pixels(list(images), return_tensors="pt")
        seen = net.visual_projection(net.vision_model(**inputs).pooler_output)
        words = text.tokenizer(PLAIN)(prompts, padding=True, return_tensors="pt")
        read = net.text_projection(net.text_model(**words).pooler_output)
    expected = 100 * torch.nn.functional.cosine_similarity(seen, read)
    assert found == pytest.approx(expected.clamp(min=0).numpy(), abs=1e-3)
    assert found.max() > 1  # the floor at 0 must not decide this test
