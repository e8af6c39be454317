"""Latent statistics of the published systems, in and out.

In: RAE's ``stat.pt`` (``mean``, ``var``), Scale-RAE's (``running_mean``, ``running_var``), or the two buffers of
diffusers' AutoencoderRAE. Out: :class:`LatentStatistics`; and back. They differ in how a small number is kept out of
the divisor: the first two divide by ``sqrt(var + 1e-5)``, diffusers by ``std + 1e-5``, where its published ``std``
already contains the first one's. Both are converted by what they divide by, so that latents stay what they were.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from raekit.autoencoder.latent import LatentStatistics, to_grid, to_tokens
from raekit.errors import UserError
from raekit.files import atomic_file
from raekit.interop.files import read_ledger
from raekit.interop.ledger import Ledger

EPS = 1e-5
"""Added to the variance by RAE and Scale-RAE, and to the standard deviation by diffusers."""
DIFFUSERS_MEAN, DIFFUSERS_STD = "_latents_mean", "_latents_std"


def import_statistics(path: Path) -> LatentStatistics:
    """Published latent statistics: RAE's ``{"mean", "var"}`` or Scale-RAE's ``{"running_mean", "running_var"}``.

    Either may be absent (0 and 1). Shapes: ``[C,h,w]``, ``[1,C,h,w]``, ``[C,1,1]``, or tokens ``[N,C]``.

    Raises:
        UserError: neither is there, another key, or another shape.
    """
    file = read_ledger(path)
    source = f"statistics {str(path)!r}"
    ledger = Ledger({key.removeprefix("running_"): value for key, value in file.tensors.items()}, source)
    found = ledger.take(("mean", "var"), {"mean": "0", "var": "1"})
    ledger.check()
    if not found:
        raise UserError(f"{source}: holds neither mean nor var; name a file of latent statistics")
    mean, var = found.get("mean", torch.zeros(1)), found.get("var", torch.ones(1))
    return LatentStatistics(*_together(_as_grid(mean, source), _as_grid(var, source), source), EPS)


def fitted(statistics: LatentStatistics, shape: tuple[int, int, int], source: str) -> LatentStatistics:
    """Statistics for latents of ``shape`` ``(C,h,w)``: checked, and one number for all repeated for each channel.

    Raises:
        UserError: they belong to latents of another shape.
    """
    if statistics.mean.numel() == 1:
        mean, var = (value.expand(shape[0], 1, 1) for value in (statistics.mean, statistics.var))
        return LatentStatistics(mean, var, statistics.eps)
    if tuple(statistics.mean.shape) not in (shape, (shape[0], 1, 1)):
        raise UserError(f"{source}: made for latents {list(statistics.mean.shape)}, these are {list(shape)}")
    return statistics


def export_statistics(statistics: LatentStatistics, path: Path) -> None:
    """Write RAE's ``stat.pt``, the inverse of :func:`import_statistics`."""
    _write({"mean": statistics.mean.cpu(), "var": published_var(statistics)}, path)


def export_running_statistics(statistics: LatentStatistics, path: Path) -> None:
    """Write Scale-RAE's form: ``running_mean`` and ``running_var``, one row ``[C]`` a token (or one for all)."""
    values = {"running_mean": statistics.mean.cpu(), "running_var": published_var(statistics)}
    _write({key: to_tokens(value.unsqueeze(0)).squeeze(0) for key, value in values.items()}, path)


def published_var(statistics: LatentStatistics) -> Tensor:
    """The variance ``[C,h,w]`` to which 1e-5 is added elsewhere; our own where that is what we add.

    Raises:
        UserError: a standard deviation below ``sqrt(1e-5)``, which such a file cannot say.
    """
    if statistics.eps == EPS:
        return statistics.var.cpu()
    var = statistics.var.double().cpu() + (statistics.eps - EPS)
    if (var < 0).any():
        raise UserError(f"statistics: a standard deviation below {EPS**0.5:.4f} has no place in this layout")
    return var.float()


def take_statistics(ledger: Ledger, scaling_factor: float = 1.0) -> LatentStatistics:
    """The latent statistics among diffusers' tensors, as what they divide by.

    Latents there are ``(z - mean) / (std + 1e-5) * scaling_factor``.

    Args:
        ledger: of the file; the two buffers count as loaded.
        scaling_factor: of its ``config.json``.
    """
    found = ledger.take((DIFFUSERS_MEAN, DIFFUSERS_STD))
    mean, std = (_as_grid(value, ledger.source).double() for value in found.values())
    mean, divisor = _together(mean, (std + EPS) / scaling_factor, ledger.source)
    return LatentStatistics(mean.float(), divisor.square().float(), eps=0.0)


def diffusers_statistics(statistics: LatentStatistics) -> dict[str, Tensor]:
    """The inverse of :func:`take_statistics`; statistics that are the same everywhere become one number each."""
    std = (statistics.var.double() + statistics.eps).sqrt() - EPS
    values = {DIFFUSERS_MEAN: statistics.mean, DIFFUSERS_STD: std.float()}
    if all((value == value.flatten()[0]).all() for value in values.values()):
        return {key: value.flatten()[:1].cpu().clone() for key, value in values.items()}
    return {key: value.cpu().clone() for key, value in values.items()}


def is_identity(statistics: LatentStatistics) -> bool:
    """Whether latents are the encoder's tokens as they are."""
    return bool((statistics.mean == 0).all() and (statistics.var + statistics.eps == 1).all())


def _write(content: dict[str, Tensor], path: Path) -> None:
    with atomic_file(Path(path)) as file:
        torch.save({key: value.contiguous() for key, value in content.items()}, file)


def _together(mean: Tensor, other: Tensor, source: str) -> tuple[Tensor, Tensor]:
    """Both with the shape of the larger."""
    try:
        shape = torch.broadcast_shapes(mean.shape, other.shape)  # type: ignore[no-untyped-call]
    except RuntimeError:
        shapes = f"{list(mean.shape)} and {list(other.shape)}"
        raise UserError(f"{source}: mean and spread have shapes {shapes}; check that it is a statistics file") from None
    return mean.expand(shape), other.expand(shape)


def _as_grid(values: Tensor, source: str) -> Tensor:
    """``[C,h,w]`` of any of the accepted shapes; one number for all becomes ``[1,1,1]``."""
    if values.numel() == 1:
        return values.reshape(1, 1, 1)
    if values.ndim == 2:
        return to_grid(values.unsqueeze(0)).squeeze(0)
    if values.ndim == 4 and len(values) == 1:
        return values.squeeze(0)
    if values.ndim != 3:
        raise UserError(f"{source}: shape {list(values.shape)}, expected [C,h,w]; check that it is a statistics file")
    return values
