"""InceptionV3 as the FID knows it, in plain PyTorch: the 2015 TensorFlow graph, quirks included.

In: images ``[B,3,H,W]`` in [0,1]. Out: the 2,048 numbers behind the last pool. It is torch-fidelity's
``inception-v3-compat`` (what RAE's rFID was taken with), without its dependency on torchvision, and reads that
network's published weight file. What TensorFlow's graph does differently from torchvision's network: TF 1's bilinear
resize to 299 px, average pools that leave the padding out, and a max pool in the last block.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raekit import config
from raekit.checkpoint import load_strict
from raekit.errors import UserError
from raekit.losses.weights import frozen_weights
from raekit.metrics.features import FeatureNetwork

SIDE = 299
"""Side of the picture the network sees, pixels."""

WEIGHTS_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
"""The published weights, a PyTorch file of 91 MB."""

CLASSIFIER = ("fc.", "AuxLogits.")
"""Weights in published files that lie behind the features."""

Kernel = int | tuple[int, int]

Layer = tuple[str, int, Kernel]
"""A convolution: its published name, output channels, kernel."""

Branch = tuple[Layer | tuple[Layer, Layer], ...]
"""Convolutions one after another; a pair at the end reads the same input side by side."""


class Convolution(nn.Module):
    """Convolution without bias, normalisation, ReLU; padded to keep the size unless it strides by 2."""

    def __init__(self, width: int, output: int, kernel: Kernel, stride: int = 1, pads: bool = True) -> None:
        super().__init__()
        height, across = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, across // 2) if pads and stride == 1 else (0, 0)
        self.conv = nn.Conv2d(width, output, (height, across), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(output, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """``[B,C,h,w]`` to ``[B,output,h',w']``."""
        normalised: Tensor = self.bn(self.conv(x))
        return F.relu(normalised)


class Block(nn.Module):
    """Branches over one input and a pooled branch, side by side.

    Args:
        width: input channels.
        branches: the convolutions of each.
        pool: ``average`` or ``max``, then a convolution of ``pooled`` channels; ``halve`` has none, and with it the
            last convolution of every branch strides by 2 as well.
        pooled: output channels of the pooled branch.
    """

    def __init__(
        self, width: int, branches: Sequence[Branch], pool: Literal["average", "max", "halve"], pooled: int = 0
    ) -> None:
        super().__init__()
        self.branches, self.pool = branches, pool
        self.width = width if pool == "halve" else pooled
        for branch in branches:
            inputs = width
            for place, step in enumerate(branch):
                stride = 2 if pool == "halve" and place == len(branch) - 1 else 1
                for name, output, kernel in _side_by_side(step):
                    self.add_module(name, Convolution(inputs, output, kernel, stride))
                inputs = sum(output for _, output, _ in _side_by_side(step))
            self.width += inputs
        if pool != "halve":
            self.branch_pool = Convolution(width, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B,width,h,w]`` to ``[B,self.width,h',w']``."""
        outputs = []
        for branch in self.branches:
            y = x
            for step in branch:
                y = torch.cat([self.get_submodule(name)(y) for name, _, _ in _side_by_side(step)], dim=1)
            outputs.append(y)
        return torch.cat([*outputs, self._pooled(x)], dim=1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "halve":
            return F.max_pool2d(x, 3, stride=2)
        if self.pool == "max":
            x = F.max_pool2d(x, 3, stride=1, padding=1)
        else:
            x = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        pooled: Tensor = self.branch_pool(x)
        return pooled


class Inception(FeatureNetwork):
    """InceptionV3 of 2015: the features of the FID; its weights are a file of your own."""

    metric = "fid"
    width = 2048

    class Config(config.Config):
        """Where the weights are."""

        name: Literal["inception"] = "inception"
        path: str | None = None
        """Weights with their published names: a safetensors file, a directory, or a hub id."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.Sequential(_layers())
        if config.path is not None:
            published = frozen_weights(config.path, "inception")
            found = {key: value for key, value in published.items() if not key.startswith(CLASSIFIER)}
            counters = frozenset(key for key in self.layers.state_dict() if key.endswith("num_batches_tracked"))
            load_strict(self.layers, found, f"inception {config.path!r}", optional=counters)
        self.requires_grad_(False).eval()

    @classmethod
    def from_path(cls, path: str | None) -> Inception:
        """The network with the weights at ``path``.

        Raises:
            UserError: no path, or no such weights there.
        """
        if path is None:
            raise UserError(
                f"features: inception needs its weights, which are not shipped; download {WEIGHTS_URL}, run "
                "`raekit convert FILE DIRECTORY` once, and write inception=DIRECTORY"
            )
        return cls(cls.Config(path=path))

    @property
    def source(self) -> str:
        """Where the weights came from."""
        return self.config.path or "random weights"

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Features ``[B,2048]`` of images ``[B,3,H,W]`` in [0,1]."""
        features: Tensor = self.layers((resize_like_tensorflow(255 * image.float(), SIDE) - 128) / 128)
        return features.mean(dim=(2, 3))


def resize_like_tensorflow(image: Tensor, side: int) -> Tensor:
    """Bilinear as in TensorFlow 1, ``[B,C,side,side]``: pixel ``i`` is read at ``i * size / side``, no half pixel."""
    for dim in (2, 3):
        size = image.shape[dim]
        place = torch.arange(side, dtype=torch.float32, device=image.device) * (size / side)
        low = place.long()
        share = (place - low).view(-1, 1) if dim == 2 else place - low
        below, above = image.index_select(dim, low), image.index_select(dim, (low + 1).clamp(max=size - 1))
        image = below + (above - below) * share
    return image


def _side_by_side(step: Layer | tuple[Layer, Layer]) -> tuple[Layer, ...]:
    """The convolutions of one step: one, or two that read the same input."""
    return (step,) if isinstance(step[0], str) else step


def _layers() -> OrderedDict[str, nn.Module]:
    """The network up to its last pool, by published names."""
    layers: dict[str, nn.Module] = {
        "Conv2d_1a_3x3": Convolution(3, 32, 3, stride=2),
        "Conv2d_2a_3x3": Convolution(32, 32, 3, pads=False),
        "Conv2d_2b_3x3": Convolution(32, 64, 3),
        "MaxPool_1": nn.MaxPool2d(3, stride=2),
        "Conv2d_3b_1x1": Convolution(64, 80, 1),
        "Conv2d_4a_3x3": Convolution(80, 192, 3, pads=False),
        "MaxPool_2": nn.MaxPool2d(3, stride=2),
    }
    width = 192
    for letter, pooled in zip("bcd", (32, 64, 64), strict=True):
        layers[f"Mixed_5{letter}"] = Block(width, _blocks_5(), "average", pooled)
        width = 224 + pooled
    layers["Mixed_6a"] = Block(width, _block_6a(), "halve")
    for letter, inner in zip("bcde", (128, 160, 160, 192), strict=True):
        layers[f"Mixed_6{letter}"] = Block(768, _blocks_6(inner), "average", 192)
    layers["Mixed_7a"] = Block(768, _block_7a(), "halve")
    layers["Mixed_7b"] = Block(1280, _blocks_7(), "average", 192)
    layers["Mixed_7c"] = Block(2048, _blocks_7(), "max", 192)
    return OrderedDict(layers)


def _blocks_5() -> list[Branch]:
    return [
        (("branch1x1", 64, 1),),
        (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
        (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
    ]


def _block_6a() -> list[Branch]:
    return [
        (("branch3x3", 384, 3),),
        (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
    ]


def _blocks_6(inner: int) -> list[Branch]:
    across, down = (1, 7), (7, 1)
    return [
        (("branch1x1", 192, 1),),
        (("branch7x7_1", inner, 1), ("branch7x7_2", inner, across), ("branch7x7_3", 192, down)),
        (
            ("branch7x7dbl_1", inner, 1),
            ("branch7x7dbl_2", inner, down),
            ("branch7x7dbl_3", inner, across),
            ("branch7x7dbl_4", inner, down),
            ("branch7x7dbl_5", 192, across),
        ),
    ]


def _block_7a() -> list[Branch]:
    return [
        (("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3)),
        (
            ("branch7x7x3_1", 192, 1),
            ("branch7x7x3_2", 192, (1, 7)),
            ("branch7x7x3_3", 192, (7, 1)),
            ("branch7x7x3_4", 192, 3),
        ),
    ]


def _blocks_7() -> list[Branch]:
    across, down = (1, 3), (3, 1)
    return [
        (("branch1x1", 320, 1),),
        (("branch3x3_1", 384, 1), (("branch3x3_2a", 384, across), ("branch3x3_2b", 384, down))),
        (
            ("branch3x3dbl_1", 448, 1),
            ("branch3x3dbl_2", 384, 3),
            (("branch3x3dbl_3a", 384, across), ("branch3x3dbl_3b", 384, down)),
        ),
    ]
