"""Memory and hours, on numbers that are easy to multiply."""

from __future__ import annotations

import pytest

from raekit.errors import UserError
from raekit.training.budget import GPUS, Machine, budget, fitting_batch, images_per_second, memory
from raekit.training.stage import TrainConfig
from raekit.training.work import Part, Work

GIGA = 10**9
PARTS = (
    Part("backbone", Work(GIGA, 10**12, 3 * 10**12, GIGA // 2, GIGA // 10), "adamw"),
    Part("encoder", Work(GIGA, 10**11, 10**11), weight_bytes=2),
)
TRAIN = TrainConfig(steps=1000, batch_size=64, micro_batch_size=32, precision="bf16")


def test_memory_of_a_process() -> None:
    held = memory(PARTS, TRAIN)
    assert (held.weights, held.gradients, held.moments, held.averages) == (4 * GIGA, 4 * GIGA, 8 * GIGA, 4 * GIGA)
    assert (held.copies, held.frozen, held.activations) == (2 * GIGA, 2 * GIGA, GIGA // 2)
    assert held.fixed == 24 * GIGA
    # 0.9 of 80 GB, less 24, in halves.
    assert fitting_batch(held, GPUS["h100"]) == 96 and fitting_batch(held, GPUS["rtx4090"]) == 0


def test_memory_follows_optimiser_averages_precision_and_recomputation() -> None:
    train = TRAIN.model_copy(update={"precision": "fp32", "extra_ema": (0.9,), "checkpoint_activations": True})
    held = memory((Part("backbone", PARTS[0].work, "muon"),), train)
    assert (held.moments, held.averages, held.copies, held.activations) == (4 * GIGA, 8 * GIGA, 0, GIGA // 10)


def test_speed_is_the_peak_over_the_work() -> None:
    machine = Machine("h100", 8, mfu=0.5)
    assert images_per_second(PARTS, TRAIN, machine) == pytest.approx(8 * 0.5 * 989e12 / 3.1e12)
    exact = TRAIN.model_copy(update={"precision": "fp32", "checkpoint_activations": True})
    assert images_per_second(PARTS, exact, machine) == pytest.approx(8 * 0.25 * 989e12 / 4.1e12)


def test_the_rows_say_whether_it_fits() -> None:
    rows = dict(budget(PARTS, TRAIN, Machine("h100", 4)))
    assert rows["together"] == "28 of 80 GB: fits; up to 96 would"
    assert rows["time"] == "0.0 hours for 64,000 pictures, if the data keeps up"
    rows = dict(budget(PARTS, TRAIN, Machine("l40s")))
    # 0.9 of 48 GB, less 24, in halves.
    assert rows["together"] == "40 of 48 GB: fits; up to 38 would"
    assert (
        "does not fit; 9 would: train.micro_batch_size 9" in dict(budget(PARTS, TRAIN, Machine("rtx5090")))["together"]
    )
    assert "it has to be sharded" in dict(budget(PARTS, TRAIN, Machine("rtx4090")))["together"]


def test_bad_machines() -> None:
    with pytest.raises(UserError, match="--gpu: 'h1000' is not listed; did you mean 'h100'"):
        Machine("h1000")
    with pytest.raises(UserError, match="--gpus: 0"):
        Machine("h100", 0)
    with pytest.raises(UserError, match="--mfu: 40"):
        Machine("h100", mfu=40)
    with pytest.raises(UserError, match="is not counted"):
        budget((), TRAIN, Machine("h100"))
