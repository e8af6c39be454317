"""The language model of a Scale-RAE checkpoint: taken whole, written as transformers reads it, asked what it says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

import tiny_published
from raekit.conditioning.language_model import load_language_model
from raekit.errors import UserError
from raekit.interop.ledger import Ledger
from raekit.interop.scale_rae_language import (
    EMBEDDING,
    HEAD,
    TIED,
    Reply,
    check_tokenizer,
    reply_of,
    take_language_model,
    write_language_model,
)
from tiny_published import LM_DEPTH, SPECIALS, same, scale_rae_config


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return tiny_published.scale_rae_model()


def take(tensors: dict[str, Tensor], **changes: object) -> tuple[dict[str, Tensor], Ledger]:
    ledger = Ledger(tensors, "weights")
    return take_language_model(ledger, scale_rae_config(**changes)), ledger


def test_every_weight_of_it_is_taken(tensors: dict[str, Tensor]) -> None:
    taken, _ = take(tensors)
    rest = ("model.latent_queries", "model.mm_projector.", "diff_head")
    assert same(taken, {key: value for key, value in tensors.items() if not key.startswith(rest)})
    assert len(taken) == 2 + 12 * LM_DEPTH


@pytest.mark.parametrize(("change", "reason"), [(0.0, TIED), (1.0, f"differs from {EMBEDDING}")])
def test_a_tied_output_is_not_used(tensors: dict[str, Tensor], change: float, reason: str) -> None:
    """As transformers would; whether that loses anything is said."""
    taken, ledger = take(tensors | {HEAD: tensors[EMBEDDING] + change})
    assert HEAD not in taken and ledger.left_out[HEAD].startswith(reason)


def test_an_output_of_its_own_is_taken(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="1 missing .lm_head.weight"):
        take(tensors, tie_word_embeddings=False)
    taken, _ = take(tensors | {HEAD: tensors[EMBEDDING] + 1}, tie_word_embeddings=False)
    assert HEAD in taken


@pytest.mark.parametrize(
    ("key", "changes", "sentence"),
    [
        ("model.layers.1.mlp.up_proj.weight", {}, r"1 missing \(model.layers.1.mlp.up_proj.weight\)"),
        ("model.norm.weight", {}, "model.norm.weight"),
        (None, {"num_hidden_layers": 3}, "num_hidden_layers is 3 in config.json, 2 in the weights"),
        (None, {"hidden_size": 32}, "hidden_size is 32 in config.json, 24 in the weights"),
    ],
)
def test_what_does_not_fit(tensors: dict[str, Tensor], key: str | None, changes: dict, sentence: str) -> None:
    tensors.pop(key, None)
    with pytest.raises(UserError, match=sentence):
        take(tensors, **changes)


def test_it_is_loaded_with_the_same_weights(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    source = tiny_published.save_scale_rae(tmp_path / "published", tensors)
    half = {key: value.bfloat16() for key, value in take(tensors)[0].items()}
    write_language_model(half, scale_rae_config(), source, tmp_path / "model")
    model, tokenizer = load_language_model(tmp_path / "model", torch.bfloat16)
    assert isinstance(model, Qwen2ForCausalLM)
    state = model.state_dict()
    assert same({key: state[key] for key in half}, half)
    assert tokenizer.convert_tokens_to_ids(list(SPECIALS)) == list(SPECIALS.values())
    assert tokenizer("red<im_start>")["input_ids"][-1] == SPECIALS["<im_start>"]


def test_a_tokenizer_is_needed(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no tokenizer; copy added_tokens.json, "):
        write_language_model(take(tensors)[0], scale_rae_config(), tmp_path, tmp_path / "model")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Qwen2ForCausalLM, Any]:
    tensors, folder = tiny_published.scale_rae_model(), tmp_path_factory.mktemp("language")
    source = tiny_published.save_scale_rae(folder / "published", tensors)
    write_language_model(take(tensors)[0], scale_rae_config(), source, folder / "model")
    return load_language_model(folder / "model", torch.float32)


def test_a_tokenizer_of_another_model_is_refused(loaded: tuple[Qwen2ForCausalLM, Any]) -> None:
    _, tokenizer = loaded
    check_tokenizer(tokenizer, 283, "weights")
    with pytest.raises(UserError, match=r"weights: its tokenizer has no <im_start> among the 281 rows"):
        check_tokenizer(tokenizer, 281, "weights")


@contextmanager
def scripted(model: Qwen2ForCausalLM, answer: list[int]) -> Iterator[Qwen2ForCausalLM]:
    """The model with a last layer that says ``answer``, one token a call, over and over."""
    words = cycle(answer)

    def say(module: object, inputs: object, output: Tensor) -> Tensor:
        logits = torch.zeros_like(output)
        logits[..., next(words)] = 1
        return logits

    hook = model.lm_head.register_forward_hook(say)
    yield model
    hook.remove()


@pytest.mark.parametrize(
    ("answer", "reply", "note"),
    [
        ([281], "", "'', as it answers"),
        ([39, 72, 281], "Hi", "'Hi', as it answers"),
        ([39, 278, 72, 281], "i", "'i', as it answers"),
        ([39, 281, 72, 281], None, "it varies: 'H', 'i'"),
        ([39, 278], "", "none: it came to no <im_start> within 64 tokens"),
        ([39], "", "none: it came to no <im_start>"),
    ],
)
def test_what_it_says_before_a_picture(
    loaded: tuple[Qwen2ForCausalLM, Any], answer: list[int], reply: str | None, note: str
) -> None:
    with scripted(loaded[0], answer) as model:
        found = reply_of(model, loaded[1])
    assert found.own == reply and found.note.startswith(note)
    assert found.text == ("H" if reply is None else reply)


def test_a_reply_may_be_stated() -> None:
    stated = Reply(("Here:",), is_stated=True)
    assert (stated.own, stated.text, stated.note) == ("Here:", "Here:", "'Here:', as stated")
