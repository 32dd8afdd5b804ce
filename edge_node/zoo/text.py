"""The zoo's tokenizer and text encoder: one word, one token."""

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from edge_node.zoo import scenes

MAX_TOKENS = 16
"""The longest caption has 12 words; the begin and end marks make 14."""
WIDTH = 128
_SPECIAL = ("<pad>", "<begin>", "<unknown>", "<end>")


def tokenizer() -> PreTrainedTokenizerFast:
    """Return the word-level tokenizer of the zoo's captions."""
    vocabulary = {word: index for index, word in enumerate((*_SPECIAL, *scenes.words()))}
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
        model_max_length=MAX_TOKENS,
    )


def text_config(num_layers: int, width: int = WIDTH) -> CLIPTextConfig:
    """Return the configuration of a text tower over the zoo's vocabulary."""
    return CLIPTextConfig(
        vocab_size=len(_SPECIAL) + len(scenes.words()),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=3,
    )


def encoder() -> CLIPTextModel:
    """Return the untrained text encoder of the zoo's pipelines."""
    return CLIPTextModel(text_config(num_layers=3))


def token_ids(captions: list[str]) -> Tensor:
    """Return captions as int64 [n, MAX_TOKENS], padded."""
    rows = tokenizer()(captions, padding="max_length", truncation=True, max_length=MAX_TOKENS)
    return torch.tensor(rows["input_ids"])
