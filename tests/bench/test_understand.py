"""Answers are the same words with keys and values kept and without, alone and together; what that saves is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_generator
from raekit.bench.understand import NEVER, bench_understand, write_anew
from raekit.errors import UserError
from raekit.multimodal.chat import CONTEXT
from raekit.multimodal.writing import write
from tiny_unified import conditioner

ROWS = [[1, 2, 3, *[CONTEXT] * 16, 4, 5, 6, 7], [1, 2, 3, *[CONTEXT] * 16, 9]]
SHOWN = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(0))


def test_words_do_not_depend_on_what_is_kept_nor_on_the_batch() -> None:
    own = conditioner()
    together = write_anew(own, ROWS, 6, SHOWN)
    assert write(own, ROWS, 6, SHOWN, NEVER).ids == together
    for row, shown, expected in zip(ROWS, SHOWN, together, strict=True):
        assert len(expected) == 6
        assert write_anew(own, [row], 6, shown[None]) == [expected]
        assert write(own, [row], 6, shown[None], NEVER).ids == [expected]


def test_both_ways_are_timed_and_keeping_saves_operations(tmp_path: Path) -> None:
    generator = tiny_generator.unified(tmp_path)
    kept, again = bench_understand(generator, num=2, num_words=4, repeats=1)
    for report in (kept, again):
        assert set(report.part_seconds) == {"looking", "first word", "further words"}
        assert min(report.part_seconds.values()) > 0 and report.word_seconds > 0
        assert (report.unit, report.count, report.tokens) == ("answer", 2, 8)
        assert dict(report.rows())["a further word"].endswith("for all 2 answers")
    assert kept.call_flops < 0.5 * again.call_flops
    assert kept.as_json()["word_seconds"] == kept.word_seconds


def test_a_generator_that_only_reads(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="which only reads text prompts"):
        bench_understand(tiny_generator.text_to_image(tmp_path))
