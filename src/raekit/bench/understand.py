"""What answering costs: reading the question, and every word of the answer, with what was read kept or read again.

In: a unified generator. Out: two :class:`AnswerReport` of the same questions about pictures of noise: with keys and
values kept, as ``raekit understand`` answers, and without, where each word reads everything before it anew. Every
answer has as many words as are asked for, whatever the model would say.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from raekit import cost
from raekit.bench.report import BenchReport
from raekit.bench.step import device_name, matmul_speed
from raekit.conditioning.prompt import padded
from raekit.generate import ImageGenerator
from raekit.multimodal.conditioner import UnifiedConditioner
from raekit.multimodal.unified import UnifiedModel, asked
from raekit.multimodal.writing import Choose, likeliest, write

QUESTION = "What is in this picture, and what colour is it?"
NEVER = (-1,)
"""Ids that end an answer: none, so that all are equally long."""

Write = Callable[[Tensor, Choose], object]
"""Answers, of the tokens of the pictures and how each word is chosen."""


@dataclass(frozen=True)
class AnswerReport(BenchReport):
    """Speed of answering; its tokens are those that were written.

    Attributes:
        word_seconds: of each word after the first, of all answers of the call together.
    """

    word_seconds: float = 0.0

    def rows(self) -> list[tuple[str, str]]:
        rows = super().rows()
        rows.insert(3, ("a further word", f"{self.word_seconds * 1e3:9.2f} ms for all {self.count} answers"))
        return rows


@torch.no_grad()
def bench_understand(
    generator: ImageGenerator, num: int = 8, num_words: int = 32, question: str = QUESTION, repeats: int = 3
) -> tuple[AnswerReport, AnswerReport]:
    """Time answering with keys and values kept, and without.

    Args:
        generator: a unified model.
        num: questions answered together, each about a picture.
        num_words: tokens of each answer, 2 or more.
        question: what is asked of each picture.
        repeats: timed calls of each.

    Raises:
        UserError: a generator that only reads, or more than its language model reads.
    """
    model = UnifiedModel.of(generator)
    rows = [model.chat.prompt([asked(question)])] * num
    conditioner, size = model.conditioner, model.latent_space.output_size if model.eye is None else model.eye.input_size
    images = torch.rand(num, 3, size, size, generator=torch.Generator().manual_seed(0))
    ways: dict[str, Write] = {
        "keys and values kept": lambda shown, choose: write(conditioner, rows, num_words, shown, NEVER, choose),
        "read again for each word": lambda shown, choose: write_anew(conditioner, rows, num_words, shown, choose),
    }
    kept, again = (
        _measured(model, images, way, repeats, f"{num} x {len(rows[0])} tokens read, {num_words} written, {name}")
        for name, way in ways.items()
    )
    return kept, again


@torch.no_grad()
def write_anew(
    conditioner: UnifiedConditioner,
    rows: Sequence[list[int]],
    num_words: int,
    shown: Tensor | None = None,
    choose: Choose = likeliest,
) -> list[list[int]]:
    """The ids that follow rows of ids, as :func:`~raekit.multimodal.writing.write` gives them with nothing that ends a
    row, but with every row read from its beginning for every word: what keeping keys and values is measured against.

    Args:
        conditioner: with the language model.
        rows: ids of ``B`` sequences, slots included.
        num_words: ids to add to each.
        shown: tokens ``[M, N, D]`` of the pictures in the rows, in order.
        choose: which word is taken.
    """
    device, written = conditioner.queries.device, [list(row) for row in rows]
    for _ in range(num_words):
        ids, mask = padded(written, "right", device)
        states = conditioner.read(conditioner.embed(ids, shown))
        last = states[torch.arange(len(rows), device=device), mask.sum(1) - 1]
        for row, taken in zip(written, choose(conditioner.logits(last)).tolist(), strict=True):
            row.append(taken)
    return [row[len(start) :] for row, start in zip(written, rows, strict=True)]


def _measured(model: UnifiedModel, images: Tensor, way: Write, repeats: int, name: str) -> AnswerReport:
    """The report on one way of writing."""
    device, reader = model.conditioner.queries.device, model.conditioner.reader
    cost.forget_peak(device)
    flops = cost.count_flops(lambda: way(model.look(images=images), likeliest), device)  # and warms everything up
    laps = [_lap(model, images, way) for _ in range(repeats)]
    num_words = len(laps[0]) - 2
    spans = [(ticks[0], ticks[1] - ticks[0], ticks[-1] - ticks[1], ticks[-1]) for ticks in laps]
    looking, reading, writing, whole = map(statistics.median, zip(*spans, strict=True))
    precision = "bf16" if next(reader.parameters()).dtype == torch.bfloat16 else "fp32"
    return AnswerReport(
        name=name,
        device=device_name(device),
        precision=precision,
        count=len(images),
        call_seconds=whole,
        call_flops=flops,
        matmul_tflops=matmul_speed(device, precision),
        peak_bytes=cost.peak_bytes(device),
        part_seconds={"looking": looking, "first word": reading, "further words": writing},
        unit="answer",
        tokens=len(images) * num_words,
        word_seconds=writing / (num_words - 1),
    )


def _lap(model: UnifiedModel, images: Tensor, way: Write) -> list[float]:
    """Seconds from the start until the pictures are seen, until each word is chosen, and until the end."""
    device, ticks = model.conditioner.queries.device, list[float]()

    def tick() -> None:
        cost.wait(device)
        ticks.append(perf_counter() - start)

    def choose(logits: Tensor) -> Any:
        taken = likeliest(logits)
        tick()
        return taken

    cost.wait(device)
    start = perf_counter()
    shown = model.look(images=images)
    tick()
    way(shown, choose)
    tick()
    return ticks
