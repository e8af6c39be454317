"""One batch ahead: the same pairs as without, in the same order, and nothing left running."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import tiny_encoders
from raekit.encoders.ahead import _map_tensors, encode_ahead


@dataclass(frozen=True)
class Pictures:
    image: Tensor
    captions: list[str]
    labels: Tensor | None = None


class Pair(NamedTuple):
    first: Tensor
    second: str


def batches(count: int = 4) -> Iterator[Pictures]:
    generator = torch.Generator().manual_seed(0)
    for index in range(count):
        yield Pictures(torch.rand(2, 3, 32, 32, generator=generator), [f"{index}"] * 2)


def num_workers() -> int:
    return sum(thread.name.startswith("encode-ahead") for thread in threading.enumerate())


def test_gives_what_the_encoder_gives(tmp_path: Path) -> None:
    encoder = tiny_encoders.build("siglip2", tmp_path)
    pairs = list(encode_ahead(batches(), lambda batch: encoder(batch.image), "cpu"))
    assert [batch.captions[0] for batch, _ in pairs] == ["0", "1", "2", "3"]
    for plain, (batch, tokens) in zip(batches(), pairs, strict=True):
        assert torch.equal(batch.image, plain.image)
        assert torch.equal(tokens, encoder(plain.image))
    assert num_workers() == 0


def test_one_encoder_serves_both_threads(tmp_path: Path) -> None:
    """The caller may use the encoder, with gradients, while the thread encodes with it."""
    encoder = tiny_encoders.build("siglip2", tmp_path)
    for batch, tokens in encode_ahead(batches(8), lambda batch: encoder(batch.image), "cpu"):
        image = batch.image.clone().requires_grad_()
        features = encoder.features(image)
        assert torch.equal(features, tokens) and not tokens.requires_grad
        features.sum().backward()


def test_the_next_batch_is_encoded_before_the_caller_asks() -> None:
    second = threading.Event()

    def start(batch: Pictures) -> None:
        if batch.captions[0] == "1":
            second.set()

    pairs = encode_ahead(batches(), start, "cpu")
    next(pairs)
    assert second.wait(timeout=10)
    pairs.close()  # type: ignore[attr-defined]


def test_never_more_than_one_ahead() -> None:
    pulled: list[int] = []

    def source() -> Iterator[Tensor]:
        for index in range(5):
            pulled.append(index)
            yield torch.tensor(index)

    for count, (batch, double) in enumerate(encode_ahead(source(), lambda batch: 2 * batch, "cpu"), start=1):
        assert double.item() == 2 * batch.item() and len(pulled) <= count + 1


def test_an_error_comes_where_its_pair_would_have() -> None:
    def start(batch: Pictures) -> str:
        if batch.captions[0] == "2":
            raise ValueError("batch 2")
        return batch.captions[0]

    found = []
    with pytest.raises(ValueError, match="batch 2"):
        for _, result in encode_ahead(batches(), start, "cpu"):
            found.append(result)
    assert found == ["0", "1"] and num_workers() == 0


def test_an_error_of_the_batches_comes_through() -> None:
    def source() -> Iterator[Tensor]:
        yield torch.zeros(1)
        raise OSError("the disk is gone")

    pairs = encode_ahead(source(), lambda batch: batch, "cpu")
    assert torch.equal(next(pairs)[0], torch.zeros(1))
    with pytest.raises(OSError, match="the disk is gone"):
        next(pairs)


def test_closing_stops_the_thread_and_the_batches() -> None:
    closed = []

    def source() -> Iterator[Tensor]:
        try:
            while True:
                yield torch.zeros(1)
        finally:
            closed.append(True)

    pairs = encode_ahead(source(), lambda batch: batch, "cpu")
    next(pairs)
    assert num_workers() == 1 and not closed
    pairs.close()  # type: ignore[attr-defined]
    assert num_workers() == 0 and closed == [True]


def test_nothing_in_nothing_out() -> None:
    assert list(encode_ahead([], lambda batch: batch, "cpu")) == []


def test_keeps_the_precision_of_where_it_was_called() -> None:
    a = torch.rand(4, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        pairs = encode_ahead([torch.rand(4, 4)], lambda batch: batch @ a, "cpu")
    ((_, product),) = pairs
    assert product.dtype == torch.bfloat16 and not product.requires_grad
    ((_, product),) = encode_ahead([torch.rand(4, 4)], lambda batch: batch @ a, "cpu")
    assert product.dtype == torch.float32


def test_tensors_are_found_wherever_they_are() -> None:
    one = torch.ones(1)
    nested: Any = {"a": [one, "text", None], "b": (one, Pictures(one, ["x"], one)), "c": Pair(one, "y")}
    changed = _map_tensors(lambda tensor: tensor + 1, nested)
    batch = changed["b"][1]
    found = [changed["a"][0], changed["b"][0], batch.image, batch.labels, changed["c"].first]
    assert [tensor.item() for tensor in found] == [2.0] * 5
    assert changed["a"][1:] == ["text", None] and batch.captions == ["x"] and changed["c"].second == "y"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_side_stream_gives_the_same(tmp_path: Path) -> None:
    encoder = tiny_encoders.build("siglip2", tmp_path).to("cuda")
    pairs = encode_ahead(batches(50), lambda batch: encoder(batch.image), "cuda")
    for plain, (batch, tokens) in zip(batches(50), pairs, strict=True):
        # Memory that the caller frees must not be given to the next batch while the caller's work still reads it.
        product = tokens @ torch.randn(32, 2048, device="cuda")
        assert batch.image.is_cuda and product.isfinite().all()
        assert torch.equal(tokens, encoder(plain.image.cuda()))
