"""How well a latent space gives pictures back.

In: an autoencoder, pictures, instruments. Out: a report with PSNR, SSIM, LPIPS, Fréchet distances (rFID and its kin),
sharpness and words read, for each domain and for all, what encoding and decoding cost, and a sheet of originals,
reconstructions and differences (RAE, table 1; Scale-RAE, tables 1 and 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from raekit.autoencoder.base import Autoencoder
from raekit.cost import Stopwatch, count_flops
from raekit.data.transforms import to_float
from raekit.device import device_name
from raekit.evaluate.figures import PIXELS, Instruments, Ledger, Sight
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

    def look(page: Page) -> _Judged:
        image = fitted(page, autoencoder)
        with encoding.lap(len(image)):
            latent = autoencoder.encode(image)
        with decoding.lap(len(image)):
            output = autoencoder.decode(latent)
        made = instruments.as_shown(output)
        values = instruments.compare(made, image)
        real, redrawn = instruments.look(image, page.texts), instruments.look(made, page.texts)
        return _Judged(page.domains, page.texts, real, redrawn, values, _examples_of(page, image, made, values["psnr"]))

    done, device = 0, autoencoder.device
    with exact_convolutions():
        for found in pictures.each(look, with_texts=instruments.reader is not None):
            ledger.add(found.domains, found.texts, found.real.to(device), found.made.to(device), found.values)
            examples.add(found.examples)
            done += len(found.domains)
            if progress is not None:
                progress(done)
        size = autoencoder.output_size
        image, latent = (torch.zeros(1, *shape, device=device) for shape in ((3, size, size), autoencoder.shape))
        cost = Cost(
            encode_images_per_second=encoding.images_per_second,
            decode_images_per_second=decoding.images_per_second,
            encode_gflops=count_flops(lambda: autoencoder.encode(image), device) / GIGA,
            decode_gflops=count_flops(lambda: autoencoder.decode(latent), device) / GIGA,
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


@dataclass(frozen=True)
class _Judged:
    """What was seen of a page and of what came back of it."""

    domains: list[str]
    texts: list[str]
    real: Sight
    made: Sight
    values: dict[str, Tensor]
    examples: list[_Example]


@dataclass(frozen=True)
class _Example:
    """A row of the sheet."""

    domain: str
    image: Tensor
    made: Tensor
    caption: str


def _examples_of(page: Page, image: Tensor, made: Tensor, values: Tensor) -> list[_Example]:
    """The first pictures of each domain of a page; ``values`` are their PSNR."""
    found: list[_Example] = []
    for index, domain in enumerate(page.domains):
        if page.domains[:index].count(domain) < MOST_SHOWN_PER_DOMAIN:
            name = f"{domain}: {page.captions[index]}" if page.captions[index] else domain
            found.append(_Example(domain, image[index].cpu(), made[index].cpu(), f"{values[index]:.1f} dB, {name}"))
    return found


class _Examples:
    """The first pictures of each domain, for a sheet."""

    def __init__(self, size: int) -> None:
        self._scale = enlargement(size)
        self._rows: list[tuple[Tensor, Tensor, str]] = []
        self._counts: dict[str, int] = {}

    def add(self, examples: Sequence[_Example]) -> None:
        for one in examples:
            shown = self._counts.get(one.domain, 0)
            if shown < MOST_SHOWN_PER_DOMAIN and len(self._rows) < MOST_SHOWN:
                self._counts[one.domain] = shown + 1
                self._rows.append((one.image, one.made, one.caption))

    def sheet(self) -> Image.Image:
        images, made, captions = zip(*self._rows, strict=True)
        return comparison_sheet(torch.stack(images), torch.stack(made), captions, self._scale)
