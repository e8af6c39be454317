"""Reconstruction reports: figures of a latent space that loses something known, and no trace of the batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import tiny_autoencoders
import tiny_data
import tiny_encoders
import tiny_generator
from raekit.autoencoder.base import Autoencoder
from raekit.evaluate.figures import Instruments, PixelRule
from raekit.evaluate.pictures import Pictures, open_pictures
from raekit.evaluate.reconstruction import evaluate_reconstruction
from raekit.losses.perceptual import LPIPS
from raekit.metrics.features import build_features


class Dimming(Autoencoder):
    """Gives pictures back with 0.11 taken off; its latent is the picture."""

    checksum = "dimming"
    shape = (3, 16, 16)
    output_size = 16
    device = torch.device("cpu")

    def encode(self, image: Tensor) -> Tensor:
        return image

    def decode(self, latent: Tensor) -> Tensor:
        return latent - 0.11

    def save(self, *args: Any, **options: Any) -> None:
        raise AssertionError("an evaluation saves nothing")

    @classmethod
    def load(cls, *args: Any, **options: Any) -> Autoencoder:
        raise AssertionError("an evaluation loads nothing")


@pytest.mark.parametrize(
    ("pixels", "loss"), [("exact", 0.11), ("rounded", 28 / 255), ("truncated", 29 / 255)], ids=lambda v: str(v)
)
def test_a_known_loss_has_a_known_psnr(tmp_path: Path, pixels: PixelRule, loss: float) -> None:
    """White loses 28.05 levels and comes out at 226.95."""
    folder = tmp_path / "white"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (20, 20), "white").save(folder / f"{number}.png")
    pictures = Pictures(open_pictures([str(folder)], 16), 10)
    done: list[int] = []
    report = evaluate_reconstruction(Dimming(), pictures, Instruments(pixels=pixels), done.append, "dim")
    (column,) = report.columns
    expected = -20 * torch.log10(torch.tensor(loss)).item()
    assert column.overall.means["psnr"].value == pytest.approx(expected, abs=1e-4)
    assert column.overall.means["psnr"].standard_error == 0
    assert (column.overall.num_images, column.facts["checksum"], done) == (3, "dimming", [3])
    assert column.cost.encode_gflops == column.cost.decode_gflops == 0
    assert list(report.sheets) == ["dim: original, reconstruction, difference"]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Autoencoder:
    return tiny_generator.latent_space(tmp_path_factory.mktemp("space") / "autoencoder").eval()


@pytest.fixture(scope="module")
def instruments(tmp_path_factory: pytest.TempPathFactory) -> Instruments:
    directory = tiny_encoders.save("dinov2", tmp_path_factory.mktemp("features") / "encoder")
    torch.manual_seed(0)
    lpips = LPIPS(((4,), (4,)))
    lpips.weights[0].data.fill_(1)
    return Instruments(build_features([f"dinov2={directory}"]), lpips, pixels="exact")


def measured(space: Autoencoder, instruments: Instruments, folder: Path, batch_size: int) -> dict[str, Any]:
    """Every figure of a report as one flat mapping."""
    pictures = Pictures(open_pictures([str(folder), "rendered_text"], space.output_size), 8, batch_size)
    (column,) = evaluate_reconstruction(space, pictures, instruments).columns
    found = {}
    for name, figures in {"all": column.overall, **column.domains}.items():
        found |= {f"{name} {key}": value.value for key, value in (figures.means | figures.distances).items()}
        found |= {f"{name} {key} error": value.standard_error for key, value in figures.means.items()}
        found[f"{name} sharpness"] = figures.sharpness
        found[f"{name} images"] = figures.num_images
    return found


def test_the_batch_size_does_not_show(tmp_path: Path, space: Autoencoder, instruments: Instruments) -> None:
    folder = tiny_data.pictures(tmp_path / "shapes")
    whole = measured(space, instruments, folder, 8)
    assert {"all psnr", "all ssim", "all lpips", "all rfd_dinov2", "shapes psnr", "rendered_text psnr"} <= whole.keys()
    assert whole["all images"] == 16
    for batch_size in (1, 3):
        parts = measured(space, instruments, folder, batch_size)
        assert parts == pytest.approx(whole, rel=1e-6)


def test_what_is_counted(tmp_path: Path, space: Autoencoder) -> None:
    """The tiny encoder sees 16 tokens of width 32; twice as many operations as multiplications."""
    pictures = Pictures(open_pictures([str(tiny_data.pictures(tmp_path / "shapes", 24))], 24), 8)
    report = evaluate_reconstruction(space, pictures)
    cost = report.columns[0].cost
    tokens, width, hidden, patch = 16, 32, 48, 3 * 8 * 8
    per_layer = tokens * (4 * width * width + 2 * width * hidden) + 2 * tokens * tokens * width
    assert cost.encode_gflops == pytest.approx(2 * (tokens * patch * width + 2 * per_layer) / 1e9, rel=1e-9)
    assert cost.decode_gflops > 0
    assert cost.encode_images_per_second > 0 and cost.decode_images_per_second > 0


def test_any_latent_space_can_be_measured(tmp_path: Path) -> None:
    space = tiny_autoencoders.build("kl_vae", tmp_path)
    folder = str(tiny_data.pictures(tmp_path / "shapes"))
    report = evaluate_reconstruction(space, Pictures(open_pictures([folder], space.output_size), 3))
    assert report.columns[0].overall.num_images == 3
    assert report.columns[0].facts["latent"] == list(space.shape)
