"""Perceptual losses: distance between pictures as a frozen network sees them.

In: two batches of images ``[B,3,H,W]`` in [0,1]; only the first one receives a gradient. Out: a scalar.
:class:`EncoderFeatures` compares tokens of the frozen encoder that a run has anyway and needs no further weights;
:class:`LPIPS` is the learned distance on VGG16 features (arXiv 1801.03924; RAE, appendix C.2), used when its two weight
files are at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raekit.checkpoint import load_safetensors, load_strict
from raekit.encoders.base import RepresentationEncoder

VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of VGG16's convolutions; after each stage comes a tap (relu1_2, 2_2, 3_3, 4_3, 5_3), then a max-pool."""
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""LPIPS' own pixel statistics, for inputs in [-1,1]."""


class EncoderFeatures(nn.Module):
    """Mean squared distance between the encoder's tokens of two pictures.

    Args:
        encoder: a frozen encoder; not registered here, so that it is neither saved nor trained twice.
    """

    def __init__(self, encoder: RepresentationEncoder) -> None:
        super().__init__()
        self._encoder = (encoder,)

    def forward(self, image: Tensor, target_tokens: Tensor) -> Tensor:
        """Distance of ``image`` to a picture whose tokens ``[B,N,D]`` are known already."""
        tokens: Tensor = self._encoder[0].features(image)
        return (tokens.float() - target_tokens.float()).square().mean()


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
    def from_files(cls, vgg: Path, heads: Path) -> LPIPS:
        """Load torchvision's VGG16 and the LPIPS heads, both as safetensors with their published key names.

        Raises:
            UserError: a missing or damaged file, or keys that do not fit (named).
        """
        loss = cls()
        tensors = from_published(load_safetensors(vgg), load_safetensors(heads), VGG16_STAGES)
        load_strict(loss, tensors, f"{vgg} and {heads}")
        return loss

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Mean distance over the batch."""
        return self.per_sample(image, target).mean()

    def per_sample(self, image: Tensor, target: Tensor) -> Tensor:
        """Distance of each pair, ``[B]``."""
        distance = torch.zeros(len(image), device=image.device)
        for weight, a, b in zip(self.weights, self._taps(image), self._taps(target), strict=True):
            squared = (_unit(a) - _unit(b)).square()
            distance = distance + (squared * weight).sum(dim=1).mean(dim=(1, 2))
        return distance

    def _taps(self, image: Tensor) -> Iterator[Tensor]:
        x = (image * 2 - 1 - self.shift) / self.scale
        for index, stage in enumerate(self.stages):
            x = stage(x if index == 0 else F.max_pool2d(x, 2))
            yield x


def from_published(
    vgg: Mapping[str, Tensor], heads: Mapping[str, Tensor], stages: tuple[tuple[int, ...], ...]
) -> dict[str, Tensor]:
    """Published names (``features.N.*`` of torchvision, ``linK.model.1.weight`` of LPIPS) to ours."""
    tensors = {
        f"weights.{k}": heads[f"lin{k}.model.1.weight"] for k in range(len(stages)) if f"lin{k}.model.1.weight" in heads
    }
    index = 0
    for k, stage in enumerate(stages):
        for j in range(len(stage)):
            for kind in ("weight", "bias"):
                if (key := f"features.{index}.{kind}") in vgg:
                    tensors[f"stages.{k}.{2 * j}.{kind}"] = vgg[key]
            index += 2  # a convolution and its ReLU
        index += 1  # the max-pool behind the stage
    return tensors


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
