"""``raekit convert``: options to library call, the printed report, and exit code 2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import tiny_encoders
import tiny_published
from cli.verbs import run
from raekit.autoencoder.rae import RAE
from raekit.cli import app
from raekit.cli.convert import Options, convert
from raekit.errors import UserError
from raekit.interop.format import ConvertConfig


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    """A tiny encoder as it is written on the command line."""
    return f"{{name: siglip2, path: {tiny_encoders.save('siglip2', tmp_path / 'encoder')}}}"


def test_there_and_back(encoder: str, tmp_path: Path) -> None:
    published = tiny_published.save_decoder(tmp_path / "published")
    words = ["--format", "rae", "--encoder", encoder, "--statistics", published / "stat.pt", "--tau", "0.5"]
    printed = run(convert, published, tmp_path / "ours", *words)
    assert printed.splitlines()[0] == "converted"
    assert "loaded      40 of 40 tensors" in printed
    assert "[32, 4, 4], statistics per_position, tau 0.5" in printed
    assert RAE.load(tmp_path / "ours").config.tau == 0.5
    printed = run(convert, tmp_path / "ours", tmp_path / "again", "--format", "scale_rae")
    assert "written as scale_rae" in printed


def test_no_statistics_and_given_heads(encoder: str, tmp_path: Path) -> None:
    published = tiny_published.save_decoder(tmp_path / "published", with_config=False)
    words = ["--encoder", encoder, "--statistics", "none", "--heads", tiny_published.HEADS]
    assert "none: the tokens are used as they are" in run(convert, published, tmp_path / "ours", *words)


def test_a_network_of_the_losses_becomes_one_file(tmp_path: Path) -> None:
    widths = enumerate((64, 128, 256, 512, 512))
    torch.save({f"lin{k}.model.1.weight": torch.ones(1, c, 1, 1) for k, c in widths}, tmp_path / "vgg.pth")
    printed = run(convert, tmp_path / "vgg.pth", tmp_path / "lpips.safetensors")
    assert "5 of 5 tensors" in printed and (tmp_path / "lpips.safetensors").is_file()


def test_options_are_those_of_the_library() -> None:
    assert set(Options.model_fields) == set(ConvertConfig.model_fields)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--encoder", "{name"], "convert: --encoder '{name' is not valid YAML"),
        (["--encoder", "dinov9"], "convert: encoder: encoders: unknown name 'dinov9'"),
        (["--tau", "-1"], "convert: tau: "),
        (["--encoder", "dinov2"], "no such file"),
    ],
)
def test_mistakes(words: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run(convert, tmp_path / "none.pt", tmp_path / "out", *words)
    assert sentence in str(caught.value)


def test_a_mistake_exits_with_2_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(tiny_published.decoder() | {"a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "model.pt")
    words = ["raekit", "convert", tmp_path / "model.pt", tmp_path / "out", "--heads", tiny_published.HEADS]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    with pytest.raises(SystemExit) as left:
        app.main()
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: weights ") and "2 unexpected (a, b)" in told and len(told.splitlines()) == 1
    assert not (tmp_path / "out").exists()
