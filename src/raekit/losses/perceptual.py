"""Perceptual losses: distance between pictures as a frozen network sees them.

In: two batches of images ``[B,3,H,W]`` in [0,1]. Out: a scalar. :class:`EncoderFeatures` compares tokens of the frozen
encoder that a run has anyway and needs no further weights; :class:`LPIPS` is the learned distance on VGG16 features
(arXiv 1801.03924; RAE, appendix C.2), used when its two weight files are at hand. Both also give the feature maps they
look at (``taps``), of which :mod:`raekit.losses.gram` makes another distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raekit.checkpoint import load_strict
from raekit.encoders.base import RepresentationEncoder
from raekit.losses.taps import quarters
from raekit.losses.weights import frozen_weights

VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of VGG16's convolutions; after each stage comes a tap (relu1_2, 2_2, 3_3, 4_3, 5_3), then a max-pool."""
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""LPIPS' own pixel statistics, for inputs in [-1,1]."""
CLASSIFIER = ("classifier.", "pre_logits.", "head.")
"""VGG16's last layers, by torchvision's names and by timm's; LPIPS ends before them."""


class EncoderFeatures(nn.Module):
    """Mean squared distance between the encoder's tokens of two pictures.

    Args:
        encoder: a frozen encoder; not registered here, so that it is neither saved nor trained twice.
        layers: the blocks that :meth:`taps` reads, from 1 on or backwards from -1; None = the end of each quarter.
    """

    def __init__(self, encoder: RepresentationEncoder, layers: Sequence[int] | None = None) -> None:
        super().__init__()
        self._encoder = (encoder,)
        self.layers = layers

    def forward(self, image: Tensor, target_tokens: Tensor) -> Tensor:
        """Distance of ``image`` to a picture whose tokens ``[B,N,D]`` are known already."""
        tokens: Tensor = self._encoder[0].features(image)
        return (tokens.float() - target_tokens.float()).square().mean()

    def taps(self, image: Tensor) -> list[Tensor]:
        """Tokens ``[B,N,D]`` after some blocks, each normalised to mean 0 and variance 1 over its channels.

        Inside a vision transformer tokens grow from block to block; normalised, all taps count alike.
        """
        encoder = self._encoder[0]
        layers = quarters(encoder.depth) if self.layers is None else self.layers
        return [F.layer_norm(tap.float(), tap.shape[-1:]) for tap in encoder.taps(image, layers)]


class LPIPS(nn.Module):
    """Learned perceptual distance.

    Args:
        stages: channels of the convolutions of each stage; VGG16's unless a test makes it smaller.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, stages: tuple[tuple[int, ...], ...] = VGG16_STAGES) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_stage(channels) for channels in zip(_inputs(stages), stages, strict=True))
        self.weights = nn.ParameterList(torch.zeros(1, stage[-1], 1, 1) for stage in stages)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    @classmethod
    def from_files(cls, vgg: str | Path, heads: str | Path) -> LPIPS:
        """Load torchvision's VGG16 and the LPIPS heads by their published key names.

        Args:
            vgg: safetensors file, directory or hub id (see :func:`frozen_weights`), e.g. ``timm/vgg16.tv_in1k``.
            heads: as ``vgg``; may be the same file.

        Raises:
            UserError: a missing or damaged file, one to convert first, or keys that do not fit (named).
        """
        loss = cls()
        published = frozen_weights(vgg, "lpips_vgg") | frozen_weights(heads, "lpips_heads")
        load_strict(loss, from_published(published, VGG16_STAGES), f"{vgg} and {heads}")
        return loss

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Mean distance over the batch."""
        return self.per_sample(image, target).mean()

    def per_sample(self, image: Tensor, target: Tensor) -> Tensor:
        """Distance of each pair, ``[B]``."""
        return self.distance(self.taps(image), self.taps(target))

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """Distance of each pair, ``[B]``, from the :meth:`taps` of both."""
        parts = [
            ((_unit(x) - _unit(y)).square() * weight).sum(dim=1).mean(dim=(1, 2))
            for weight, x, y in zip(self.weights, a, b, strict=True)
        ]
        return torch.stack(parts).sum(dim=0)

    def taps(self, image: Tensor) -> list[Tensor]:
        """VGG16's features ``[B,C,h,w]`` after each stage: relu1_2, 2_2, 3_3, 4_3, 5_3."""
        x = (image * 2 - 1 - self.shift) / self.scale
        found = []
        for index, stage in enumerate(self.stages):
            x = stage(x if index == 0 else F.max_pool2d(x, 2))
            found.append(x)
        return found


def from_published(published: Mapping[str, Tensor], stages: tuple[tuple[int, ...], ...]) -> dict[str, Tensor]:
    """Published names to ours: ``features.N.*`` of torchvision's VGG16, ``linK.model.1.weight`` of LPIPS.

    What is neither keeps its name (so that a strict load complains of it), but for VGG16's classifier, which is left
    out.
    """
    names = published_names(stages)
    kept = {key: value for key, value in published.items() if not key.startswith(CLASSIFIER)}
    return {names.get(key, key): value for key, value in kept.items()}


def published_names(stages: tuple[tuple[int, ...], ...]) -> dict[str, str]:
    """Each published name with ours: a convolution and its ReLU count as two, the pool behind a stage as one."""
    names = {f"lin{k}.model.1.weight": f"weights.{k}" for k in range(len(stages))}
    index = 0
    for k, stage in enumerate(stages):
        for j in range(len(stage)):
            names |= {f"features.{index}.{kind}": f"stages.{k}.{2 * j}.{kind}" for kind in ("weight", "bias")}
            index += 2
        index += 1
    return names


def _inputs(stages: tuple[tuple[int, ...], ...]) -> list[int]:
    return [3, *(stage[-1] for stage in stages[:-1])]


def _stage(channels: tuple[int, tuple[int, ...]]) -> nn.Sequential:
    width, outputs = channels
    layers: list[nn.Module] = []
    for output in outputs:
        layers += [nn.Conv2d(width, output, 3, padding=1), nn.ReLU()]
        width = output
    return nn.Sequential(*layers)


def _unit(features: Tensor) -> Tensor:
    """Features scaled to unit length over the channels; the floor is added to the norm, as published."""
    features = features.float()
    unit: Tensor = features / (features.norm(dim=1, keepdim=True) + 1e-10)
    return unit
