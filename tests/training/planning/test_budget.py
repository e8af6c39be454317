"""The rows of ``raekit explain --gpu``, on numbers that are easy to multiply."""

from __future__ import annotations

import pytest

from raekit.errors import UserError
from raekit.training.parallel.placement import ParallelConfig
from raekit.training.planning.budget import budget, plan_budget
from raekit.training.planning.machines import Machine
from raekit.training.planning.work import Part, Work
from raekit.training.stage import TrainConfig

GIGA = 10**9
PARTS = (
    Part("backbone", Work(GIGA, 10**12, 3 * 10**12, GIGA // 2, GIGA // 10, GIGA // 20), "adamw"),
    Part("encoder", Work(GIGA, 10**11, 10**11), weight_bytes=2),
)
TRAIN = TrainConfig(steps=1000, batch_size=64, micro_batch_size=32, precision="bf16", checkpoint_activations="none")


def test_arithmetic_takes_the_work_over_the_peak() -> None:
    plan = plan_budget(PARTS, TRAIN, Machine("h100", 8, mfu=0.5), "ddp")
    assert plan.compute_seconds == pytest.approx(64 * 3.1e12 / (8 * 0.5 * 989e12))
    exact = TRAIN.model_copy(update={"precision": "fp32", "checkpoint_activations": True})
    plan = plan_budget(PARTS, exact, Machine("h100", 8, mfu=0.5), "ddp")
    assert plan.compute_seconds == pytest.approx(64 * 4.1e12 / (8 * 0.5 * 67e12))
    rounded = exact.model_copy(update={"float32_matmul_precision": "high"})
    plan = plan_budget(PARTS, rounded, Machine("h100", 8, mfu=0.5), "ddp")
    assert plan.compute_seconds == pytest.approx(64 * 4.1e12 / (8 * 0.25 * 989e12))


def test_the_rows_say_by_which_arithmetic() -> None:
    def speed(**settings: str) -> str:
        return dict(budget(PARTS, TRAIN.model_copy(update=settings), Machine("h100"), "ddp"))["speed"]

    assert "of 989 TFLOP/s each, bf16: " in speed()
    assert "of 67 TFLOP/s each, fp32 (train.float32_matmul_precision: high is TF32): " in speed(precision="fp32")
    assert "of 494.5 TFLOP/s each, fp32 as TF32: " in speed(precision="fp32", float32_matmul_precision="high")


def test_the_slower_of_arithmetic_and_messages_sets_the_pace() -> None:
    plan = plan_budget(PARTS, TRAIN, Machine("h100", 8), "ddp")
    assert plan.traffic.seconds < plan.compute_seconds == plan.step_seconds
    slow = plan_budget(PARTS, TRAIN, Machine("rtx4090", 512), "ddp")
    assert slow.step_seconds == slow.traffic.seconds > slow.compute_seconds
    assert "it sets the pace" in dict(budget(PARTS, TRAIN, Machine("rtx4090", 512), "ddp"))["communication"]


def test_the_rows_say_whether_it_fits() -> None:
    rows = dict(budget(PARTS, TRAIN, Machine("h100", 4), "ddp"))
    assert rows["strategy"] == "DDP, everything on each GPU (as asked for)"
    assert rows["together"] == "28 of 80 GB with 8 at once: fits; up to 96 would"
    assert rows["time"] == "0.0 hours for 64,000 pictures, if the data keeps up"
    assert rows["checkpoint"] == "16.0 GB: weights 4.0, averages 4.0, moments 8.0; 2 are kept"
    rows = dict(budget(PARTS, TRAIN, Machine("l40s")))
    # 0.9 of 48 GB, less 24, in halves.
    assert rows["together"] == "40 of 48 GB with 32 at once: fits; up to 38 would" and rows["communication"] == "none"
    assert (
        "does not fit; 9 would: train.micro_batch_size 8" in dict(budget(PARTS, TRAIN, Machine("rtx5090")))["together"]
    )
    assert "it has to be sharded" in dict(budget(PARTS, TRAIN, Machine("rtx4090")))["together"]
    assert "more GPUs" in dict(budget((Part("huge", Work(10**12), "adamw"),), TRAIN, Machine("h100", 8)))["together"]
    assert "must be a multiple of the GPUs" in dict(budget(PARTS, TRAIN, Machine("h100", 64)))["together"]


def test_a_billion_weights_are_sharded() -> None:
    strategy = dict(budget(PARTS, TRAIN, Machine("h100", 8)))["strategy"]
    assert strategy == "FSDP, one shard in 8 on each GPU (1.00 B trained weights: FSDP from 1 B)"
    assert dict(budget(PARTS, TRAIN, Machine("h100", 16), "hsdp"))["strategy"].startswith("HSDP, one shard in 8")


def test_hsdp_on_part_of_a_node_and_in_groups_of_the_asked_size() -> None:
    def strategy(num_gpus: int, shard_size: int | None = None, node_size: int = 8) -> str:
        train = TRAIN.model_copy(update={"parallel": ParallelConfig(shard_size=shard_size)})
        return dict(budget(PARTS, train, Machine("h100", num_gpus, node_size=node_size), "hsdp"))["strategy"]

    assert strategy(4) == "HSDP, one shard in 4 on each GPU, in 1 copy (as asked for)"
    assert strategy(16, 4) == "HSDP, one shard in 4 on each GPU, in 4 copies (as asked for)"
    assert strategy(12, node_size=4).startswith("HSDP, one shard in 4 on each GPU, in 3 copies")
    with pytest.raises(UserError, match="16 processes do not fill groups of 6 .*shard_size"):
        strategy(16, 6)


def test_links_are_told_of_where_there_are_any() -> None:
    def assumed(num_gpus: int) -> str:
        return dict(budget(PARTS, TRAIN, Machine("a100", num_gpus), "ddp"))["assumed"]

    assert assumed(1) == "80 GB, of which 90% for tensors"
    assert assumed(4) == f"{assumed(1)}; 300 GB/s one way within nodes of 4, 80% of it reached"
    assert assumed(16).endswith("within nodes of 8, 200 Gbit/s a GPU between them, 80% of it reached")


def test_the_table_adds_up() -> None:
    lines = dict(budget(PARTS, TRAIN, Machine("h100", 4), "ddp"))["memory a GPU, GB"].splitlines()
    assert lines[0].split()[:6] == ["weights", "gradients", "moments", "averages", "gathered", "activations"]
    assert lines[1].split() == ["backbone", "4.00", "4.00", "8.00", "4.00", "2.00", "0.50"]
    assert lines[-1].split() == ["in", "all", "6.00", "4.00", "8.00", "4.00", "2.00", "0.50"]


def test_nothing_counted() -> None:
    with pytest.raises(UserError, match="is not counted"):
        budget((), TRAIN, Machine("h100"))
