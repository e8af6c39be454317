"""A linear start redraws pictures before any training, as well as principal components can."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import tiny_recipes
from raekit.autoencoder.decoder import unpatchify
from raekit.training.encoder import EncoderStage
from raekit.training.linear_start import patchify, start_connector


def test_patchify_is_the_inverse_of_unpatchify() -> None:
    image = torch.rand(2, 3, 12, 12)
    assert torch.equal(unpatchify(patchify(image, 4), 4), image)


def test_a_linear_start_beats_a_random_one_without_a_step(tmp_path: Path) -> None:
    def psnr(is_linear_start: bool) -> float:
        values = {**tiny_recipes.encoder(tmp_path), "is_linear_start": is_linear_start}
        stage = EncoderStage(tiny_recipes.resolve(values), torch.device("cpu"))
        return stage.evaluate()["psnr"]

    assert psnr(True) > psnr(False) + 6


def test_the_connector_starts_with_quiet_directions_made_loud() -> None:
    torch.manual_seed(0)
    loud, quiet = torch.randn(500, 1), torch.randn(500, 1)
    states = torch.cat([100 + 10 * loud, 0.5 * quiet], dim=1).unsqueeze(1) + torch.zeros(1, 3, 1)
    connector = nn.Linear(2, 4)
    start_connector(connector, states)
    out = connector(states).flatten(0, 1)
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(4), atol=1e-3, rtol=0)
    assert 0.9 < out[:, 0].std() < 1.01
    assert out[:, 1].std() > 3 * (0.5 / 10)
    assert out[:, 2:].abs().max() == 0
