"""What is remembered of texts is bounded by bytes; the one not asked for longest goes first."""

import torch

from edge_node.engine import denoising
from edge_node.engine.stepping.texts import EncodedTexts
from tests.fake_family import FakeFamily, fake_model


def encoded(num_bytes: int):
    return {"encoder_hidden_states": torch.zeros(1, num_bytes, dtype=torch.uint8)}


def test_the_one_not_asked_for_longest_is_forgotten_first():
    texts = EncodedTexts(most_bytes=30)
    for name in "abc":
        texts.add(name, encoded(10))

    assert texts.get("a") is not None
    texts.add("d", encoded(10))

    assert list(texts) == ["c", "a", "d"]
    assert texts.get("b") is None


def test_a_large_one_takes_the_place_of_several_and_one_too_large_is_not_kept():
    texts = EncodedTexts(most_bytes=30)
    for name in "abc":
        texts.add(name, encoded(10))

    texts.add("large", encoded(20))
    assert list(texts) == ["c", "large"]
    texts.add("c", encoded(5))  # again: its old bytes are given back
    texts.add("e", encoded(5))
    assert list(texts) == ["large", "c", "e"]

    texts.add("too large", encoded(31))
    assert list(texts) == []


def test_nothing_stays_when_it_is_cleared():
    texts = EncodedTexts(most_bytes=30)
    texts.add("a", encoded(30))

    texts.clear()
    texts.add("b", encoded(30))

    assert list(texts) == ["b"]


def test_a_text_is_encoded_once_and_its_memory_is_its_own():
    calls = []
    model = fake_model(FakeFamily(before=lambda name, held: calls.append((name, held))))

    first = denoising.encode(model, ["", "a red circle", "a blue square"])
    second = denoising.encode(model, ["green", ""])

    assert calls == [("encode", ["", "a red circle", "a blue square"]), ("encode", ["green"])]
    assert second[""] is first[""]
    for own in first.values():
        tensor = own["encoder_hidden_states"]
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
