"""What a backbone is told besides ``z_t`` and ``t``: the :class:`Cond` record, and the contract of its makers.

In: prompts or labels. Out: ``Cond`` and its null. A backbone reads ``Cond`` and never learns where it came from, so
class-conditional and text-conditional generators differ by one recipe line (Scale-RAE, section 3).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Cond:
    """One condition per sample; every field may be absent.

    Attributes:
        vector: ``[B, Z]``, one vector a sample (class labels).
        tokens: ``[B, N, Z]``, one vector a latent token, raster order (LLM queries).
        context: ``[B, L, Z]``, a sequence read in context (text tokens).
        mask: ``[B, L]`` bool, true where ``context`` holds a token.
    """

    vector: Tensor | None = None
    tokens: Tensor | None = None
    context: Tensor | None = None
    mask: Tensor | None = None

    def _map(self, function: Callable[[Tensor], Tensor]) -> Cond:
        return Cond(**{f.name: None if (v := getattr(self, f.name)) is None else function(v) for f in fields(self)})

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Cond:
        """A copy on another device; a dtype leaves the bool ``mask`` as it is."""
        return self._map(lambda value: value.to(device, dtype if value.is_floating_point() else None))

    def __getitem__(self, index: slice | Tensor) -> Cond:
        return self._map(lambda value: value[index])

    def replace_where(self, drop: Tensor, null: Cond) -> Cond:
        """This condition with the rows where ``drop`` ``[B]`` (bool) is true taken from ``null``."""

        def choose(name: str) -> Tensor | None:
            kept, other = getattr(self, name), getattr(null, name)
            if kept is None:
                return None
            return torch.where(drop.view(-1, *[1] * (kept.ndim - 1)), other.to(kept.dtype), kept)

        return Cond(**{f.name: choose(f.name) for f in fields(self)})

    @staticmethod
    def cat(conds: Sequence[Cond]) -> Cond:
        """Several conditions as one batch (guidance runs cond and null together)."""

        def join(name: str) -> Tensor | None:
            values = [getattr(c, name) for c in conds]
            return None if values[0] is None else torch.cat([v.to(values[0].dtype) for v in values])

        return Cond(**{f.name: join(f.name) for f in fields(Cond)})


class Conditioner(nn.Module, ABC):
    """Prompts or labels to :class:`Cond`; owns the null condition and the dropout towards it.

    Subclasses declare ``dropout`` (probability in [0, 1], training only) and ``width`` (``Z`` of their ``Cond``).
    """

    dropout: float
    width: int

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
