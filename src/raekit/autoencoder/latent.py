"""Between tokens and the latent grid: layout, normalisation statistics, and the noise that makes a decoder robust.

In: encoder tokens ``[B,N,C]`` in raster order. Out: latents ``[B,C,h,w]`` of zero mean and unit variance. The noise
functions are pure: random draws come in as arguments, so that training can seed them per sample (RAE, sections 3.2
and 4.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raekit.errors import UserError

Form = Literal["per_position", "per_channel"]
NoiseLaw = Literal["uniform", "half_normal"]

NOISE_LAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform": lambda draws: draws,
    "half_normal": torch.abs,
}
"""Draw to relative noise level. The published code uses ``uniform``: sigma = tau U(0,1); the paper (section 3.2) states
``half_normal``: sigma = abs(N(0, tau^2)). The draws are U[0,1) and N(0,1) respectively."""


def to_grid(tokens: Tensor, patch_size: int = 1) -> Tensor:
    """Tokens ``[B,N,C p^2]`` to a square grid ``[B,C,h,w]``, token ``n`` at row ``n // side``, column ``n % side``.

    With ``patch_size`` p > 1 a token spreads over p x p cells, its channels ordered (channel, row, column), as
    ``im2col`` orders them (Scale-RAE, VAE latents).

    Raises:
        UserError: the token count is not a square.
    """
    batch, num_tokens, width = tokens.shape
    side = math.isqrt(num_tokens)
    if side * side != num_tokens:
        raise UserError(f"tokens: {num_tokens} do not form a square grid; drop class and register tokens first")
    cells = tokens.reshape(batch, side, side, width // patch_size**2, patch_size, patch_size)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(batch, -1, side * patch_size, side * patch_size)


def to_tokens(latent: Tensor, patch_size: int = 1) -> Tensor:
    """Inverse of :func:`to_grid`: ``[B,C,h,w]`` to ``[B,N,C p^2]``, raster order."""
    batch, channels, height, width = latent.shape
    cells = latent.reshape(batch, channels, height // patch_size, patch_size, width // patch_size, patch_size)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch_size**2)


def resize_tokens(tokens: Tensor, grid: int) -> Tensor:
    """Bilinear resize (half-pixel centres) of a square token grid ``[B,N,C]`` to ``[B,grid^2,C]``, in float32."""
    resized = F.interpolate(to_grid(tokens.float()), size=(grid, grid), mode="bilinear", align_corners=False)
    return to_tokens(resized).to(tokens.dtype)


def noise_sigma(law: NoiseLaw, tau: float, draws: Tensor) -> Tensor:
    """Noise level of each sample, ``[B]``, from one draw a sample (see :data:`NOISE_LAWS`); ``tau`` 0: no noise."""
    return tau * NOISE_LAWS[law](draws)


def add_noise(tokens: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    """Raw tokens ``[B,N,C]`` plus ``sigma`` ``[B]`` times standard normal ``eps`` (RAE, section 4.3).

    The decoder is trained on these; they are not normalised by the latent statistics, as in the published code.
    """
    return tokens + sigma.view(-1, 1, 1) * eps


class LatentStatistics(nn.Module):
    """Mean and variance that take a latent to zero mean and unit variance: ``(z - mean) / sqrt(var + eps)``.

    Args:
        mean: ``[C,h,w]`` (per position) or ``[C,1,1]`` (per channel).
        var: biased variance, same shape.
        eps: added to the variance, inside the root (published: 1e-5).
    """

    mean: Tensor
    var: Tensor

    def __init__(self, mean: Tensor, var: Tensor, eps: float = 1e-5) -> None:
        super().__init__()
        if mean.shape != var.shape or mean.ndim != 3:
            raise UserError(
                f"statistics: mean {list(mean.shape)} and var {list(var.shape)} must have one shape, [C,h,w] or [C,1,1]"
            )
        self.register_buffer("mean", mean.detach().float().clone())
        self.register_buffer("var", var.detach().float().clone())
        self.eps = eps

    @classmethod
    def identity(cls, channels: int) -> LatentStatistics:
        """Statistics that change nothing: the latent is the encoder's tokens as they are."""
        return cls(torch.zeros(channels, 1, 1), torch.ones(channels, 1, 1), eps=0.0)

    @property
    def form(self) -> Form:
        """``per_channel`` if one mean serves all positions, else ``per_position``."""
        return "per_channel" if self.mean.shape[1:] == (1, 1) else "per_position"

    def normalise(self, latent: Tensor) -> Tensor:
        """Raw latent ``[B,C,h,w]`` to zero mean and unit variance, in float32."""
        return (latent - self.mean) / torch.sqrt(self.var + self.eps)

    def denormalise(self, latent: Tensor) -> Tensor:
        """Inverse of :meth:`normalise`."""
        return latent * torch.sqrt(self.var + self.eps) + self.mean

    def extra_repr(self) -> str:
        return f"{self.form}, channels={len(self.mean)}, eps={self.eps}"


class StreamingStatistics:
    """Exact mean and biased variance of latents that arrive in batches, in float64.

    Batches are merged by Chan's rule, so the result depends on neither their sizes nor their order (to rounding), and
    the partial results of several processes merge the same way.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros((), dtype=torch.float64)
        self.squares = torch.zeros((), dtype=torch.float64)

    def update(self, latent: Tensor) -> None:
        """Add a batch ``[B,C,h,w]`` of raw (not normalised) latents."""
        values = latent.detach().double()
        batch = StreamingStatistics()
        batch.count = len(values)
        batch.mean = values.mean(dim=0)
        batch.squares = (values - batch.mean).square().sum(dim=0)
        self.merge(batch)

    def merge(self, other: StreamingStatistics) -> None:
        """Add what another instance saw (Chan, Golub and LeVeque 1979)."""
        if other.count == 0:
            return
        total = self.count + other.count
        mean, squares = self.mean.to(other.mean.device), self.squares.to(other.mean.device)
        delta = other.mean - mean
        self.squares = squares + other.squares + delta.square() * (self.count * other.count / total)
        self.mean = mean + delta * (other.count / total)
        self.count = total

    def finish(self, form: Form = "per_position", eps: float = 1e-5) -> LatentStatistics:
        """The statistics so far; ``per_channel`` pools the positions as well.

        Raises:
            UserError: no latents were seen.
        """
        if self.count == 0:
            raise UserError("statistics: no latents were seen; give at least one image")
        mean, var = self.mean, self.squares / self.count
        if form == "per_channel":
            pooled = mean.mean(dim=(1, 2), keepdim=True)
            var = (var + (mean - pooled).square()).mean(dim=(1, 2), keepdim=True)
            mean = pooled
        return LatentStatistics(mean, var, eps)
