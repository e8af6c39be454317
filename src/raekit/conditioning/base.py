"""What a backbone is told besides ``z_t`` and ``t``: the :class:`Cond` record, and the contract of its makers.

In: prompts or labels. Out: ``Cond`` and its null. A backbone reads ``Cond`` and never learns where it came from, so
class-conditional and text-conditional generators differ by one recipe line (Scale-RAE, section 3).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raekit.device import Precision


@dataclass(frozen=True)
class Cond:
    """One condition per sample; every field may be absent.

    Attributes:
        vector: ``[B, Z]``, one vector a sample (class labels).
        tokens: ``[B, N, Z]``, one vector a latent token, raster order (LLM queries).
        context: ``[B, L, Z]``, a sequence read in context (text tokens); conditions of different ``L`` can be joined.
        mask: ``[B, L]`` bool, true where ``context`` holds a token; there whenever ``context`` is.

    Raises:
        ValueError: one of ``context`` and ``mask`` without the other.
    """

    vector: Tensor | None = None
    tokens: Tensor | None = None
    context: Tensor | None = None
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.context is None) != (self.mask is None):
            raise ValueError("Cond: context and mask belong together")

    @property
    def size(self) -> int:
        """Number of samples ``B``.

        Raises:
            ValueError: every field is absent, so it is not known.
        """
        for value in (self.vector, self.tokens, self.context):
            if value is not None:
                return len(value)
        raise ValueError("Cond: it says nothing, not even of how many samples")

    def _map(self, function: Callable[[Tensor], Tensor]) -> Cond:
        return Cond(**{f.name: None if (v := getattr(self, f.name)) is None else function(v) for f in fields(self)})

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Cond:
        """A copy on another device; a dtype leaves the bool ``mask`` as it is."""
        return self._map(lambda value: value.to(device, dtype if value.is_floating_point() else None))

    def __getitem__(self, index: slice | Tensor) -> Cond:
        return self._map(lambda value: value[index])

    def padded(self, length: int) -> Cond:
        """This condition with a context of at least ``length`` words, those that are added masked out."""
        if self.context is None or self.mask is None or self.context.shape[1] >= length:
            return self
        missing = length - self.context.shape[1]
        return replace(self, context=F.pad(self.context, (0, 0, 0, missing)), mask=F.pad(self.mask, (0, missing)))

    def replace_where(self, drop: Tensor, null: Cond) -> Cond:
        """This condition with the rows where ``drop`` ``[B]`` (bool) is true taken from ``null``."""
        base, null = _alike([self, null])

        def choose(name: str) -> Tensor | None:
            kept, other = getattr(base, name), getattr(null, name)
            if kept is None:
                return None
            return torch.where(drop.view(-1, *[1] * (kept.ndim - 1)), other.to(kept.dtype), kept)

        return Cond(**{f.name: choose(f.name) for f in fields(self)})

    @staticmethod
    def cat(conds: Sequence[Cond]) -> Cond:
        """Several conditions as one batch (guidance runs cond and null together)."""
        alike = _alike(conds)

        def join(name: str) -> Tensor | None:
            values = [getattr(c, name) for c in alike]
            return None if values[0] is None else torch.cat([v.to(values[0].dtype) for v in values])

        return Cond(**{f.name: join(f.name) for f in fields(Cond)})


def _alike(conds: Sequence[Cond]) -> list[Cond]:
    """The conditions with contexts of one length, the longest one's."""
    longest = max(0 if c.context is None else c.context.shape[1] for c in conds)
    return [c.padded(longest) for c in conds]


class Conditioner(nn.Module, ABC):
    """Prompts or labels to :class:`Cond`; owns the null condition and the dropout towards it.

    Subclasses declare ``dropout`` (probability in [0, 1], training only) and ``width`` (``Z`` of their ``Cond``).

    Attributes:
        precision: of the products of a language model whose weights are held in fp32; a generator sets its own.
    """

    dropout: float
    width: int
    precision: Precision = "fp32"

    @property
    @abstractmethod
    def form(self) -> str:
        """What it tells the backbone, in words: how many vectors of what width."""

    @abstractmethod
    def forward(self, prompts: Sequence[str] | Tensor) -> Cond:
        """The condition of a batch of prompts (list of ``B`` strings) or labels (``[B]`` int64)."""

    @abstractmethod
    def null(self, batch_size: int) -> Cond:
        """The learned absence of a condition, for ``batch_size`` samples."""

    def drop(self, cond: Cond, uniform: Tensor) -> Cond:
        """Replace a sample's condition by the null where its ``uniform`` draw ``[B]`` falls below ``dropout``."""
        drop = uniform.to(next(self.parameters()).device) < self.dropout
        return cond.replace_where(drop, self.null(len(uniform)))
