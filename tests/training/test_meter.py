"""Means over the steps that had a term, and a clock that can be paused."""

from __future__ import annotations

import time

import torch

from raekit.training.meter import Meter


def test_a_term_is_averaged_over_the_steps_that_had_it() -> None:
    meter = Meter()
    meter.add({"loss": torch.tensor(1.0)}, 8)
    meter.add({"loss": torch.tensor(3.0), "share/l1": torch.tensor(0.5)}, 8)
    values = meter.read()
    assert values["loss"] == 2.0 and values["share/l1"] == 0.5
    meter.add({"loss": torch.tensor(7.0)}, 8)
    assert meter.read()["loss"] == 7.0


def test_waiting_for_data_is_told_apart_from_working() -> None:
    def slow() -> object:
        for number in range(2):
            time.sleep(0.02)
            yield number

    meter = Meter()
    assert list(meter.waiting(slow())) == [0, 1]
    time.sleep(0.02)
    meter.add({}, 8)
    values = meter.read()
    assert 0.3 < values["data_wait"] < 0.9 and values["images_per_second"] < 8 / 0.06


def test_waiting_for_the_loader_is_told_apart_from_encoding() -> None:
    closed = []

    def loader() -> object:
        try:
            while True:
                time.sleep(0.01)
                yield 0
        finally:
            closed.append(True)

    def encoded(batches: object) -> object:
        for batch in batches:
            time.sleep(0.03)
            yield batch

    meter = Meter()
    micros = meter.waiting(encoded(meter.waiting(loader(), "read_wait")))
    next(micros)
    next(micros)
    meter.add({}, 8)
    values = meter.read()
    assert values["read_wait"] < 0.6 < values["data_wait"]
    assert 0.04 <= values["longest_wait_seconds"] < 0.07 * 20
    meter.add({}, 8)
    assert meter.read()["data_wait"] == 0.0
    micros.close()
    del micros
    assert closed


def test_a_pause_does_not_count() -> None:
    meter = Meter()
    time.sleep(0.05)
    meter.pause()
    meter.add({}, 1)
    assert meter.read()["images_per_second"] > 1 / 0.05
