"""Pictures through a latent space and back.

In: an autoencoder and picture files. Out: a sheet (originals above reconstructions) and the PSNR of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from raekit.autoencoder.rae import RAE
from raekit.data.decode import decode_image
from raekit.data.sample import BadSample
from raekit.data.transforms import centre_crop, compose, to_chw, to_float
from raekit.device import pick_device
from raekit.errors import UserError
from raekit.image_grid import image_grid
from raekit.metrics.reconstruction import psnr

BUNDLED = "models/nano/autoencoder"
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Reconstruction:
    """What :func:`reconstruct_files` returns.

    Attributes:
        sheet: originals in the upper row, reconstructions below.
        paths: the pictures that could be read.
        psnr: dB, one a picture.
        skipped: the pictures that could not be read.
    """

    sheet: Image.Image
    paths: list[Path]
    psnr: list[float]
    skipped: list[Path]


def load_autoencoder(directory: Path | None = None, device: str = "auto") -> RAE:
    """The autoencoder of a directory; by default the bundled nano one.

    Raises:
        UserError: no autoencoder there.
    """
    path = Path(str(resources.files("raekit"))) / BUNDLED if directory is None else directory
    return RAE.load(path, pick_device(device)).eval()


@torch.no_grad()
def reconstruct_files(rae: RAE, paths: Sequence[Path]) -> Reconstruction:
    """Encode and decode picture files; unreadable ones are left out and listed.

    Raises:
        UserError: none of the pictures can be read.
    """
    images, read, skipped = [], [], []
    for path in paths:
        try:
            images.append(_read_square(path, rae.output_size))
            read.append(path)
        except (BadSample, OSError):
            skipped.append(path)
    if not images:
        raise UserError(
            f"images: none of {len(paths)} can be read, e.g. {str(paths[0])!r}; give PNG, JPEG or WebP files"
        )
    image = to_float(torch.stack(images)).to(rae.statistics.mean.device)
    redrawn = rae(image).clamp(0, 1)
    sheet = image_grid(torch.cat([image, redrawn]).cpu(), columns=len(images))
    return Reconstruction(sheet, read, psnr(redrawn, image).tolist(), skipped)


def _read_square(path: Path, size: int) -> Tensor:
    """A picture file, on white and cropped to a square: uint8 ``[3,S,S]``."""
    pixels = decode_image(path.read_bytes(), str(path))
    if pixels.shape[2] == 4:
        pixels = compose(pixels, WHITE)
    return torch.from_numpy(np.ascontiguousarray(to_chw(centre_crop(pixels, size))))
