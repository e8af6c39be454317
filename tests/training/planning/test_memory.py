"""What a process holds, on numbers that are easy to multiply."""

from __future__ import annotations

import pytest

from raekit.training.parallel.layout import choose_layout
from raekit.training.parallel.placement import ParallelConfig
from raekit.training.planning.memory import (
    Share,
    asked_checkpointing,
    checkpoint_bytes,
    fitting_batch,
    fitting_checkpointing,
    shares,
    total,
)
from raekit.training.planning.work import Part, Work
from raekit.training.stage import TrainConfig

GIGA, MEGA = 10**9, 10**6
BACKBONE = Part("backbone", Work(GIGA, 10, 30, GIGA // 2, GIGA // 10, 90 * MEGA, 100 * MEGA), "adamw")
ENCODER = Part("encoder", Work(GIGA, 10, 10), weight_bytes=2)
CUT = Part("encoder", Work(GIGA, 10, 10, block=90 * MEGA, ends=100 * MEGA), weight_bytes=2)
TRAIN = TrainConfig(steps=1000, batch_size=64, micro_batch_size=32, precision="bf16")
ONE, TEN = choose_layout(GIGA, 1, 8), choose_layout(GIGA, 10, 10)


def test_everything_lies_on_one_process() -> None:
    own, encoder = shares((BACKBONE, ENCODER), TRAIN, ONE, "none")
    assert (own.weights, own.gradients, own.moments, own.averages) == (4 * GIGA, 4 * GIGA, 8 * GIGA, 4 * GIGA)
    assert (own.gathered, encoder.weights, own.activations) == (2 * GIGA, 2 * GIGA, GIGA // 2)
    assert own.fixed + encoder.fixed == 24 * GIGA and encoder.fixed == encoder.weights
    # 0.9 of 80 GB, less 24, in halves.
    assert fitting_batch([own, encoder], 72e9) == 96 and fitting_batch([own, encoder], 20e9) == 0
    assert total([own, encoder], 96) == 72 * GIGA


def test_a_tenth_lies_on_each_of_ten() -> None:
    own, encoder = shares((BACKBONE, CUT), TRAIN, TEN, "none")
    # Of 1000 M, 100 M stay whole and 900 M are cut into ten; gradients of two passes meet once a step.
    assert (own.weights, own.moments, own.averages) == tuple(190 * MEGA * b for b in (4, 8, 4))
    assert own.gradients == 4 * GIGA
    # Two blocks and the ends in bf16, a gradient in bf16 and fp32.
    assert own.gathered == (2 * 90 + 100) * 2 * MEGA + 90 * 6 * MEGA
    assert encoder.weights == 2 * GIGA and encoder.gathered == 0, "what is frozen is not cut unless a recipe says so"


def test_settings_of_sharding() -> None:
    def held(parallel: ParallelConfig) -> list[Share]:
        return shares((BACKBONE, CUT), TRAIN.model_copy(update={"parallel": parallel}), TEN, "none")

    assert held(ParallelConfig(sync="micro_batch"))[0].gradients == 190 * MEGA * 4
    assert held(ParallelConfig(is_resharded=False))[0].gathered == (900 + 100) * 2 * MEGA + 90 * 6 * MEGA
    frozen = held(ParallelConfig(frozen="sharded"))[1]
    assert (frozen.weights, frozen.gathered) == (190 * MEGA * 2, 2 * 90 * MEGA * 2)


def test_memory_follows_optimiser_averages_precision_and_recomputation() -> None:
    train = TRAIN.model_copy(update={"precision": "fp32", "extra_ema": (0.9,)})
    own = shares((Part("backbone", BACKBONE.work, "muon"),), train, ONE, "full")[0]
    assert (own.moments, own.averages, own.gathered, own.activations) == (4 * GIGA, 8 * GIGA, 0, GIGA // 10)
    heads = shares((Part("heads", BACKBONE.work, "adamw", is_averaged=False),), train, ONE, "selective")[0]
    assert (heads.averages, heads.activations) == (0, 3 * GIGA // 10)


def test_one_block_is_run_again_at_a_time() -> None:
    parts = [Part(name, Work(9, 1, 3, 80, 20, again=again), "adamw") for name, again in (("a", 5), ("b", 7))]
    assert [share.activations for share in shares(parts, TRAIN, ONE, "full")] == [20, 27]
    assert [share.activations for share in shares(parts, TRAIN, ONE, "none")] == [80, 80]


@pytest.mark.parametrize(
    ("num_bytes", "mode"), [(38e9, "none"), (37e9, "selective"), (26e9, "full"), (25e9, None), (1e9, None)]
)
def test_the_fastest_checkpointing_that_fits(num_bytes: float, mode: str | None) -> None:
    """24 GB and 32 pictures of 0.5 GB on one process: 40; of 0.3: 33.6; of 0.1: 27.2. Less 2 without the encoder."""
    assert fitting_checkpointing((BACKBONE,), TRAIN, ONE, num_bytes) == mode


def test_a_recipe_may_ask_for_it() -> None:
    assert asked_checkpointing(TRAIN.model_copy(update={"checkpoint_activations": True})) == "full"
    for asked, mode in (("selective", "selective"), ("auto", None), (False, "none")):
        assert asked_checkpointing(TRAIN.model_copy(update={"checkpoint_activations": asked})) == mode


def test_bytes_of_a_checkpoint() -> None:
    heads = Part("heads", Work(10), "muon", is_averaged=False)
    assert checkpoint_bytes((Part("a", Work(100), "adamw"), heads, ENCODER), TRAIN) == {
        "weights": 440,
        "averages": 400,
        "moments": 840,
    }
