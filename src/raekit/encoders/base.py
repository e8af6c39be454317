"""The contract of an encoder: a frozen network from images to tokens.

In: image ``[B,3,H,W]`` in [0,1]. Out: tokens ``[B,N,D]``, raster order, patches only. What is easy to get wrong is said
here once, by name: the resize filter, the pixel statistics, and what happens at the final LayerNorm. The published RAE
drops that norm's affine part, so that each token has mean 0 and variance 1 over its channels (RAE, appendix C.1);
Scale-RAE does the same for SigLIP-2 and keeps the affine part for WebSSL.

The blocks are called one by one from here, so that the tokens of any of them can be had (``taps``, and the sum of
several in :mod:`raekit.encoders.layer_sum`), none is computed after the last one that is wanted, and two threads may
use one encoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from raekit import config
from raekit.data.transforms import check_image
from raekit.encoders import source
from raekit.encoders.layer_sum import Layers, Merge, merge_layers, resolve_layers
from raekit.encoders.shapes import Shape
from raekit.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

RESIZES: dict[str, dict[str, Any]] = {
    "bicubic": {"mode": "bicubic", "antialias": False},
    "bicubic_antialias": {"mode": "bicubic", "antialias": True},
    "bilinear": {"mode": "bilinear", "antialias": False},
    "bilinear_antialias": {"mode": "bilinear", "antialias": True},
}
"""Resize filters. ``bicubic`` (no antialias, no clamp) is what the published RAE statistics and decoders were made
with; the ``_antialias`` ones agree with PIL, as the image processors of the hub use it."""


RUNTIME_SETTINGS = frozenset({"precision", "compile"})
"""Settings that say how tokens are computed, not which: no part of what a latent space is, nor of its artefact. bf16
moves a token by its rounding alone (of the bundled encoder: by 0.3 % of its length, and its decoder's PSNR by less than
0.001 dB), so one decoder serves both."""


class EncoderConfig(config.Config):
    """What every encoder's settings share."""

    path: str | None = None
    """Directory (or hub id) in place of the published checkpoint; relative paths are also looked up in the package."""
    revision: str | None = None
    """Commit of the hub repository; none: its main branch."""
    input_size: int | None = Field(default=None, gt=0)
    """Side, pixels, to which images are resized; a multiple of the patch. None: the checkpoint's own."""
    resize: Literal["bicubic", "bicubic_antialias", "bilinear", "bilinear_antialias", "none"] = "bicubic"
    """Filter for images of another size; ``none`` makes them an error."""
    norm: Literal["affine_free", "affine", "none"] = "affine_free"
    """Final LayerNorm: without its weight and bias (published RAE), with them, or left out."""
    layers: Layers | None = None
    """Blocks whose outputs, each normalised as ``norm`` says, make the tokens: numbers from 1, negative ones from the
    end, or ``last_7``. None: the last block. RAEv2's K = 7 on DINOv3-L is every second block, [-13, -11, ..., -1]."""
    merge: Merge = "sum"
    """How several layers become one: ``sum`` (RAEv2), ``mean``, or ``mean_global`` (see ``layer_sum``)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the network: that of the surrounding autocast, or always this one. Norms, the residual stream, the final norm
    and the sum of layers are float32 in any case; bf16 also halves the memory of the weights."""
    compile: bool = False
    """Compile the blocks, at the first images; needs a C++ compiler or a GPU with Triton."""

    @property
    def hub_id(self) -> str:
        """The published checkpoint that the settings name."""
        raise UserError("encoder.path: this encoder has no published checkpoint; give a directory")

    @property
    def shape(self) -> Shape:
        """What the published checkpoint is made of, known without the hub."""
        raise UserError("encoder.path: this encoder has no published checkpoint; give a directory")


class RepresentationEncoder(nn.Module, ABC):
    """A frozen image encoder. Subclasses say which network it is and what enters its first block.

    Args:
        config: which checkpoint, and how images enter it.
        backbone: a transformers model that is already built; the checkpoint's otherwise.

    Attributes:
        width: ``D``, channels of a token.
        depth: number of blocks.
        layers: numbers, from 1, of the blocks that make the tokens, from shallow to deep.
        patch_size: side of a patch, pixels.
        input_size: side of the square image the network sees, pixels.
        grid: tokens per side, ``input_size // patch_size``.
        revision: commit of the hub repository, if the weights came from there.
    """

    Config: type[EncoderConfig]
    PIXEL_MEAN: ClassVar[tuple[float, float, float]] = IMAGENET_MEAN
    PIXEL_STD: ClassVar[tuple[float, float, float]] = IMAGENET_STD
    FINAL_NORM: ClassVar[str] = "layernorm"
    UNUSED_WEIGHTS: ClassVar[tuple[str, ...]] = ()
    CHANGES: ClassVar[Mapping[str, Any]] = {}
    """Settings of the network that are not the checkpoint's own."""

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: EncoderConfig, *, backbone: Any | None = None) -> None:
        super().__init__()
        self.config = config
        self.source = source.resolve(config.path or config.hub_id)
        if backbone is None:
            backbone = self.load_backbone()
        settings = backbone.config
        self.width: int = settings.hidden_size
        self.patch_size: int = settings.patch_size
        self.input_size: int = config.input_size or settings.image_size
        self.revision: str | None = getattr(settings, "_commit_hash", None) or config.revision
        # Whoever stores these settings then names the very commit, not a branch that may move on.
        self.config = config.model_copy(update={"revision": self.revision})
        self.grid = _grid(self.input_size, self.patch_size)
        self.depth: int = settings.num_hidden_layers
        self.layers = tuple(sorted(resolve_layers(config.layers, self.depth)))
        # The network then ends before its final norm, which `norm` applies in one of three ways.
        self.final_norm = getattr(backbone, self.FINAL_NORM)
        setattr(backbone, self.FINAL_NORM, nn.Identity())
        self.backbone = backbone
        # Not registered a second time: they are the backbone's.
        self._blocks = (_block_list(backbone, self.depth),)
        self.register_buffer("image_mean", torch.tensor(self.PIXEL_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("image_std", torch.tensor(self.PIXEL_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()
        self._sha256 = ""
        if config.precision == "bf16":
            self._round_weights()
        if config.compile:
            for block in self.blocks:
                block.compile()

    @classmethod
    @abstractmethod
    def classes(cls, config: Any) -> tuple[Any, Any]:
        """Which transformers classes hold the network's settings and the network."""

    @classmethod
    @abstractmethod
    def published_settings(cls, config: Any) -> Any:
        """The settings of the published network, made from ``config.shape``."""

    def load_backbone(self) -> Any:
        """The transformers model of ``self.source``."""
        settings = self._stored_settings(self.config)
        _, model_class = self.classes(self.config)
        return source.load_model(model_class, self.source, settings, self.config.revision, self.UNUSED_WEIGHTS)

    @classmethod
    def outline(cls, config: EncoderConfig) -> Self:
        """The encoder without weights, on the meta device: every size and count of it, and nothing is downloaded.

        Raises:
            UserError: ``config.path`` is set, and there is no network's config.
        """
        settings = cls._changed(cls.published_settings(config)) if config.path is None else cls._stored_settings(config)
        _, model_class = cls.classes(config)
        # Nothing is computed with it.
        config = config.model_copy(update={"precision": "auto", "compile": False})
        with torch.device("meta"):
            return cls(config, backbone=model_class(settings))

    @classmethod
    def num_parameters(cls, config: EncoderConfig) -> int:
        """Weights of the published network, exactly; its blocks are alike, so one is built and counted."""
        settings = cls._changed(cls.published_settings(config))
        settings.num_hidden_layers = 1
        _, model_class = cls.classes(config)
        with torch.device("meta"):
            backbone = model_class(settings)
        whole, block = (sum(int(p.numel()) for p in part.parameters()) for part in (backbone, _block_list(backbone, 1)))
        return whole + (config.shape.depth - 1) * block

    @classmethod
    def variants(cls) -> list[tuple[str, str]]:
        """Each published size, what it is made of, and its exact number of weights."""
        sizes = get_args(cls.Config.model_fields["size"].annotation) if "size" in cls.Config.model_fields else ()
        configs = [(size, cls.Config.model_validate({"size": size})) for size in sizes]
        return [(size, f"{config.shape}: {cls.num_parameters(config):,} parameters") for size, config in configs]

    @classmethod
    def _stored_settings(cls, config: EncoderConfig) -> Any:
        """Those of the checkpoint."""
        config_class, _ = cls.classes(config)
        stored = source.load_config(config_class, source.resolve(config.path or config.hub_id), config.revision)
        return cls._changed(stored)

    @classmethod
    def _changed(cls, settings: Any) -> Any:
        # Set afterwards: transformers 5.17 drops a key that the stored config does not have.
        for name, value in cls.CHANGES.items():
            setattr(settings, name, value)
        return settings

    @abstractmethod
    def embed(self, pixels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """What enters the first block, and what every block takes besides.

        Args:
            pixels: standardised, ``[B,3,S,S]``.

        Returns:
            Tokens ``[B,P+N,D]``, class and register tokens first, and the keyword arguments of every block.
        """

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Tokens ``[B,N,D]`` of images ``[B,3,H,W]`` in [0,1], without gradients."""
        return self.features(image)

    def features(self, image: Tensor) -> Tensor:
        """As :meth:`forward`, but differentiable with respect to the image (for perceptual losses)."""
        states = self._states(self.preprocess(image), self.layers)
        return merge_layers(self.config.merge, (self.normalise(hidden) for _, hidden in states))

    def taps(self, image: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Patch tokens ``[B,N,D]`` after each of ``layers``, before any final norm, differentiable.

        Args:
            image: ``[B,3,H,W]`` in [0,1].
            layers: block numbers from 1; negative ones count from the end. The result has their order; a number may be
                repeated.

        Raises:
            UserError: a block that the encoder does not have.
        """
        wanted = [resolve_layers([number], self.depth)[0] for number in layers]
        found = dict(self._states(self.preprocess(image), wanted))
        return [found[number] for number in wanted]

    def hidden(self, pixels: Tensor) -> Tensor:
        """Standardised pixels ``[B,3,S,S]`` to patch tokens ``[B,N,D]`` after the last block, before the final norm."""
        ((_, hidden),) = self._states(pixels, (self.depth,))
        return hidden

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer's blocks, first to last."""
        return self._blocks[0]

    def _states(self, pixels: Tensor, layers: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Number and patch tokens of each of the ``layers``, from shallow to deep; nothing after the deepest."""
        num_patches = (pixels.shape[-2] // self.patch_size) * (pixels.shape[-1] // self.patch_size)
        # Entered anew for each block: a precision left open at a `yield` would be the caller's, too.
        with self._autocast(pixels.device):
            tokens, arguments = self.embed(pixels)
        for number, block in enumerate(islice(self.blocks, max(layers)), start=1):
            with self._autocast(pixels.device):
                tokens = block(tokens, **arguments)
            if number in layers:
                yield number, tokens[:, -num_patches:]

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The precision of the network's matrix products."""
        if self.config.precision == "auto":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _round_weights(self) -> None:
        """Keep the weights of matrix products in bf16, which autocast would otherwise round at every call."""
        self._sha256 = source.weights_sha256(self)
        for part in self.backbone.modules():
            if isinstance(part, nn.Linear | nn.Conv2d):
                part.to(torch.bfloat16)

    def preprocess(self, image: Tensor) -> Tensor:
        """Resize to ``input_size`` and standardise with the encoder's pixel statistics: ``[B,3,S,S]``.

        Raises:
            UserError: no images in [0, 1]; or another size, and ``resize`` is ``none``.
        """
        check_image(image)
        size = (self.input_size, self.input_size)
        if image.shape[-2:] != size:
            if self.config.resize == "none":
                raise UserError(
                    f"image: {image.shape[-2]} x {image.shape[-1]} px, the encoder takes {size[0]} x {size[1]}; "
                    "resize it or set encoder.resize"
                )
            image = F.interpolate(image, size=size, align_corners=False, **RESIZES[self.config.resize])
        return (image - self.image_mean) / self.image_std

    def normalise(self, hidden: Tensor) -> Tensor:
        """The final LayerNorm, as ``norm`` says, in float32."""
        hidden = hidden.float()
        if self.config.norm == "none":
            return hidden
        if self.config.norm == "affine":
            normalised: Tensor = self.final_norm(hidden)
            return normalised
        return F.layer_norm(hidden, (self.width,), eps=self.final_norm.eps)

    def train(self, mode: bool = True) -> RepresentationEncoder:
        """Stays in eval mode: it is frozen."""
        return super().train(False)

    def fingerprint(self) -> dict[str, str | None]:
        """What identifies this encoder in an artefact: its name, where it came from, and a digest of its weights."""
        return {
            "name": self.config.model_dump()["name"],
            "source": self.config.path or self.config.hub_id,
            "revision": self.revision,
            "sha256": self._sha256 or source.weights_sha256(self),
        }


def _grid(input_size: int, patch_size: int) -> int:
    grid, rest = divmod(input_size, patch_size)
    if rest or not grid:
        below = max(grid, 1) * patch_size
        raise UserError(
            f"encoder.input_size: {input_size} must be a multiple of its patch {patch_size}; "
            f"give {below} or {below + patch_size}"
        )
    return grid


def _block_list(backbone: nn.Module, depth: int) -> nn.ModuleList:
    """The one list of ``depth`` modules in a transformer, whatever its releases call it."""
    return next(part for part in backbone.modules() if isinstance(part, nn.ModuleList) and len(part) == depth)
