"""What ``raekit explain --gpu`` foretells, against a run: operations by torch's counter, memory by what is held.

The plan is made from the recipe alone; the run is two steps of the real loop on the CPU, in fp32.
"""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_recipes
from raekit.cost import count_flops
from raekit.training.loop import Trainer
from raekit.training.planning.budget import Budget, plan_budget
from raekit.training.planning.machines import Machine
from raekit.training.stage import Recipe

WITHIN = 0.1
"""Share of the measured value by which a plan may be off."""
PROMPT_TOKENS = 4
"""Fewer than any caption has, so that the run reads as many words as the plan counts."""


def recipe(folder: Path, width: int, depth: int, **train: Any) -> Recipe:
    """Stage 2 with a frozen language model that gradients pass through to learnable queries."""
    values = tiny_recipes.stage2(folder, max_prompt_tokens=PROMPT_TOKENS)
    values["backbone"] = {**values["backbone"], "width": width, "depth": depth, "heads": 4}
    return tiny_recipes.resolve(values, batch_size=16, micro_batch_size=8, sample_every_steps=1000, **train)


def planned(settings: Recipe) -> Budget:
    return plan_budget(settings.parts(), settings.train, Machine("h100"))


def test_operations_of_a_step(tmp_path: Path) -> None:
    settings = recipe(tmp_path, 64, 3)
    trainer = Trainer(settings)
    micros = trainer.ready(trainer._batches())
    counted = count_flops(lambda: trainer.train_step(micros), trainer.device)
    expected = sum(part.operations() for part in settings.parts()) * settings.train.batch_size
    assert counted == pytest.approx(expected, rel=WITHIN)


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
def test_what_is_kept_for_the_backward_pass(tmp_path: Path, checkpointing: str) -> None:
    settings = recipe(tmp_path, 64, 4, checkpoint_activations=checkpointing)
    trainer = Trainer(settings)
    weights = {t.untyped_storage()._cdata for t in trainer.stage.state().values()}
    for module in (*trainer.stage.modules().values(), *trainer.stage.frozen().values()):
        weights |= {t.untyped_storage()._cdata for t in (*module.parameters(), *module.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    micro = next(trainer.ready(trainer._batches()))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trainer.stage.loss(micro.prepared, micro.draws)
    held = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    plan = planned(settings)
    assert plan.batch == 8 and plan.checkpointing == checkpointing
    # The way back has not begun: no block is being run again.
    foretold = 8 * sum(part.work.kept(plan.checkpointing) for part in settings.parts())
    assert held == pytest.approx(foretold, rel=WITHIN)


def test_memory_of_the_process(tmp_path: Path) -> None:
    """Resident memory at the fullest moment of the second step: behind the last forward pass, gradients beside it."""
    settings = recipe(tmp_path, 512, 6)
    plan, moments = planned(settings), list[int]()
    before = resident_bytes()
    trainer = Trainer(settings)
    loss = trainer.stage.loss

    def measured(*arguments: Any) -> Any:
        terms = loss(*arguments)
        moments.append(resident_bytes())
        return terms

    trainer.stage.loss = measured  # type: ignore[method-assign]
    micros = trainer.ready(trainer._batches())
    for _ in range(2):
        trainer.train_step(micros)
    updater = trainer.updaters["model"]
    own = {
        "weights": sum(p.nbytes for p in updater.parameters.values()),
        "gradients": sum(p.grad.nbytes for p in updater.parameters.values() if p.grad is not None),
        "moments": sum(t.nbytes for t in updater.state().values()),
        "averages": sum(t.nbytes for t in updater.ema.values.values()),
    }
    for name, size in own.items():
        foretold = sum(getattr(share, name) for share in plan.held if share.gradients)
        assert size == pytest.approx(foretold, rel=0.01), name
    assert moments[-1] - before == pytest.approx(plan.bytes_held, rel=WITHIN)


def resident_bytes() -> int:
    """Of this process, pages that nothing uses given back first."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
