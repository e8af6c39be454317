"""What is cut, counted on networks of known sizes."""

from __future__ import annotations

import torch
from torch import nn

from raekit.training.parallel.placement import LARGE_LAYER
from raekit.training.planning.pieces import with_pieces
from raekit.training.planning.work import Work


class Network(nn.Module):
    """Two blocks, a table of words, and a small last layer."""

    def __init__(self, num_words: int) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words, 16)
        self.blocks = nn.ModuleList(nn.Linear(16, 16, bias=False) for _ in range(2))
        self.last = nn.Linear(16, 2, bias=False)


def test_blocks_and_large_tables_are_cut() -> None:
    with torch.device("meta"):
        small, large = Network(10), Network(LARGE_LAYER // 16)
    assert with_pieces(Work(5, 6), small) == Work(5, 6, block=256, ends=160 + 32)
    assert with_pieces(Work(5, 6), large) == Work(5, 6, block=LARGE_LAYER, ends=32)


def test_a_network_without_blocks_stays_whole() -> None:
    assert with_pieces(Work(5), nn.Linear(3, 3, bias=False)) == Work(5, ends=9)
