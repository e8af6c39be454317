"""Where a loss's weights come from: a file, its directory, the hub; and what is said when they do not come."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from raekit.errors import UserError
from raekit.losses.weights import frozen_weights


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_a_file_or_its_directory(file: Path) -> None:
    for source in (file, str(file), file.parent):
        assert torch.equal(frozen_weights(source, "x")["a"], torch.ones(2))


@pytest.mark.parametrize(
    ("hub_id", "asked"),
    [
        ("owner/name", ("owner/name", "model.safetensors", None)),
        ("owner/vit_s.dino@0a1b", ("owner/vit_s.dino", "model.safetensors", "0a1b")),
        ("owner/name/sub/vgg.safetensors", ("owner/name", "sub/vgg.safetensors", None)),
    ],
)
def test_a_hub_id(hub_id: str, asked: tuple[str, str, str | None], file: Path, monkeypatch) -> None:
    calls = []

    def download(repo: str, name: str, revision: str | None) -> str:
        calls.append((repo, name, revision))
        return str(file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert frozen_weights(hub_id, "x").keys() == {"a"} and calls == [asked]


def test_a_hub_out_of_reach_is_told(monkeypatch) -> None:
    def download(*args: object, **kwargs: object) -> str:
        raise LocalEntryNotFoundError("Cannot find the file. More text\nof the library")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UserError, match=r"lpips_vgg: .*'owner/name'.*\(Cannot find the file\); connect to the hub"):
        frozen_weights("owner/name", "lpips_vgg")


@pytest.mark.parametrize("name", ["missing.safetensors", "weights/missing.safetensors", "missing"])
def test_a_missing_file_is_told_without_asking_the_hub(name: str) -> None:
    with pytest.raises(UserError, match=f"lpips_heads: no file '{name}'; name a safetensors file"):
        frozen_weights(name, "lpips_heads")


def test_a_pytorch_file_is_sent_to_convert(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "vgg.pth")
    with pytest.raises(UserError, match=rf"run `raekit convert {tmp_path}/vgg.pth {tmp_path}/vgg` once"):
        frozen_weights(tmp_path / "vgg.pth", "lpips_vgg")
