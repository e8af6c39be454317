"""A latent space on disk is complete, verified, or absent."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch

from raekit import shipped
from raekit.autoencoder import artefact
from raekit.errors import UserError

IDENTITY = {"config": {"a": 1}}
TENSORS = {"w": torch.arange(6.0).view(2, 3), "half": torch.ones(3, dtype=torch.bfloat16), "scalar": torch.tensor(2.0)}


def test_round_trip(tmp_path: Path) -> None:
    digest = artefact.write(tmp_path / "a", IDENTITY, TENSORS)
    identity, tensors = artefact.read(tmp_path / "a")
    assert identity["config"] == {"a": 1} and identity["checksum"] == digest and len(digest) == 64
    assert all(torch.equal(tensors[key], value) and tensors[key].dtype == value.dtype for key, value in TENSORS.items())
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["config.json", "model.safetensors"]


def test_a_latent_space_is_located_as_a_user_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    artefact.write(tmp_path / "model" / "autoencoder", IDENTITY, TENSORS)
    assert artefact.locate("model") == artefact.locate("model/autoencoder") == Path("model/autoencoder")
    ours = shipped.PACKAGE / "models/nano/autoencoder"
    assert artefact.locate() == artefact.locate("models/nano/autoencoder") == ours
    assert (ours / "config.json").is_file()


def test_checksum_follows_every_content() -> None:
    digest = artefact.checksum(IDENTITY, TENSORS)
    assert digest == artefact.checksum(dict(IDENTITY), dict(reversed(TENSORS.items())))
    changed = [
        artefact.checksum({"config": {"a": 2}}, TENSORS),
        artefact.checksum(IDENTITY, TENSORS | {"w": TENSORS["w"] + 1}),
        artefact.checksum(IDENTITY, TENSORS | {"w": TENSORS["w"].view(3, 2)}),
        artefact.checksum(IDENTITY, TENSORS | {"half": TENSORS["half"].half()}),
        artefact.checksum(IDENTITY, {key: TENSORS[key] for key in ("w", "half")}),
    ]
    assert len({digest, *changed}) == 6


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_changed_contents_are_refused(tmp_path: Path, file: str) -> None:
    artefact.write(tmp_path / "a", IDENTITY, TENSORS)
    artefact.write(tmp_path / "b", {"config": {"a": 2}}, {key: value + 1 for key, value in TENSORS.items()})
    (tmp_path / "a" / file).write_bytes((tmp_path / "b" / file).read_bytes())
    with pytest.raises(UserError, match="do not match the checksum"):
        artefact.read(tmp_path / "a")


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    artefact.write(tmp_path, IDENTITY, TENSORS)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(UserError, match="damaged or incomplete"):
        artefact.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [(None, "no config.json"), ("{", "no config.json"), ("[]", "not of a raekit"), ("{}", "not of a raekit")],
)
def test_other_directories_are_refused(tmp_path: Path, text: str | None, complaint: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=complaint):
        artefact.read(tmp_path)


def test_newer_formats_are_refused(tmp_path: Path) -> None:
    artefact.write(tmp_path, IDENTITY, TENSORS)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"version": 2}))
    with pytest.raises(UserError, match="version 2, this raekit reads 1; update raekit"):
        artefact.read(tmp_path)


def test_a_full_disk_leaves_the_old_artefact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artefact.write(tmp_path / "a", IDENTITY, TENSORS)

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artefact, "save_file", full)
    with pytest.raises(UserError, match="the disk is full"):
        artefact.write(tmp_path / "a", {"config": {"a": 2}}, TENSORS)
    with pytest.raises(UserError, match="the disk is full"):
        artefact.write(tmp_path / "new", IDENTITY, TENSORS)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert artefact.read(tmp_path / "a")[0]["config"] == {"a": 1}
