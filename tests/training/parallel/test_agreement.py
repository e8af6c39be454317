"""Processes that were started with different settings say so before any of them trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_recipes
import two_ranks
from raekit import distributed
from raekit.errors import UserError
from raekit.training.loop import Trainer
from raekit.training.parallel.agreement import check_agreement


def disagree(values: dict[str, Any]) -> None:
    distributed.join(torch.device("cpu"))
    rank = distributed.rank()
    one = tiny_recipes.resolve(values)
    check_agreement(one, True)
    with pytest.raises(UserError, match=r"process 1 on .* has --resume True, not False as process 0 on"):
        check_agreement(one, rank == 1)
    with pytest.raises(UserError, match=r"process 1 on .* has seed 1, not 0 as process 0 on .*; start all processes"):
        Trainer(tiny_recipes.resolve({**values, "seed": rank}))
    other = tiny_recipes.resolve(
        values, steps=4 + rank, log_every_steps=1 + rank, keep_last=2 + rank, stop_seconds=9 + rank
    )
    with pytest.raises(UserError, match=r"train.steps 5, not 4; .*; .* and 1 more as process 0"):
        check_agreement(other, False)
    with pytest.raises(UserError, match=r"train.micro_batch_size: 1 samples cannot be shared evenly by 2 processes"):
        Trainer(tiny_recipes.resolve(values, micro_batch_size=1))
    assert not Path(values["run"]).exists()


def test_two_processes_with_different_settings_are_refused(tmp_path: Path) -> None:
    two_ranks.run(disagree, tiny_recipes.stage1(tmp_path))
