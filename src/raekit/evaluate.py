"""Measuring a model on pictures it was not trained on.

In: an autoencoder and a data set. Out: a report that says what was measured, on how many pictures, with which model.
Metrics are means over single pictures, so they do not depend on the batch size.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from raekit import checkpoint
from raekit.autoencoder.rae import RAE
from raekit.data.dataset import Dataset
from raekit.data.loader import Loader
from raekit.data.transforms import to_float
from raekit.errors import UserError
from raekit.metrics.reconstruction import psnr

BATCH_SIZE = 64


@dataclass(frozen=True)
class ReconstructionReport:
    """What :func:`evaluate_reconstruction` found.

    Attributes:
        checksum: of the autoencoder.
        num_images: pictures measured.
        num_skipped: unreadable pictures, replaced by the next readable ones.
        psnr: mean over the pictures, dB.
        psnr_standard_error: of that mean, dB.
        images_per_second: encode and decode together.
    """

    checksum: str
    num_images: int
    num_skipped: int
    psnr: float
    psnr_standard_error: float
    images_per_second: float

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        with checkpoint.atomic_file(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


@torch.no_grad()
def evaluate_reconstruction(rae: RAE, dataset: Dataset, num_images: int) -> ReconstructionReport:
    """PSNR of the first ``num_images`` pictures of a data set after encoding and decoding, without noise.

    Raises:
        UserError: fewer than two pictures asked for.
    """
    count = min(num_images, len(dataset))
    if count < 2:
        raise UserError(f"num: {count} pictures are too few for a mean and its error; measure at least 2")
    values, skipped = [], 0
    device = rae.statistics.mean.device
    start = time.perf_counter()
    for batch in Loader(dataset, min(count, BATCH_SIZE), stop=count):
        image = to_float(batch.image.to(device))
        if image.shape[-1] != rae.output_size:
            image = F.interpolate(image, (rae.output_size,) * 2, mode="bicubic", antialias=True).clamp(0, 1)
        values.append(psnr(rae(image), image).double().cpu())
        skipped += batch.num_skipped
    seconds = time.perf_counter() - start
    every = torch.cat(values)
    error = float(every.std()) / math.sqrt(count)
    return ReconstructionReport(rae.checksum, count, skipped, float(every.mean()), error, count / seconds)
