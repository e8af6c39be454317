"""A language model part-way through several sequences: what it has read stays, as keys and values.

In: embedded words and pictures, piece by piece. Out: final states of each piece. The words that all rows begin with are
read once for all of them. A picture ends them, even under one question: where it comes first, as published, they are
few (15 of 294 tokens in the published layout). Rows of different length are padded between that beginning and the
rest, where a mask hides it, so that all of them end at the same place and the next word follows directly. The states
are those of reading each row by itself in one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from raekit.conditioning.prompt import padded
from raekit.errors import UserError

if TYPE_CHECKING:
    from raekit.multimodal.conditioner import UnifiedConditioner


class Session:
    """What a language model has read of ``B`` sequences.

    Args:
        conditioner: with the language model.
        batch_size: ``B``.

    Attributes:
        mask: ``[B, L]`` int64, 1 where something was read and 0 where a row was padded.
    """

    def __init__(self, conditioner: UnifiedConditioner, batch_size: int = 1) -> None:
        from transformers import DynamicCache

        self.conditioner = conditioner
        reader: Any = conditioner.reader
        self.cache = DynamicCache(config=reader.config)
        self.mask = torch.zeros(batch_size, 0, dtype=torch.int64, device=conditioner.queries.device)

    @torch.no_grad()
    def read(self, embeds: Tensor, mask: Tensor | None = None) -> Tensor:
        """States ``[B, L, H]`` of the next piece ``[B, L, H]``; ``mask`` ``[B, L]`` is 0 where it is padding.

        Raises:
            UserError: more than the language model was made to read.
        """
        added = embeds.shape[1]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(embeds), added) if mask is None else mask], dim=1)
        if self.mask.shape[1] > self.conditioner.max_length:
            raise UserError(
                f"prompt: with its pictures {self.mask.shape[1]} tokens long, and this language model reads "
                f"{self.conditioner.max_length}; say it more briefly, or with fewer pictures"
            )
        with self.conditioner.arithmetic():
            states: Tensor = self.conditioner.reader(
                inputs_embeds=embeds,
                attention_mask=self.mask,
                position_ids=(self.mask.cumsum(1) - 1).clamp(min=0)[:, -added:],
                past_key_values=self.cache,
                use_cache=True,
            ).last_hidden_state
        return states

    def repeat(self, count: int) -> None:
        """Have ``count`` of every sequence, to be continued differently."""
        self.cache.batch_repeat_interleave(count)
        self.mask = self.mask.repeat_interleave(count, dim=0)


@torch.no_grad()
def begin(
    conditioner: UnifiedConditioner, rows: Sequence[list[int]], shown: Tensor | None = None
) -> tuple[Session, Tensor]:
    """Read whole rows of ids.

    Args:
        conditioner: with the language model.
        rows: ids of ``B`` sequences, slots included.
        shown: tokens ``[M, N, D]`` of the pictures in them, in order.

    Returns:
        The session, and the states ``[B, L, H]`` of all but what the rows have in common. They end together: the state
        of a row's last id is the last.
    """
    device = conditioner.queries.device
    num_shared = shared_length(rows)
    session = Session(conditioner, 1 if num_shared else len(rows))
    if num_shared:
        session.read(conditioner.embed(torch.tensor([rows[0][:num_shared]], device=device)))
        session.repeat(len(rows))
    ids, mask = padded([row[num_shared:] for row in rows], "left", device)
    return session, session.read(conditioner.embed(ids, shown), mask)


def shared_length(rows: Sequence[list[int]]) -> int:
    """How many words all rows begin with; at least one id of each row is left over, and a picture is no word."""
    if len(rows) < 2:
        return 0
    shortest = min(len(row) for row in rows) - 1
    columns = zip(*(row[:shortest] for row in rows), strict=True)
    return sum(1 for _ in takewhile(lambda column: column[0] >= 0 and len(set(column)) == 1, columns))
