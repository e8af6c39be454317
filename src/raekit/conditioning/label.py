"""Class labels to one vector each: the condition of the class-conditional generators (RAE, section 4).

In: labels ``[B]`` int64. Out: ``Cond(vector=[B, Z])``. One table holds a row per class and, last, the null condition.

Interop: ``table.weight`` ``[num_classes + 1, Z]`` is ``y_embedder.embedding_table.weight`` of the published DiT
checkpoints, row for row.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from raekit import config as recipes
from raekit.conditioning.base import Cond, Conditioner
from raekit.device import sent
from raekit.errors import UserError

NUM_NEAREST = 3
"""Names that are suggested in place of one that is not known."""


class LabelConditioner(Conditioner):
    """A learned vector per class.

    Args:
        config: the settings.
        num_tokens: latent tokens per image; part of every conditioner's signature, though a label needs none of it.
    """

    class Config(recipes.Config):
        """Settings of the class condition."""

        name: Literal["label"] = "label"
        num_classes: int = Field(1000, ge=1)
        """Number of classes K; labels are 0 .. K-1 and K is the null condition."""
        width: int = Field(1152, ge=1)
        """Width Z of the vectors; a DiT of the published kind takes its own width."""
        dropout: float = Field(0.1, ge=0.0, le=1.0)
        """Probability in [0, 1] that a training sample's label is replaced by the null condition."""
        names: tuple[str, ...] = ()
        """What the classes are called, in the order of their labels, so that a prompt may be a name; none: by label."""

        @model_validator(mode="after")
        def _names_fit(self) -> LabelConditioner.Config:
            if self.names and len(set(map(_plain, self.names))) != self.num_classes:
                raise ValueError(f"names: {len(self.names)} for {self.num_classes} classes; give each class its own")
            return self

    def __init__(self, config: Config, *, num_tokens: int | None = None) -> None:
        super().__init__()
        self.num_classes, self.names = config.num_classes, config.names
        self.width = config.width
        self.dropout = config.dropout
        self.table = nn.Embedding(config.num_classes + 1, config.width)
        nn.init.normal_(self.table.weight, std=0.02)

    @property
    def form(self) -> str:
        return f"one vector x {self.width}"

    def forward(self, prompts: Sequence[str] | Tensor) -> Cond:
        """``Cond(vector=[B, Z])`` of labels ``[B]`` int64 in [0, num_classes).

        Raises:
            UserError: a label in host memory is out of range (one on a GPU would have to be waited for), or text was
                given.
        """
        if not isinstance(prompts, Tensor):
            raise UserError(f"condition: this model takes class labels 0..{self.num_classes - 1}, not text prompts")
        is_known = (prompts >= 0) & (prompts < self.num_classes)
        if prompts.device.type == "cpu" and not bool(is_known.all()):
            wrong = int(prompts[~is_known][0])
            raise UserError(f"label: {wrong} is not a class of this model; give one in 0..{self.num_classes - 1}")
        return Cond(vector=self.table(sent(prompts, self.table.weight.device)))

    def label_of(self, prompt: object) -> int:
        """The label of a class given by label or by name.

        Raises:
            UserError: no such class; the nearest names are told.
        """
        known = {_plain(name): label for label, name in enumerate(self.names)}
        text = _plain(str(prompt))
        if text in known:
            return known[text]
        if text.isdecimal() and int(text) < self.num_classes:
            return int(text)
        named = ""
        if self.names:
            near = [self.names[known[name]] for name in get_close_matches(text, known, NUM_NEAREST, cutoff=0.5)]
            named = f", or a name such as {', '.join(map(repr, near or self.names[:NUM_NEAREST]))}"
        raise UserError(f"label: {prompt!r} is not a class of this model; give one in 0..{self.num_classes - 1}{named}")

    def null(self, batch_size: int) -> Cond:
        """The table's last row, ``[batch_size, Z]``."""
        return Cond(vector=self.table(torch.full((batch_size,), self.num_classes, device=self.table.weight.device)))


def _plain(name: str) -> str:
    """A name as it is compared: capitals, and spaces or underscores, make no difference."""
    return " ".join(name.replace("_", " ").casefold().split())
