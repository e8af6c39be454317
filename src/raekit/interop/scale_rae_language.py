"""The language model inside a Scale-RAE checkpoint, as a directory of transformers, and what it says before it draws.

In: tensors by Qwen2's own names and the published ``config.json``. Out: ``config.json``, ``model.safetensors`` and the
tokenizer's files, as ``from_pretrained`` reads them; and the text that stands between prompt and picture.

The released model writes its answer word by word until it comes to ``<im_start>``, where a picture begins (Scale-RAE
memo, sections 2.2 and 8.1). It was taught one such answer, so it is asked for it here, once: the queries then stand
where they stood in training, without a model that first has to write.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from raekit.checkpoint import name_some
from raekit.conditioning.prompt import TEMPLATES
from raekit.errors import UserError
from raekit.interop.decoder import CONFIG_FILE
from raekit.interop.ledger import Ledger

WEIGHTS_FILE = "model.safetensors"
PICTURE_TOKEN = "<im_start>"
"""Starts a picture; not Qwen's ``<|im_start|>``, which starts a turn."""
TURN_END = "<|im_end|>"

TRIAL_PROMPTS = ("a red apple", "Can you generate a photo of a dog on a beach?")
MAX_REPLY_TOKENS = 64
"""Longest answer before a picture; the one of the training data has a handful."""

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
TIED = "the same as model.embed_tokens.weight, with which the config ties it"
LAYER = (
    *(f"self_attn.{part}_proj.{kind}" for part in "qkv" for kind in ("weight", "bias")),
    "self_attn.o_proj.weight",
    *(f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")),
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
)
"""Weights of one layer of Qwen2."""

SETTINGS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "rope_theta",
    "attention_dropout",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
"""Fields of ``config.json`` that are Qwen2's; ``rope_scaling`` is not, since the published model sets it to none."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def take_language_model(ledger: Ledger, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The language model's tensors, by their own names; they count as loaded.

    Where the config ties output to input the output matrix is left out, as transformers would (the report says whether
    it was the same).

    Raises:
        UserError: a layer's tensors are missing, or the config and the weights disagree.
    """
    depth = len({key.split(".")[2] for key in ledger.tensors if key.startswith("model.layers.")})
    layers = [f"model.layers.{i}.{part}" for i in range(depth) for part in LAYER]
    is_tied = bool(settings.get("tie_word_embeddings", False))
    if is_tied and HEAD in ledger.tensors and EMBEDDING in ledger.tensors:
        is_same = torch.equal(ledger.tensors[HEAD], ledger.tensors[EMBEDDING])
        ledger.leave_out(HEAD, TIED if is_same else f"differs from {EMBEDDING}, but the config ties them: not used")
    tensors = ledger.take([EMBEDDING, *layers, "model.norm.weight", *([] if is_tied else [HEAD])])
    _agree("num_hidden_layers", settings.get("num_hidden_layers"), depth, ledger.source)
    _agree("hidden_size", settings.get("hidden_size"), tensors[EMBEDDING].shape[1], ledger.source)
    return tensors


def write_language_model(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], source: Path, target: Path
) -> None:
    """A directory of transformers at ``target``.

    Args:
        tensors: from :func:`take_language_model`.
        settings: the published ``config.json``.
        source: the directory with the tokenizer's files.
        target: made.

    Raises:
        UserError: no tokenizer there.
    """
    from transformers import Qwen2Config

    files = [source / name for name in TOKENIZER_FILES if (source / name).is_file()]
    if not {path.name for path in files} & {"tokenizer.json", "vocab.json"}:
        raise UserError(
            f"convert: {str(source)!r} has no tokenizer; copy {name_some(TOKENIZER_FILES)} of the release there"
        )
    stated = {key: settings[key] for key in SETTINGS if key in settings}
    config = Qwen2Config(**stated, vocab_size=tensors[EMBEDDING].shape[0], architectures=["Qwen2ForCausalLM"])
    config.dtype = tensors[EMBEDDING].dtype
    target.mkdir(parents=True)
    config.save_pretrained(target)
    save_file({key: value.contiguous() for key, value in tensors.items()}, target / WEIGHTS_FILE, {"format": "pt"})
    for path in files:
        shutil.copyfile(path, target / path.name)


def check_tokenizer(tokenizer: Any, num_rows: int, source: str) -> None:
    """Raise UserError unless the tokenizer knows the picture token and fits the embedding's rows."""
    picture = tokenizer.convert_tokens_to_ids(PICTURE_TOKEN)
    if picture is None or picture == tokenizer.unk_token_id or not 0 <= picture < num_rows:
        raise UserError(
            f"{source}: its tokenizer has no {PICTURE_TOKEN} among the {num_rows} rows of {EMBEDDING}; copy the "
            f"tokenizer files of this very model beside it ({CONFIG_FILE} alone does not do)"
        )


@dataclass(frozen=True)
class Reply:
    """What a model says before a picture.

    Attributes:
        found: to each of the prompts it was asked to draw; None where it came to no picture.
        is_stated: it was not asked, somebody said so.
    """

    found: tuple[str | None, ...]
    is_stated: bool = False

    @property
    def text(self) -> str:
        """What to write in its place."""
        return next((reply for reply in self.found if reply is not None), "")

    @property
    def own(self) -> str | None:
        """As :attr:`text`; None where it depends on the prompt, and the model had better write its own."""
        return None if len(set(self.found) - {None}) > 1 else self.text

    @property
    def note(self) -> str:
        """For the report."""
        if self.is_stated:
            return f"{self.text!r}, as stated"
        if set(self.found) == {None}:
            return f"none: it came to no {PICTURE_TOKEN} within {MAX_REPLY_TOKENS} tokens"
        if self.own is None:
            return f"it varies: {', '.join(map(repr, self.found))}"
        return f"{self.text!r}, as it answers"


@torch.no_grad()
def reply_of(model: Any, tokenizer: Any) -> Reply:
    """What the model writes before a picture, asked for two.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
    """
    return Reply(tuple(_reply_to(prompt, model, tokenizer) for prompt in TRIAL_PROMPTS))


def _reply_to(prompt: str, model: Any, tokenizer: Any) -> str | None:
    """The model's own words up to the start of a picture, the likeliest token each time; None if it starts none."""
    ids = torch.tensor([tokenizer(TEMPLATES["chatml"].replace("{prompt}", prompt))["input_ids"]])
    picture, end = tokenizer.convert_tokens_to_ids([PICTURE_TOKEN, TURN_END])
    words: list[int] = []
    cache = None
    for _ in range(MAX_REPLY_TOKENS):
        output = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache, token = output.past_key_values, int(output.logits[0, -1].argmax())
        if token == picture:
            return str(tokenizer.decode(words))
        if token == end:
            return None
        words.append(token)
        ids = torch.tensor([[token]])
    return None


def _agree(field: str, stated: int | None, found: int, source: str) -> None:
    if stated is not None and stated != found:
        raise UserError(f"{source}: {field} is {stated} in {CONFIG_FILE}, {found} in the weights; copy both again")
