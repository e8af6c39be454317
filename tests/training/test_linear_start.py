"""A linear start redraws pictures before any training, as well as principal components can."""

from __future__ import annotations

from pathlib import Path

import torch

import tiny_recipes
from raekit.autoencoder.decoder import unpatchify
from raekit.training.encoder import EncoderStage
from raekit.training.linear_start import patchify


def test_patchify_is_the_inverse_of_unpatchify() -> None:
    image = torch.rand(2, 3, 12, 12)
    assert torch.equal(unpatchify(patchify(image, 4), 4), image)


def test_a_linear_start_beats_a_random_one_without_a_step(tmp_path: Path) -> None:
    def psnr(is_linear_start: bool) -> float:
        values = {**tiny_recipes.encoder(tmp_path), "is_linear_start": is_linear_start}
        stage = EncoderStage(tiny_recipes.resolve(values), torch.device("cpu"))
        return stage.evaluate()["psnr"]

    assert psnr(True) > psnr(False) + 6
