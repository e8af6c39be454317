"""``raekit lora``: what is listed, what is merged."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny_adapter
from raekit.cli.lora import lora
from raekit.errors import UserError
from raekit.generate import TextToImage

pytest.importorskip("peft")


def test_adapters_are_listed_and_merged(tmp_path: Path) -> None:
    path, folder = tiny_adapter.saved(tmp_path)
    listed = CliRunner().invoke(lora, ["list", str(tmp_path / "adapters")])
    assert listed.exit_code == 0 and "rank 2, alpha 4, backbone and language_model" in " ".join(listed.stdout.split())
    merged = CliRunner().invoke(lora, ["merge", str(path), str(folder), str(tmp_path / "out"), "--scale", "0.5"])
    assert merged.exit_code == 0
    assert TextToImage.load(tmp_path / "out", "cpu").checksum[:12] in merged.stdout
    again = CliRunner().invoke(lora, ["merge", str(path), str(folder), str(tmp_path / "out")]).exception
    assert isinstance(again, UserError) and "is there already; name another place" in str(again)


def test_a_folder_without_adapters_is_told(tmp_path: Path) -> None:
    error = CliRunner().invoke(lora, ["list", str(tmp_path)]).exception
    assert isinstance(error, UserError) and "no adapters below" in str(error)
