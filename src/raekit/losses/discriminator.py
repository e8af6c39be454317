"""The discriminator: small trained heads on a frozen vision transformer, as in StyleGAN-T (arXiv 2301.09515).

In: image ``[B,3,H,W]`` in [0,1]. Out: logits ``[B,L]``, one for each token of each tap, high for real pictures. Of five
taps the first and the last are the same final block, as published (RAE, appendix C.2). Only the heads are trained and
saved; the frozen network stays outside the module tree and merely moves along with it.

Parameter names are those of the published files. Nothing in a head mixes samples, unless ``norm`` is ``batch``, and the
spectral norm depends on the weights alone: two processes with equal weights and averaged gradients stay equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from raekit import config
from raekit.encoders import ENCODERS
from raekit.encoders.base import EncoderConfig
from raekit.errors import UserError
from raekit.losses.dino import DINO, PRESETS
from raekit.losses.taps import Tapped, count_from_one, quarters

if TYPE_CHECKING:
    EncoderChoice = EncoderConfig
else:
    EncoderChoice = config.component(ENCODERS)

Norm = Literal["bn", "gn", "batch"]

NORM_EPS = 1e-6
SPECTRAL_EPS = 1e-12
START_ITERATIONS = 15
"""Power iterations before the first step, so that a fresh head has norm 1 in evaluation too."""
GROUPS = 32
SLOPE = 0.2
"""Of the leaky ReLUs."""
NO_ENCODER = "discriminator.encoder: this latent space has no encoder to look through; name one"


class Discriminator(nn.Module):
    """Heads on the taps of a frozen network.

    Args:
        config: form of the heads, and which blocks they read.
        backbone: the frozen network, see :func:`load_backbone`.

    Raises:
        UserError: a block that the network does not have, or a width that ``gn`` cannot group.
    """

    class Config(config.Config):
        """Which frozen network, and the heads on it."""

        name: Literal["features"] = "features"
        backbone: Literal["dino_s8", "dino_s16", "dino_b16", "encoder"] = "dino_s8"
        """A published DINO (RAE: ``dino_s8``, Scale-RAE: ``dino_s16``), fed 224 px; or an encoder, fed its own size."""
        weights: str | None = None
        """DINO's weights: safetensors file, its directory, or a hub id; None = the hub's."""
        encoder: EncoderChoice | None = None
        """For ``backbone: encoder``: which one; None = the latent space's own."""
        layers: tuple[int, ...] | None = Field(None, min_length=1)
        """Blocks that are read, from 1 on or backwards from -1, one head each; None = the last, then the end of each
        quarter: 12, 3, 6, 9, 12 of 12."""
        kernel_size: int = Field(9, gt=0)
        """Tokens under the second convolution of a head, in raster order; odd."""
        norm: Norm = "bn"
        """``bn``: batch norm over each sample by itself, as the published code does; ``gn``: 32 groups; ``batch``: over
        the batch, as RAE's text says (then each process has its own statistics, and micro-batches matter)."""
        has_spectral_norm: bool = True
        """Divide the weight of each convolution by its largest singular value."""

        @model_validator(mode="after")
        def _check(self) -> Discriminator.Config:
            if self.kernel_size % 2 == 0:
                raise ValueError(f"kernel_size: {self.kernel_size} is even; give an odd number")
            if self.backbone == "encoder" and self.weights is not None:
                raise ValueError("weights: belongs to a DINO; name an encoder's weights in encoder.path")
            if self.backbone != "encoder" and self.encoder is not None:
                raise ValueError(f"encoder: the backbone is {self.backbone}; set backbone to encoder")
            return self

    def __init__(self, config: Config, backbone: Tapped) -> None:
        super().__init__()
        self.config = config
        self.layers = count_from_one(config.layers or (-1, *quarters(backbone.depth)), backbone.depth)
        if config.norm == "gn" and backbone.width % GROUPS:
            raise UserError(f"discriminator.norm: gn makes {GROUPS} groups, the width is {backbone.width}; use bn")
        # A tuple, because a module assigned to an attribute would be saved and trained.
        self._backbone = (backbone,)
        self.heads = nn.ModuleList(_head(backbone.width, config) for _ in self.layers)

    @classmethod
    def build(cls, config: Config, encoder: Tapped | None = None) -> Discriminator:
        """Heads on the network that the settings name, see :func:`load_backbone`."""
        return cls(config, load_backbone(config, encoder))

    @classmethod
    def outline(cls, config: Config, encoder: Tapped | None = None) -> Discriminator:
        """As :meth:`build`, on the meta device: to be counted, without a weight or a download."""
        backbone = encoder
        if config.backbone != "encoder":
            with torch.device("meta"):
                backbone = DINO(PRESETS[config.backbone])
        elif config.encoder is not None:
            backbone = ENCODERS[config.encoder.model_dump()["name"]].outline(config.encoder)
        if backbone is None:
            raise UserError(NO_ENCODER)
        with torch.device("meta"):
            return cls(config, backbone)

    @property
    def backbone(self) -> Tapped:
        """The frozen network."""
        return self._backbone[0]

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``[B,L]``, ``L`` = number of taps x tokens; in train mode the spectral norms move one iteration."""
        dtype = next(self.heads.parameters()).dtype
        taps = [tap.transpose(1, 2).to(dtype) for tap in self.taps(image)]
        return torch.cat([head(tap).flatten(1) for head, tap in zip(self.heads, taps, strict=True)], dim=1)

    def taps(self, image: Tensor) -> list[Tensor]:
        """What each head reads, ``[B,N,D]``; a block that two heads share is read once."""
        layers = tuple(dict.fromkeys(self.layers))
        found = dict(zip(layers, self.backbone.taps(image, layers), strict=True))
        return [found[layer] for layer in self.layers]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Discriminator:
        """What ``.to`` and its kin call: the frozen network moves with the heads."""
        if isinstance(self.backbone, nn.Module):
            self.backbone._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def load_backbone(config: Discriminator.Config, encoder: Tapped | None = None) -> Tapped:
    """The frozen network that the settings name.

    Args:
        config: settings of the discriminator.
        encoder: the latent space's own, taken where ``backbone`` is ``encoder`` and no other one is named.

    Raises:
        UserError: missing weights, or no encoder to take.
    """
    if config.backbone != "encoder":
        return DINO.load(config.backbone, config.weights)
    if config.encoder is not None:
        named: Tapped = ENCODERS.build(config.encoder)
        return named
    if encoder is None:
        raise UserError(NO_ENCODER)
    return encoder


class Residual(nn.Module):
    """``(fn(x) + x) / sqrt(2)``, which keeps the variance.

    Args:
        fn: a layer whose output has the shape of its input.
    """

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that ``fn`` takes."""
        out: Tensor = (self.fn(x) + x) / math.sqrt(2)
        return out


class SpectralConv1d(nn.Conv1d):
    """A circular convolution whose weight, as a matrix ``[out, in * k]``, is divided by its largest singular value.

    The value is ``u^T W v``; each forward in train mode improves ``u`` and ``v`` by one power iteration first, in the
    order of the published discriminators (``v``, then ``u``), which is not that of PyTorch's parametrisation.

    Args:
        channels: number of input channels.
        out_channels: number of output channels.
        kernel_size: odd.
    """

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(channels, out_channels, kernel_size, padding=kernel_size // 2, padding_mode="circular")
        self.weight_orig = nn.Parameter(self.weight.detach())
        del self.weight
        matrix = self.weight_orig.detach().flatten(1)
        self.register_buffer("weight_u", F.normalize(torch.randn_like(matrix[:, 0]), dim=0))
        self.register_buffer("weight_v", F.normalize(torch.randn_like(matrix[0]), dim=0))
        for _ in range(0 if matrix.is_meta else START_ITERATIONS):
            self.iterate()

    @torch.no_grad()
    def iterate(self) -> None:
        """One power iteration."""
        matrix = self.weight_orig.flatten(1)
        self.weight_v.copy_(F.normalize(matrix.T @ self.weight_u, dim=0, eps=SPECTRAL_EPS))
        self.weight_u.copy_(F.normalize(matrix @ self.weight_v, dim=0, eps=SPECTRAL_EPS))

    def forward(self, input: Tensor) -> Tensor:
        """``[B,C,N]`` to ``[B,out,N]``."""
        # In full precision: a bf16 singular value would be a random walk of the learning rate.
        with torch.autocast(input.device.type, enabled=False):
            if self.training:
                self.iterate()
            # Copies, because the next iteration would change what this forward's backward needs.
            u, v = self.weight_u.clone(), self.weight_v.clone()
            weight = self.weight_orig / (u @ (self.weight_orig.flatten(1) @ v))
        out: Tensor = self._conv_forward(input, weight, self.bias)
        return out


class SampleNorm(nn.InstanceNorm1d):
    """The published batch norm with virtual batches of one: each channel of each sample over its tokens, in float32.

    Args:
        channels: number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=NORM_EPS, affine=True)

    def forward(self, input: Tensor) -> Tensor:
        """``[B,C,N]`` to the same shape and dtype."""
        exact = input.to(torch.promote_types(input.dtype, torch.float32))
        normalised: Tensor = super().forward(exact)
        return normalised.to(input.dtype)


def _head(width: int, config: Discriminator.Config) -> nn.Sequential:
    """Two blocks, the second one residual, and one logit per token: ``[B,C,N]`` to ``[B,1,N]``."""
    block = _block(width, 1, config)
    return nn.Sequential(block, Residual(_block(width, config.kernel_size, config)), _convolution(width, 1, 1, config))


def _block(width: int, kernel_size: int, config: Discriminator.Config) -> nn.Sequential:
    norms: dict[Norm, Callable[[], nn.Module]] = {
        "bn": lambda: SampleNorm(width),
        "gn": lambda: nn.GroupNorm(GROUPS, width, eps=NORM_EPS),
        "batch": lambda: nn.BatchNorm1d(width, eps=NORM_EPS),
    }
    return nn.Sequential(
        _convolution(width, width, kernel_size, config), norms[config.norm](), nn.LeakyReLU(SLOPE, inplace=True)
    )


def _convolution(channels: int, out_channels: int, kernel_size: int, config: Discriminator.Config) -> nn.Conv1d:
    if config.has_spectral_norm:
        return SpectralConv1d(channels, out_channels, kernel_size)
    kwargs: dict[str, Any] = {"padding": kernel_size // 2, "padding_mode": "circular"}
    return nn.Conv1d(channels, out_channels, kernel_size, **kwargs)
