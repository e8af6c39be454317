"""The page of plans on paper: current, and the plans on it the fastest that fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from raekit.training.planning.machines import GPUS, LINK_SHARE, RESERVE, Machine
from raekit.training.planning.scaling import GPU, MODELS, TABLE, fastest, plans, renewed
from raekit.training.planning.work import Part, Work
from raekit.training.stage import TrainConfig

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
GIGA = 10**9
CUT = Work(4 * GIGA, 10**12, 3 * 10**12, 8 * GIGA, GIGA, block=GIGA // 10, ends=GIGA // 100)
PARTS = (Part("backbone", CUT, "adamw"),)
TRAIN = TrainConfig(steps=10, batch_size=128, precision="bf16")


def test_the_page_has_a_table_of_every_size() -> None:
    assert [found["size"] for found in TABLE.finditer(PAGE)] == list(MODELS)


def test_the_largest_table_is_current() -> None:
    assert renewed(PAGE, ROOT / "recipes/stage2", ["9.8B"]) == PAGE, "run python scripts/write_scaling.py"


def test_the_assumptions_on_the_page_are_those_of_the_code() -> None:
    board = GPUS[GPU]
    for words in (
        f"{board.tflops} TFLOP/s of dense bf16, of which {Machine.mfu * 100:.0f} % is reached",
        f"{board.gigabytes} GB, of which {RESERVE * 100:.0f} % for tensors",
        f"{2 * board.link} GB/s both ways together, {board.link} one way; {LINK_SHARE * 100:.0f} % reached",
        f"{board.network} Gbit/s, {board.network // 8} GB/s a GPU one way; {LINK_SHARE * 100:.0f} % reached",
    ):
        assert words in PAGE


def test_hsdp_wins_on_a_slow_network_with_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GPUS, GPU, GPUS[GPU]._replace(network=100))
    singly = [plan for plan in plans(PARTS, TRAIN, Machine(GPU, 32)) if plan.batch == 1]
    seconds = {plan.layout.strategy: plan.traffic.seconds for plan in singly}
    assert seconds["hsdp"] < seconds["fsdp"]


@pytest.mark.slow
def test_the_page_is_current() -> None:
    assert renewed(PAGE, ROOT / "recipes/stage2") == PAGE, "run python scripts/write_scaling.py"


def test_the_fastest_plan_that_fits() -> None:
    machine = Machine("h100", 8)
    found, every = fastest(PARTS, TRAIN, machine), list(plans(PARTS, TRAIN, machine))
    assert found is not None and found.bytes_held <= machine.bytes_to_fill
    # Shares of 16 pictures: 1, 2, 4, 8, 16 at once; three ways to keep activations; three layouts.
    assert len(every) == 5 * 3 * 3
    assert all(p.step_seconds >= found.step_seconds for p in every if p.bytes_held <= machine.bytes_to_fill)
    assert found.layout.strategy != "ddp", "4 billion weights do not fit whole"


def test_what_fits_nowhere() -> None:
    assert fastest((Part("huge", Work(10**12, ends=10**12), "adamw"),), TRAIN, Machine("h100", 8)) is None
