"""The zoo's tokenizers and text encoders: one word, one token, a vocabulary a world."""

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from edge_node.zoo.worlds.interface import World

WIDTH = 128
_SPECIAL = ("<pad>", "<begin>", "<unknown>", "<end>")


def tokenizer(world: World[Any]) -> PreTrainedTokenizerFast:
    """Return the word-level tokenizer of a world's captions; other words are unknown."""
    vocabulary = {word: index for index, word in enumerate((*_SPECIAL, *world.words))}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unknown>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(
        single="<begin> $A <end>",
        special_tokens=[("<begin>", vocabulary["<begin>"]), ("<end>", vocabulary["<end>"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<begin>",
        eos_token="<end>",
        unk_token="<unknown>",
        pad_token="<pad>",
        model_max_length=world.max_tokens,
    )


def text_config(world: World[Any], num_layers: int, width: int = WIDTH) -> CLIPTextConfig:
    """Return the configuration of a text tower over a world's vocabulary."""
    return CLIPTextConfig(
        vocab_size=len(_SPECIAL) + len(world.words),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        max_position_embeddings=world.max_tokens,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=3,
    )


def encoder(world: World[Any]) -> CLIPTextModel:
    """Return the untrained text encoder of a world's pipelines."""
    return CLIPTextModel(text_config(world, num_layers=3))


def token_ids(words: PreTrainedTokenizerBase, captions: Sequence[str]) -> Tensor:
    """Return captions as int64 [n, its longest], padded."""
    ids: Tensor = words([*captions], padding="max_length", truncation=True, return_tensors="pt")[
        "input_ids"
    ]
    return ids
