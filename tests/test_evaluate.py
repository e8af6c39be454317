"""Reports: means over pictures that do not depend on the batch size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny_data
import tiny_generator
from raekit import evaluate
from raekit.data.dataset import build_dataset, pictures_of
from raekit.errors import UserError


def test_the_mean_does_not_depend_on_the_batch_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rae = tiny_generator.latent_space(tmp_path / "autoencoder")
    dataset = build_dataset(pictures_of(tiny_data.pictures(tmp_path / "pictures"), None, 32))
    whole = evaluate.evaluate_reconstruction(rae, dataset, 100)
    monkeypatch.setattr(evaluate, "BATCH_SIZE", 3)
    parts = evaluate.evaluate_reconstruction(rae, dataset, 100)
    assert whole.num_images == parts.num_images == 8
    assert whole.psnr == pytest.approx(parts.psnr, abs=1e-5)
    whole.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["checksum"] == rae.checksum


def test_one_picture_is_too_few(tmp_path: Path) -> None:
    rae = tiny_generator.latent_space(tmp_path / "autoencoder")
    dataset = build_dataset(pictures_of(tiny_data.pictures(tmp_path / "pictures"), None, 32))
    with pytest.raises(UserError, match="too few"):
        evaluate.evaluate_reconstruction(rae, dataset, 1)
