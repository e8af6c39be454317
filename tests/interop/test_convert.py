"""Which layout a path holds, which it goes to, and what is said when that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_encoders
import tiny_published
from raekit.errors import UserError
from raekit.interop import FORMATS
from raekit.interop.convert import PREFERRED, convert, detect, own_format
from raekit.interop.format import ConvertConfig, Source


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A published decoder directory, with its statistics."""
    return tiny_published.save_decoder(tmp_path / "published")


@pytest.fixture
def config(tmp_path: Path) -> ConvertConfig:
    """The encoder that belongs to it."""
    saved = tiny_encoders.save("siglip2", tmp_path / "encoder")
    return ConvertConfig(encoder=tiny_encoders.config("siglip2", saved))


def test_ours_goes_out_and_others_come_in(published: Path, config: ConvertConfig, tmp_path: Path) -> None:
    rows = convert(published, tmp_path / "ours", config)
    assert rows[0] == ("from", f"{published} (scale_rae)") and rows[-1] == ("to", str(tmp_path / "ours"))
    assert (own_format(tmp_path / "ours"), own_format(published)) == ("raekit-autoencoder", None)
    rows = convert(tmp_path / "ours", tmp_path / "again")
    assert rows[0] == ("from", f"{tmp_path / 'ours'} (raekit-autoencoder, written as rae)")


def test_what_ships_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = convert(Path("models/nano/autoencoder"), tmp_path / "out")
    assert "raekit-autoencoder, written as rae" in dict(rows)["from"] and (tmp_path / "out").is_dir()


def test_the_format_can_be_named(published: Path, config: ConvertConfig, tmp_path: Path) -> None:
    named = ConvertConfig(encoder=config.encoder, format="rae")
    assert dict(convert(published, tmp_path / "ours", named))["from"] == f"{published} (rae)"
    assert detect(Source(published)) == "scale_rae"


def test_preferred_formats_can_be_written() -> None:
    assert all(FORMATS[name].OURS == ours for ours, name in PREFERRED.items())


def test_nothing_is_overwritten(published: Path, config: ConvertConfig, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for target in (tmp_path / "full", tmp_path / "full" / "mine.txt"):
        with pytest.raises(UserError, match="is there already"):
            convert(published, target, config)
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    convert(published, tmp_path / "empty", config)


def test_a_failure_leaves_nothing_behind(published: Path, config: ConvertConfig, tmp_path: Path) -> None:
    """Neither an unknown key nor a full disk half way leaves anything at the target or beside it."""
    torch.save(tiny_published.decoder() | {"mask_token": torch.zeros(1)}, published / "model.pt")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"1 unexpected \(mask_token\); check that it is the right file"):
        convert(published, tmp_path / "out", config)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["rae", "scale_rae", "diffusers"])
def test_a_failure_while_writing_leaves_nothing_behind(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(tiny_published.save_diffusers(tmp_path / "published", "mae"), tmp_path / "ours")
    before = sorted(tmp_path.iterdir())

    def full(*arguments: object, **keywords: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match="the disk is full"):
        convert(tmp_path / "ours", tmp_path / "out", ConvertConfig(format=name))
    assert sorted(tmp_path.iterdir()) == before


def test_options_out_of_place_are_named(published: Path, config: ConvertConfig, tmp_path: Path) -> None:
    convert(published, tmp_path / "ours", config)
    refused = [
        (published, {"autoencoder": "x"}, "--autoencoder means nothing when reading scale_rae; it takes --encoder, "),
        (published, {"lossy": True}, "--lossy means nothing when reading scale_rae"),
        (published, {"format": "rea"}, "--format 'rea' is unknown; did you mean 'rae'?"),
        (tmp_path / "ours", {"tau": 0.0}, "--tau means nothing when writing rae; it takes no options"),
        (
            tmp_path / "ours",
            {"format": "dit"},
            "is a raekit-autoencoder, which dit does not hold; it goes to diffusers, ",
        ),
        (tmp_path / "ours", {"format": "lpips"}, "which lpips does not hold"),
    ]
    for source, options, sentence in refused:
        with pytest.raises(UserError) as caught:
            convert(source, tmp_path / "out", ConvertConfig.model_validate(options))
        assert sentence in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_what_is_not_there_is_named(published: Path, tmp_path: Path) -> None:
    refused = [
        (tmp_path / "none.pt", "no such file"),
        (tmp_path, "holds none of model.pt, stage2_model.pt, "),
        (published / "stat.pt", "is in none of the known layouts (it holds mean, var)"),
        (published / "model.pt", "does not show which encoder"),
    ]
    for source, sentence in refused:
        with pytest.raises(UserError) as caught:
            convert(source, tmp_path / "out")
        assert sentence in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_broken_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="not valid JSON"):
        own_format(tmp_path)
