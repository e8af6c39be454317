"""A language model of 20 thousand random weights and a tokenizer of bytes: built in an instant, without a network."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5EncoderModel,
)

HIDDEN = 32
SIZES: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": HIDDEN,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    # Larger than usual, so that random attention is far from uniform and every dependence shows.
    "initializer_range": 0.3,
}

Model = TypeVar("Model", bound=torch.nn.Module)


def build_model(seed: int = 0) -> LlamaForCausalLM:
    return _seeded(lambda: LlamaForCausalLM(LlamaConfig(**SIZES, max_position_embeddings=512)), seed)


def build_encoder() -> T5EncoderModel:
    """A text encoder as small, which reads in both directions."""
    config = T5Config(
        vocab_size=256, d_model=HIDDEN, d_kv=8, d_ff=64, num_layers=2, num_heads=4, initializer_factor=3.0
    )
    return _seeded(lambda: T5EncoderModel(config), 0)


def build_qwen2(seed: int = 0, **settings: Any) -> Qwen2ForCausalLM:
    """A model of the family that Scale-RAE trains, as small."""
    return _seeded(lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, **settings)), seed)


def _seeded(build: Callable[[], Model], seed: int) -> Model:
    """What ``build`` makes with the random numbers of a seed; the generator of the process stays where it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().eval()


def build_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@cache
def saved(folder: Path, seed: int = 0) -> str:
    """The directory below ``folder`` where model and tokenizer lie in Hugging Face layout."""
    target = folder / f"tiny_{seed}"
    build_model(seed).save_pretrained(target)
    build_tokenizer().save_pretrained(target)
    return str(target)


def saved_qwen2(folder: Path) -> str:
    """As :func:`saved`, the model of :func:`build_qwen2`."""
    target = folder / "tiny_qwen2"
    build_qwen2().save_pretrained(target)
    build_tokenizer().save_pretrained(target)
    return str(target)


def saved_encoder(folder: Path) -> str:
    """As :func:`saved`, the text encoder of :func:`build_encoder`."""
    target = folder / "tiny_encoder"
    build_encoder().save_pretrained(target)
    build_tokenizer().save_pretrained(target)
    return str(target)
