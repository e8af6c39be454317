"""How well a latent space gives pictures back.

In: an autoencoder, pictures, instruments. Out: a report with PSNR, SSIM, LPIPS, Fréchet distances (rFID and its kin),
sharpness and words read, for each domain and for all, what encoding and decoding cost, and a sheet of originals,
reconstructions and differences (RAE, table 1; Scale-RAE, tables 1 and 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from raekit.autoencoder.base import Autoencoder
from raekit.cost import Stopwatch, count_flops
from raekit.data.transforms import to_float
from raekit.device import device_name
from raekit.evaluate.figures import PIXELS, Instruments, Ledger
from raekit.evaluate.pictures import Page, Pictures
from raekit.evaluate.report import Column, Cost, Report, distance_notes
from raekit.image_grid import comparison_sheet, enlargement

Progress = Callable[[int], None]
"""Called with the number of pictures that are done, out of at most ``len(pictures)``."""

MOST_SHOWN, MOST_SHOWN_PER_DOMAIN = 24, 6
"""Pictures on a sheet."""

GIGA = 1e9


@torch.no_grad()
def evaluate_reconstruction(
    autoencoder: Autoencoder,
    pictures: Pictures,
    instruments: Instruments | None = None,
    progress: Progress | None = None,
    name: str = "autoencoder",
) -> Report:
    """Encode and decode every picture, without noise, and measure what comes back.

    Args:
        autoencoder: in evaluation mode.
        pictures: of its output size, or they are resized.
        instruments: what to measure with; PSNR, SSIM and sharpness need none.
        progress: see :data:`Progress`.
        name: of the column and the sheet.
    """
    instruments = instruments or Instruments()
    ledger, examples = Ledger(prefix="r"), _Examples(autoencoder.output_size)
    encoding, decoding = Stopwatch(autoencoder.device), Stopwatch(autoencoder.device)
    done = 0
    with exact_convolutions():
        for page in pictures.pages(with_texts=instruments.reader is not None):
            image = fitted(page, autoencoder)
            with encoding.lap(len(image)):
                latent = autoencoder.encode(image)
            with decoding.lap(len(image)):
                output = autoencoder.decode(latent)
            made = instruments.as_shown(output)
            values = instruments.compare(made, image)
            real, redrawn = instruments.look(image, page.texts), instruments.look(made, page.texts)
            ledger.add(page.domains, page.texts, real, redrawn, values)
            examples.add(page, image, made, values["psnr"])
            done += len(page)
            if progress is not None:
                progress(done)
        cost = Cost(
            encode_images_per_second=encoding.images_per_second,
            decode_images_per_second=decoding.images_per_second,
            encode_gflops=count_flops(lambda: autoencoder.encode(image[:1]), latent.device) / GIGA,
            decode_gflops=count_flops(lambda: autoencoder.decode(latent[:1]), latent.device) / GIGA,
        )
    facts = {"checksum": autoencoder.checksum, "latent": list(autoencoder.shape), "pixels": autoencoder.output_size}
    column = Column(name, facts, ledger.overall(), ledger.domains(), cost)
    notes = [*picture_notes(pictures, instruments), *distance_notes(column)]
    sheets = {f"{name}: original, reconstruction, difference": examples.sheet()}
    return Report("Reconstruction", settings_of(pictures, instruments, autoencoder.device), [column], notes, sheets)


def fitted(page: Page, autoencoder: Autoencoder) -> Tensor:
    """A page's pictures in [0,1], ``[B,3,S,S]`` at the size and on the device of an autoencoder."""
    image = to_float(page.image.to(autoencoder.device))
    if image.shape[-1] == autoencoder.output_size:
        return image
    resized = F.interpolate(image, (autoencoder.output_size,) * 2, mode="bicubic", antialias=True)
    return resized.clamp(0, 1)


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Convolutions in float32 on GPUs that would round their inputs to TF32, whose error depends on the batch size."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
        yield


def settings_of(pictures: Pictures, instruments: Instruments, device: torch.device) -> dict[str, Any]:
    """How it was measured, for the report."""
    networks = {
        name: {"source": network.source, "width": network.width} for name, network in instruments.features.items()
    }
    return {
        "data": pictures.describe(),
        "pixels": instruments.pixels,
        "features": networks,
        "lpips": instruments.lpips is not None,
        "reader": None if instruments.reader is None else instruments.reader.describe(),
        "batch size": pictures.batch_size,
        "device": device_name(device),
        "failed readings": pictures.num_skipped,
        "repeated pictures": pictures.num_repeated,
    }


def picture_notes(pictures: Pictures, instruments: Instruments) -> list[str]:
    """What a reader must know of the pictures."""
    notes = [PIXELS[instruments.pixels]]
    if pictures.num_skipped:
        notes.append(f"pictures that cannot be read are not in the figures ({pictures.num_skipped} failed readings)")
    elif pictures.num_repeated:
        notes.append(f"{pictures.num_repeated} pictures came up again and were counted once")
    return notes


class _Examples:
    """The first pictures of each domain, for a sheet."""

    def __init__(self, size: int) -> None:
        self._scale = enlargement(size)
        self._rows: list[tuple[Tensor, Tensor, str]] = []
        self._counts: dict[str, int] = {}

    def add(self, page: Page, image: Tensor, made: Tensor, values: Tensor) -> None:
        for index, domain in enumerate(page.domains):
            shown = self._counts.get(domain, 0)
            if shown < MOST_SHOWN_PER_DOMAIN and len(self._rows) < MOST_SHOWN:
                self._counts[domain] = shown + 1
                caption = f"{domain}: {page.captions[index]}" if page.captions[index] else domain
                self._rows.append((image[index].cpu(), made[index].cpu(), f"{values[index]:.1f} dB, {caption}"))

    def sheet(self) -> Image.Image:
        images, made, captions = zip(*self._rows, strict=True)
        return comparison_sheet(torch.stack(images), torch.stack(made), captions, self._scale)
