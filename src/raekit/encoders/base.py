"""The contract of an encoder: a frozen network from images to tokens.

In: image ``[B,3,H,W]`` in [0,1]. Out: tokens ``[B,N,D]``, raster order, patches only. What is easy to get wrong is said
here once, by name: the resize filter, the pixel statistics, and what happens at the final LayerNorm. The published RAE
drops that norm's affine part, so that each token has mean 0 and variance 1 over its channels (RAE, appendix C.1);
Scale-RAE does the same for SigLIP-2 and keeps the affine part for WebSSL.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from raekit import config
from raekit.encoders import source
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

    @property
    def hub_id(self) -> str:
        """The published checkpoint that the settings name."""
        raise UserError("encoder.path: this encoder has no published checkpoint; give a directory")


class RepresentationEncoder(nn.Module, ABC):
    """A frozen image encoder. Subclasses say which network it is and where its patch tokens lie.

    Attributes:
        width: ``D``, channels of a token.
        patch_size: side of a patch, pixels.
        input_size: side of the square image the network sees, pixels.
        grid: tokens per side, ``input_size // patch_size``.
        revision: commit of the hub repository, if the weights came from there.
    """

    PIXEL_MEAN: ClassVar[tuple[float, float, float]] = IMAGENET_MEAN
    PIXEL_STD: ClassVar[tuple[float, float, float]] = IMAGENET_STD
    FINAL_NORM: ClassVar[str] = "layernorm"
    UNUSED_WEIGHTS: ClassVar[tuple[str, ...]] = ()

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.source = source.resolve(config.path or config.hub_id)
        backbone = self.load_backbone()
        settings = backbone.config
        self.width: int = settings.hidden_size
        self.patch_size: int = settings.patch_size
        self.input_size: int = config.input_size or settings.image_size
        self.revision: str | None = getattr(settings, "_commit_hash", None) or config.revision
        # Whoever stores these settings then names the very commit, not a branch that may move on.
        self.config = config.model_copy(update={"revision": self.revision})
        if self.input_size % self.patch_size:
            raise UserError(f"encoder.input_size: {self.input_size} must be a multiple of its patch {self.patch_size}")
        self.grid = self.input_size // self.patch_size
        # The network then ends before its final norm, which `norm` applies in one of three ways.
        self.final_norm = getattr(backbone, self.FINAL_NORM)
        setattr(backbone, self.FINAL_NORM, nn.Identity())
        self.backbone = backbone
        self.register_buffer("image_mean", torch.tensor(self.PIXEL_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("image_std", torch.tensor(self.PIXEL_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    @abstractmethod
    def load_backbone(self) -> Any:
        """The transformers model of ``self.source``."""

    @abstractmethod
    def hidden(self, pixels: Tensor) -> Tensor:
        """Standardised pixels ``[B,3,S,S]`` to patch tokens ``[B,N,D]`` before the final norm."""

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Tokens ``[B,N,D]`` of images ``[B,3,H,W]`` in [0,1], without gradients."""
        return self.features(image)

    def features(self, image: Tensor) -> Tensor:
        """As :meth:`forward`, but differentiable with respect to the image (for perceptual losses)."""
        return self.normalise(self.hidden(self.preprocess(image)))

    def preprocess(self, image: Tensor) -> Tensor:
        """Resize to ``input_size`` and standardise with the encoder's pixel statistics: ``[B,3,S,S]``.

        Raises:
            UserError: another size, and ``resize`` is ``none``.
        """
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
            "sha256": source.weights_sha256(self),
        }
