"""A pretrained language model that is read after it was cut: no process ever holds a whole copy of it.

In: a name or directory, as a recipe gives it. Out: first the network as an outline, without a number in it; then, once
``fully_shard`` has cut it, the same numbers that an ordinary load gives. Every process maps the model's safetensors
files, goes through them one weight at a time, and copies the rows that it holds; nothing is sent. Tables are computed
when the outline is built, since no file holds them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from raekit.conditioning.language_model import language_model_files, language_model_outline
from raekit.errors import UserError
from raekit.liveness import sign_of_life
from raekit.training.parallel.sharding import cut_like, piece

_log = logging.getLogger(__name__)


class Unread:
    """A language model without its numbers.

    Args:
        name: as the recipe has it, for sentences.
        model: the outline, a causal language model or a text encoder of transformers, untaught.
        tokenizer: of the same; words that it learns from now on (``multimodal.conditioner.teach``) get the mean of all
            others, as they would in a model that was read first.
        files: where each weight lies.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any, files: dict[str, Path]) -> None:
        self.name, self.model, self.tokenizer, self.files = name, model, tokenizer, files
        self._num_known = len(tokenizer)

    @classmethod
    def of(cls, name: str) -> Unread | None:
        """The outline of a language model in fp32; None where its files do not name their weights as transformers does.

        Raises:
            UserError: directory or model cannot be had.
        """
        files = language_model_files(name)
        with weights_left_out():
            model, tokenizer = language_model_outline(name, torch.float32)
        missing = [weight for weight, _ in model.named_parameters() if weight not in files]
        if missing:
            _log.warning("language model %r: no file of it has %s: every process reads it whole", name, missing[0])
            return None
        return cls(name, model, tokenizer, files)

    @torch.no_grad()
    def read(self, device: torch.device) -> None:
        """Give the outline, cut or not, its numbers, on a device.

        Raises:
            UserError: a weight of another shape.
        """
        tables = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        self.model.to_empty(device=device)
        for name, buffer in self.model.named_buffers():
            buffer.copy_(tables[name])
        self.model.tie_weights()
        is_taught = len(self.tokenizer) > self._num_known
        taught = {id(layer.weight) for layer in self._word_layers()} if is_taught else set()
        for name, parameter in self.model.named_parameters():
            with safe_open(self.files[name], framework="pt") as file:
                value = file.get_tensor(name)
            if id(parameter) in taught:
                value = self._with_taught(value.to(parameter.dtype), len(parameter))
            if value.shape != parameter.shape:
                raise UserError(
                    f"condition.language_model: {self.name!r} holds {name} as {list(value.shape)}, and its config says "
                    f"{list(parameter.shape)}; write train.parallel.strategy: ddp, or mend its config.json"
                )
            piece(parameter).copy_(piece(cut_like(value.to(parameter.device), parameter)))
            sign_of_life()

    def _word_layers(self) -> Iterator[Any]:
        """The table of words and the last layer, which have a row for each word."""
        layers = (self.model.get_input_embeddings(), self.model.get_output_embeddings())
        return (layer for layer in layers if layer is not None)

    def _with_taught(self, value: Tensor, num_rows: int) -> Tensor:
        known = value[: self._num_known]
        return torch.cat([known, known.mean(0, keepdim=True).expand(num_rows - len(known), -1)])


@contextmanager
def weights_left_out() -> Iterator[None]:
    """Weights of networks built meanwhile are outlines from the moment they are registered; buffers are as ever."""
    register = nn.Module.register_parameter

    def register_outline(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.to("meta"), parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = register_outline  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
