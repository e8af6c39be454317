"""Bytes on the wires, against the sums of ring algorithms on paper."""

from __future__ import annotations

import pytest

from raekit.training.parallel.layout import choose_layout
from raekit.training.parallel.placement import ParallelConfig
from raekit.training.planning.machines import Machine
from raekit.training.planning.traffic import Traffic, traffic
from raekit.training.planning.work import Part, Work
from raekit.training.stage import TrainConfig

GIGA = 10**9
CUT = Work(GIGA, block=GIGA // 10, ends=GIGA // 10)
PARTS = (Part("backbone", CUT, "adamw"), Part("encoder", CUT, weight_bytes=2))
TRAIN = TrainConfig(steps=1, batch_size=64, micro_batch_size=32, precision="bf16")
H100 = Machine("h100", 16)


def test_ddp_sums_gradients_once_a_step() -> None:
    sent = traffic(PARTS, TRAIN, H100, choose_layout(GIGA, 16, 8, "ddp"))
    assert (sent.gathered, sent.scattered) == (0, 0) and sent.summed == pytest.approx(2 * 15 / 16 * 4e9)
    assert sent.seconds == pytest.approx(7.5e9 / (0.8 * 400e9))


def test_fsdp_gathers_weights_twice_a_pass() -> None:
    sent = traffic(PARTS, TRAIN, H100, choose_layout(GIGA, 16, 8, "fsdp"))
    # Of 1 B numbers 0.1 B stay whole; gradients of two passes meet once a step.
    assert sent.gathered == pytest.approx(2 * 2 * 1.8e9 * 15 / 16) and sent.scattered == pytest.approx(3.6e9 * 15 / 16)
    assert sent.summed == pytest.approx(2 * 15 / 16 * 0.4e9)
    assert sent.total == sent.gathered + sent.scattered + sent.summed
    exact = TRAIN.model_copy(update={"precision": "fp32"})
    assert traffic(PARTS, exact, H100, choose_layout(GIGA, 16, 8, "fsdp")).gathered == 2 * sent.gathered


def test_hsdp_keeps_most_of_it_within_a_node() -> None:
    sent = traffic(PARTS, TRAIN, H100, choose_layout(GIGA, 16, 8, "hsdp"))
    shards, ends = 2 / 2 * 3.6e9 / 8, 2 * 15 / 16 * 0.4e9
    assert sent.gathered == pytest.approx(2 * 2 * 1.8e9 * 7 / 8) and sent.summed == pytest.approx(shards + ends)
    seconds = (sent.gathered + sent.scattered) / (0.8 * 450e9) + shards / (0.8 * 50e9) + ends / (0.8 * 400e9)
    assert sent.seconds == pytest.approx(seconds)


def test_settings_of_sharding() -> None:
    def sent(parallel: ParallelConfig) -> Traffic:
        train = TRAIN.model_copy(update={"parallel": parallel})
        return traffic(PARTS, train, H100, choose_layout(GIGA, 16, 8, "fsdp"))

    assert sent(ParallelConfig(is_resharded=False)).gathered == sent(ParallelConfig()).gathered / 2
    assert sent(ParallelConfig(sync="micro_batch")).scattered == 2 * sent(ParallelConfig()).scattered
    more = sent(ParallelConfig(frozen="sharded")).gathered - sent(ParallelConfig()).gathered
    assert more == pytest.approx(2 * 0.9e9 * 2 * 15 / 16)


def test_one_process_says_nothing() -> None:
    sent = traffic(PARTS, TRAIN, Machine("h100"), choose_layout(GIGA, 1, 8))
    assert sent.total == sent.seconds == 0
