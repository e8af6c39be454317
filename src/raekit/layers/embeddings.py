"""Where a token is, and what time it is: position tables, rotary tables, patch and time embeddings.

In: grid sizes, times, latents. Out: tables ``[N, D]``, embeddings ``[B, D]`` or ``[B, N, D]``. Tokens are numbered in
raster order, row by row. Tables are computed in float64 and stored in float32, on the CPU whatever the default device,
so that they are real numbers even in a model built on the meta device. RAE paper, appendix D; the seed of the time
frequencies is Scale-RAE's.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raekit.errors import UserError

TIME_FREQUENCIES = 256
"""Length of the Fourier vector ``W`` of all published models."""

TIME_SEED = 114514
"""Seed of Scale-RAE's ``W``, which its checkpoints do not hold: it has to be drawn again from this number."""


def sincos_2d(width: int, grid: int | tuple[int, int], cls_token: bool = False) -> Tensor:
    """Fixed 2-D sine-cosine position table.

    The first half of the channels encodes the column, the second half the row; each half is
    ``[sin(p w_k), cos(p w_k)]`` with ``w_k = 10000^(-k / (width / 4))`` and ``p = 0, 1, ...``.

    Args:
        width: channels; a multiple of 4.
        grid: rows and columns, or one number for both.
        cls_token: put a row of zeros first, for a class token.

    Returns:
        ``[h * w (+ 1), width]`` float32.

    Raises:
        UserError: ``width`` is not a multiple of 4.
    """
    _needs_multiple_of_4("width", width)
    omega = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64, device="cpu") / (width // 4))
    rows, columns = _grid_positions(grid)
    halves = [torch.cat((angle.sin(), angle.cos()), dim=1) for angle in (columns * omega, rows * omega)]
    table = torch.cat(halves, dim=1).float()
    return F.pad(table, (0, 0, 1, 0)) if cls_token else table


def rope_2d(head_dim: int, grid: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Tables of axial rotary positions.

    The first half of the head turns with the row, the second half with the column, at frequencies
    ``10000^(-2j / half)``; each angle stands on two adjacent channels, the pair that it rotates.

    Args:
        head_dim: channels of one head; a multiple of 4.
        grid: rows and columns, or one number for both.

    Returns:
        ``(cos, sin)``, each ``[h * w, head_dim]`` float32.

    Raises:
        UserError: ``head_dim`` is not a multiple of 4.
    """
    _needs_multiple_of_4("head_dim (width / heads)", head_dim)
    half = head_dim // 2
    frequencies = 10000.0 ** -(torch.arange(0, half, 2, dtype=torch.float64, device="cpu") / half)
    angles = torch.cat([position * frequencies for position in _grid_positions(grid)], dim=1)
    angles = angles.repeat_interleave(2, dim=1)
    return angles.cos().float(), angles.sin().float()


class Rope2d(nn.Module):
    """Holds the rotary tables as buffers that are saved and loaded with the model."""

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, grid: int | tuple[int, int]) -> None:
        super().__init__()
        self.shape = (head_dim, grid)
        cos, sin = rope_2d(head_dim, grid)
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def reset(self) -> None:
        """Write the analytic tables, after a build on the meta device."""
        for buffer, table in zip((self.cos, self.sin), rope_2d(*self.shape), strict=True):
            buffer.copy_(table)

    def forward(self) -> tuple[Tensor, Tensor]:
        """``(cos, sin)``, each ``[N, head_dim]``."""
        return self.cos, self.sin


def time_frequencies(seed: int = TIME_SEED) -> Tensor:
    """The Fourier vector ``W``: 256 draws of N(0, 1), the same on every machine."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.normal(0.0, 1.0, (TIME_FREQUENCIES,), generator=generator, device="cpu")


class GaussianFourierTime(nn.Module):
    """Time to a vector: ``out(silu(hidden([sin(2 pi t W), cos(2 pi t W)])))``, in float32 even under autocast.

    ``W`` is a buffer: fixed, but part of the state, because released RAE checkpoints carry their own.

    Args:
        width: size of the vector, ``Z``.
    """

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", time_frequencies())
        self.hidden = nn.Linear(2 * TIME_FREQUENCIES, width)
        self.out = nn.Linear(width, width)
        self.reset()

    def reset(self) -> None:
        """Initial values: weights N(0, 0.02), the published ``W``; biases stay as they are."""
        for layer in (self.hidden, self.out):
            nn.init.normal_(layer.weight, std=0.02)
        self.frequencies.copy_(time_frequencies())

    def forward(self, t: Tensor) -> Tensor:
        """``t`` ``[B]`` in [0, 1] (not times 1000) to ``[B, Z]``."""
        weights = self.hidden.weight.dtype
        exact = torch.promote_types(weights, torch.float32)
        with torch.autocast(t.device.type, enabled=False):
            phase = 2 * math.pi * t.to(exact)[:, None] * self.frequencies.to(exact)
            features = torch.cat((phase.sin(), phase.cos()), dim=1).to(weights)
            embedded: Tensor = self.out(F.silu(self.hidden(features)))
        return embedded


class PatchEmbed(nn.Module):
    """Latent to tokens: one linear map of each ``p x p`` patch, in raster order.

    Equal to a convolution with kernel and stride ``p``; as a matrix product it needs no layout change for ``p = 1``.

    Args:
        channels: latent channels ``C``.
        width: token width ``D``.
        patch_size: ``p``.
    """

    def __init__(self, channels: int, width: int, patch_size: int = 1) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Linear(channels * patch_size**2, width)
        self.reset()

    def reset(self) -> None:
        """Initial values: Xavier-uniform on the flattened kernel, zero bias."""
        nn.init.xavier_uniform_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, latent: Tensor) -> Tensor:
        """``[B, C, h, w] -> [B, (h / p) * (w / p), D]``; values of a patch run in the order (channel, row, column)."""
        p = self.patch_size
        B, C, height, width = latent.shape
        patches = latent.reshape(B, C, height // p, p, width // p, p)
        tokens: Tensor = self.proj(patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2))
        return tokens


def unpatchify(tokens: Tensor, grid: tuple[int, int], patch_size: int = 1) -> Tensor:
    """Tokens ``[B, h * w, p * p * C]``, values in the order (row, column, channel), to ``[B, C, h * p, w * p]``."""
    patches = tokens.reshape(len(tokens), *grid, patch_size, patch_size, -1)
    return patches.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def _grid_positions(grid: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Row and column of every token in raster order, each ``[N, 1]`` float64."""
    height, width = (grid, grid) if isinstance(grid, int) else grid
    rows = torch.arange(height, dtype=torch.float64, device="cpu").repeat_interleave(width)
    columns = torch.arange(width, dtype=torch.float64, device="cpu").repeat(height)
    return rows[:, None], columns[:, None]


def _needs_multiple_of_4(field: str, width: int) -> None:
    if width % 4:
        raise UserError(f"{field}: {width} is not a multiple of 4, which 2-D positions need; change it")
