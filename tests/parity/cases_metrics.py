"""Parity of metrics: PSNR, SSIM, the Fréchet distance, and the pixels that they are taken on."""

from __future__ import annotations

import torch
from torch import Tensor

from parity.case import Case
from raekit.data.transforms import centre_crop, to_float, to_uint8_truncated
from raekit.metrics.frechet import FeatureStatistics, distance, frechet_distance
from raekit.metrics.reconstruction import psnr, ssim


def metrics(case: Case) -> dict[str, Tensor]:
    """Every output of the case."""
    reference, redrawn = (
        to_float(case.inputs[name].to(torch.uint8).permute(0, 3, 1, 2)) for name in ("images_ref", "images_rec")
    )
    found = {"psnr_each": psnr(redrawn, reference), "ssim_each": ssim(redrawn, reference)}
    found |= {"psnr_mean": found["psnr_each"].mean(), "ssim_mean": found["ssim_each"].mean()}
    found["eval_uint8"] = to_uint8_truncated(case.inputs["float_image"]).permute(0, 2, 3, 1)
    for number, size in enumerate(case.config["crop_sizes"]):
        image = case.inputs[f"crop_image_{number}"].to(torch.uint8).numpy()
        found[f"center_crop_{number}"] = torch.from_numpy(centre_crop(image, size).copy())
    return found | distances(case)


def distances(case: Case) -> dict[str, Tensor]:
    """Two sets of full rank from their features, in batches of seven.

    The third covariance has no full rank, and the stored distance depends on its float32 rounding: it is taken as it
    is stored.
    """
    sets = {}
    for number in (1, 2):
        sets[number] = FeatureStatistics(case.inputs[f"features_{number}"].shape[1])
        for batch in case.inputs[f"features_{number}"].split(7):
            sets[number].update(batch)
    moments = {number: (case.inputs[f"mu_{number}"], case.inputs[f"sigma_{number}"]) for number in (1, 3)}
    return {
        "fid_12": torch.tensor(distance(sets[1], sets[2]).value),
        "fid_11": torch.tensor(distance(sets[1], sets[1]).value),
        "fid_13_rank_deficient": torch.tensor(frechet_distance(*moments[1], *moments[3])),
    }


CASES = {"rae_08_metrics": metrics}
