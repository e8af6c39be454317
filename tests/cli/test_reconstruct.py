"""``raekit reconstruct``: what it prints and writes, going on, and its exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import tiny_data
import tiny_generator
from cli.verbs import run
from raekit.cli.reconstruct import reconstruct
from raekit.errors import UserError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "autoencoder"
    tiny_generator.latent_space(directory)
    return directory


def test_a_folder_then_the_rest(model: Path, tmp_path: Path) -> None:
    pictures, out = tiny_data.pictures(tmp_path / "pictures"), tmp_path / "out"
    text = run(reconstruct, pictures / "red_circle.png", "--model", model, "--out", out)
    assert text.startswith("1 picture reconstructed: mean PSNR ") and " dB\n" in text
    text = run(reconstruct, pictures, "--model", model, "--out", out, "--sheet")
    assert text.startswith("8 pictures reconstructed, 1 of them by an earlier run: mean PSNR ")
    assert text.splitlines()[1:] == [str(out / "sheet.png"), str(out / "metrics.csv")]
    assert len(list(out.glob("*.png"))) == 9
    assert "earlier" not in run(reconstruct, pictures, "--model", model, "--out", out, "--overwrite")


def test_unreadable_pictures_are_listed_and_change_the_exit_code(model: Path, tmp_path: Path) -> None:
    pictures = tiny_data.pictures(tmp_path / "pictures")
    (pictures / "empty.png").write_bytes(b"")
    app = typer.Typer()
    app.command()(reconstruct)
    done = CliRunner().invoke(app, [str(pictures), "--model", str(model), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert f"left out: {pictures / 'empty.png'}: is empty" in done.stdout
    assert "1 unreadable picture left out" in done.stderr
    assert done.stdout.startswith("8 pictures reconstructed")


def test_mistakes_are_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    nowhere = ("--model", tmp_path / "absent")
    with pytest.raises(UserError, match="images: .*x.png': no such file"):
        run(reconstruct, tmp_path / "x.png", *nowhere, "--out", tmp_path / "out")
    (tmp_path / "x.png").touch()
    with pytest.raises(UserError, match=r"--out '.*x.png/below': "):
        run(reconstruct, tmp_path / "x.png", *nowhere, "--out", tmp_path / "x.png" / "below")
    with pytest.raises(UserError, match=str(tmp_path / "absent")):
        run(reconstruct, tmp_path / "x.png", *nowhere, "--out", tmp_path / "out")
