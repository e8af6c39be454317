"""PyTorch's files of VGG16, LPIPS and DINO to safetensors: the published keys and shapes, and no other."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from raekit.errors import UserError
from raekit.interop.convert import convert, detect
from raekit.interop.format import Source
from raekit.interop.loss_networks import CLASSIFIER, VGG16
from raekit.losses.dino import DINO
from raekit.losses.perceptual import LPIPS
from tiny_published import draw, same

CONVOLUTIONS = {0: 3, 2: 64, 5: 64, 7: 128, 10: 128, 12: 256, 14: 256, 17: 256}
CONVOLUTIONS |= {19: 512, 21: 512, 24: 512, 26: 512, 28: 512}
"""Index in torchvision's ``features`` to input channels."""


@cache
def vgg16() -> dict[str, Tensor]:
    """torchvision's VGG16 without its classifier."""
    widths = [*list(CONVOLUTIONS.values())[1:], 512]
    shapes: dict[str, tuple[int, ...]] = {}
    for (index, channels), width in zip(CONVOLUTIONS.items(), widths, strict=True):
        shapes |= {f"features.{index}.weight": (width, channels, 3, 3), f"features.{index}.bias": (width,)}
    return draw(shapes, seed=5)


@cache
def lpips() -> dict[str, Tensor]:
    """``vgg.pth`` of taming-transformers."""
    return draw({f"lin{k}.model.1.weight": (1, c, 1, 1) for k, c in enumerate((64, 128, 256, 512, 512))}, seed=6)


@cache
def dino(width: int = 384, patch_size: int = 16) -> dict[str, Tensor]:
    """``dino_vit_small_patch16_224.pth``."""
    tokens = (224 // patch_size) ** 2
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, tokens + 1, width),
        "patch_embed.proj.weight": (width, 3, patch_size, patch_size),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    sizes = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    sizes |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width), "norm1": (width,), "norm2": (width,)}
    for i in range(12):
        for name, shape in sizes.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
    return draw(shapes, seed=7)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three networks converted; each report is checked on the way."""
    folder = tmp_path_factory.mktemp("networks")
    for name, tensors in (("vgg16", vgg16()), ("lpips", lpips()), ("dino", dino())):
        torch.save(tensors, folder / f"{name}.pth")
        rows = dict(convert(folder / f"{name}.pth", folder / f"{name}.safetensors"))
        assert rows["from"].endswith(f"({name})") and rows["loaded"] == f"{len(tensors)} of {len(tensors)} tensors"
        assert rows["written"] == f"{len(tensors)} tensors, names and values unchanged"
    return folder


def test_names_and_values_stay(written: Path) -> None:
    for name, tensors, count in (("vgg16", vgg16(), 26), ("lpips", lpips(), 5), ("dino", dino(), 150)):
        assert same(load_file(written / f"{name}.safetensors"), tensors) and len(tensors) == count


def test_a_folder_is_written_as_well(written: Path, tmp_path: Path) -> None:
    convert(written / "lpips.pth", tmp_path / "out")
    assert same(load_file(tmp_path / "out" / "model.safetensors"), lpips())


def test_losses_read_what_was_written(written: Path) -> None:
    loss = LPIPS.from_files(written / "vgg16.safetensors", written / "lpips.safetensors")
    assert torch.equal(loss.weights[1], lpips()["lin1.model.1.weight"])
    network = DINO.load("dino_s16", written / "dino.safetensors")
    assert torch.equal(network.pos_embed, dino()["pos_embed"])


def test_the_classifier_is_known_but_not_needed(tmp_path: Path) -> None:
    tensors = dict.fromkeys(vgg16(), torch.ones(1)) | {"classifier.0.weight": torch.ones(1)}
    torch.save(tensors, tmp_path / "vgg.pth")
    shapes = VGG16(VGG16.Config()).shapes(Source(tmp_path / "vgg.pth").ledger)
    assert shapes["classifier.6.weight"] == CLASSIFIER[6] == (1000, 4096) and len(shapes) == 32
    with pytest.raises(UserError, match=r"5 missing \(classifier.0.bias, .* and 2 more\)"):
        convert(tmp_path / "vgg.pth", tmp_path / "out")


DINO_KEYS = {"cls_token": torch.ones(1), "blocks.11.attn.qkv.weight": torch.ones(1)}


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        (lpips() | {"lin5.model.1.weight": torch.ones(1)}, r"1 unexpected \(lin5.model.1.weight\)"),
        (lpips() | {"lin2.model.1.weight": torch.ones(1, 3, 1, 1)}, r"lin2.model.1.weight is \[1, 3, 1, 1\]"),
        (DINO_KEYS, "1 missing"),
        ({**DINO_KEYS, "patch_embed.proj.weight": torch.ones(100, 3, 8, 8)}, "a DINO 100 wide with patch 8 is none of"),
    ],
)
def test_other_files_are_refused(tensors: dict[str, Tensor], sentence: str, tmp_path: Path) -> None:
    torch.save(tensors, tmp_path / "published.pth")
    for target in ("out", "out.safetensors"):
        with pytest.raises(UserError, match=sentence):
            convert(tmp_path / "published.pth", tmp_path / target)
        assert not (tmp_path / target).exists()


def test_a_generator_is_no_dino(tmp_path: Path) -> None:
    torch.save(
        {"blocks.11.attn.qkv.weight": torch.ones(1), "t_embedder.mlp.0.weight": torch.ones(1)}, tmp_path / "g.pt"
    )
    assert detect(Source(tmp_path / "g.pt")) == "dit"
