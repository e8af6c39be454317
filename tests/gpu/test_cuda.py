"""What only an accelerator can show: the same numbers as on the CPU, and training in bf16. Run with ``-m gpu``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_generator
import tiny_recipes
from raekit.generate import TextToImage
from raekit.training.loop import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]


def test_a_picture_is_the_same_on_both_devices(tmp_path: Path) -> None:
    path = tiny_generator.saved(tmp_path)
    images = [
        TextToImage.load(path, device, precision="fp32")(["a red circle"], num=2, output="tensor")
        for device in ("cpu", "cuda")
    ]
    torch.testing.assert_close(images[0], images[1], atol=2e-3, rtol=0)


@pytest.mark.parametrize("stage", ["encoder", "stage1", "stage2", "unified"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_stage_trains(stage: str, precision: str, tmp_path: Path) -> None:
    values = getattr(tiny_recipes, stage)(tmp_path)
    trainer = Trainer(tiny_recipes.resolve(values, device="cuda", precision=precision, steps=12, sample_every_steps=12))
    assert trainer.train() is not None
    losses = [row["loss"] for row in trainer.run.history() if "loss" in row]
    assert sum(losses[-4:]) < sum(losses[:4])
    assert all(p.dtype == torch.float32 for p in trainer.parameters.values())
