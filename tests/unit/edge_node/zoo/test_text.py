"""What the zoo's words promise: one word, one token, a vocabulary a world."""

import torch
from transformers import PreTrainedTokenizerFast

from edge_node.zoo import text
from edge_node.zoo.worlds.builtin import OPEN, PLAIN, WORLDS

PAD, BEGIN, UNKNOWN, END = range(4)


def test_words_are_numbered_in_the_order_of_the_world_after_the_marks():
    words = text.tokenizer(PLAIN)
    first, second = PLAIN.words[:2]

    ids = text.token_ids(words, [f"{first} {second}", first])

    assert ids.dtype == torch.int64
    assert ids.shape == (2, 16)
    assert ids[0].tolist() == [BEGIN, 4, 5, END] + [PAD] * 12
    assert ids[1].tolist() == [BEGIN, 4, END] + [PAD] * 13


def test_marks_are_tokens_of_their_own():
    words = text.tokenizer(OPEN)

    found = words.convert_ids_to_tokens(words("a red ball, two blue rings; the")["input_ids"])

    said = ["a", "red", "ball", ",", "two", "blue", "rings", ";", "the"]
    assert found == ["<begin>", *said, "<end>"]


def test_the_other_worlds_words_are_unknown():
    ids = text.token_ids(text.tokenizer(PLAIN), ["a red star"])

    assert UNKNOWN in ids
    assert UNKNOWN not in text.token_ids(text.tokenizer(OPEN), ["a red star"])


def test_the_empty_caption_is_its_two_marks():
    for world in WORLDS.values():
        ids = text.token_ids(text.tokenizer(world), [""])
        assert ids[0].tolist() == [BEGIN, END] + [PAD] * (world.max_tokens - 2)


def test_too_long_a_caption_is_cut_to_what_the_encoder_takes():
    ids = text.token_ids(text.tokenizer(PLAIN), ["red " * 40])

    assert ids.shape == (1, 16)
    assert ids[0, [0, -1]].tolist() == [BEGIN, END]


def test_a_written_tokenizer_reads_the_same(tmp_path):
    text.tokenizer(OPEN).save_pretrained(tmp_path)
    caption = "two red stars, a blue ring and a green ball; the blue ring above the green ball"

    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)

    assert torch.equal(
        text.token_ids(again, [caption]), text.token_ids(text.tokenizer(OPEN), [caption])
    )


def test_the_encoder_takes_every_token_of_its_world():
    for world in WORLDS.values():
        ids = text.token_ids(text.tokenizer(world), [" ".join(world.words[-5:])])
        with torch.no_grad():
            hidden = text.encoder(world)(input_ids=ids).last_hidden_state
        assert hidden.shape == (1, world.max_tokens, text.WIDTH)
        assert hidden.isfinite().all()
