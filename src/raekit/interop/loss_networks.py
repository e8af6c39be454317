"""Frozen networks that losses look through: PyTorch's own files to safetensors, under the same names.

In: torchvision's VGG16, the LPIPS heads of taming-transformers, or DINO's vision transformers as the published
discriminators use them. Out: ``NAME.safetensors``, or a directory with ``model.safetensors``, for the losses to read,
which never unpickle. Keys and shapes must be those of the published file; no value is changed.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

import torch
from safetensors.torch import save_file

from raekit.errors import UserError
from raekit.files import atomic_directory, atomic_file
from raekit.interop.format import ConvertConfig, Format, Source
from raekit.interop.ledger import Ledger, Rows
from raekit.losses.dino import DINO, PRESETS
from raekit.losses.dino import UNUSED as FINAL_NORM
from raekit.losses.perceptual import LPIPS, VGG16_STAGES, published_names
from raekit.losses.weights import FILE

Shapes = dict[str, tuple[int, ...]]

CLASSIFIER = {0: (4096, 25088), 3: (4096, 4096), 6: (1000, 4096)}
"""Index in torchvision's ``classifier`` to the shape of its weight. No loss reads it; it may have been cut off."""


class LossNetwork(Format):
    """A file of weights that becomes safetensors as it is."""

    SIGNATURE: ClassVar[str]
    """A key that only this network has."""

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """By its signature."""
        return cls.SIGNATURE in source.keys

    @abstractmethod
    def shapes(self, ledger: Ledger) -> Shapes:
        """Every key and its published shape."""

    def read(self, source: Source, target: Path) -> Rows:
        """PyTorch's file to safetensors, a file or a directory as ``target`` says."""
        ledger = source.ledger
        shapes = self.shapes(ledger)
        tensors = {key: value.contiguous().clone() for key, value in ledger.take(shapes).items()}
        report = ledger.rows()
        for key, value in tensors.items():
            if tuple(value.shape) != shapes[key]:
                raise UserError(
                    f"{ledger.source}: {key} is {list(value.shape)}, in the published file {list(shapes[key])}; "
                    "check that it is the right file"
                )
        if target.suffix == ".safetensors":
            with atomic_file(target) as file:
                save_file(tensors, file)
        else:
            with atomic_directory(target) as folder:
                save_file(tensors, folder / FILE)
        return [*report, ("written", f"{len(tensors)} tensors, names and values unchanged")]


class VGG16(LossNetwork):
    """VGG16 of torchvision, which LPIPS looks through."""

    SIGNATURE = "features.28.weight"

    class Config(ConvertConfig):
        """Options of this layout."""

        name: Literal["vgg16"] = "vgg16"

    def shapes(self, ledger: Ledger) -> Shapes:
        """The convolutions, and the classifier if it is there."""
        shapes = _lpips_shapes("features.")
        if any(key.startswith("classifier.") for key in ledger.tensors):
            for index, shape in CLASSIFIER.items():
                shapes |= {f"classifier.{index}.weight": shape, f"classifier.{index}.bias": shape[:1]}
        return shapes


class LPIPSHeads(LossNetwork):
    """The learnt channel weights of LPIPS (vgg.pth)."""

    SIGNATURE = "lin0.model.1.weight"

    class Config(ConvertConfig):
        """Options of this layout."""

        name: Literal["lpips"] = "lpips"

    def shapes(self, ledger: Ledger) -> Shapes:
        """One 1 x 1 convolution without bias for each of the five taps."""
        del ledger
        return _lpips_shapes("lin")


class DINOBackbone(LossNetwork):
    """DINO's vision transformers S/8, S/16 and B/16, which discriminators look through."""

    SIGNATURE = "blocks.11.attn.qkv.weight"

    class Config(ConvertConfig):
        """Options of this layout."""

        name: Literal["dino"] = "dino"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """By its signature and the class token, which no generator has."""
        return super().recognises(source) and "cls_token" in source.keys

    def shapes(self, ledger: Ledger) -> Shapes:
        """150 tensors, whose width and patch the patch embedding shows.

        Raises:
            UserError: no published one is of that size.
        """
        kernel = ledger.take(["patch_embed.proj.weight"])["patch_embed.proj.weight"]
        width, patch_size = kernel.shape[0], kernel.shape[-1]
        preset = next((p for p in PRESETS.values() if (p.width, p.patch_size) == (width, patch_size)), None)
        if preset is None:
            raise UserError(
                f"{ledger.source}: a DINO {width} wide with patch {patch_size} is none of {', '.join(PRESETS)}; "
                "check that it is the right file"
            )
        with torch.device("meta"):
            own = DINO(preset).state_dict()
        return {key: tuple(value.shape) for key, value in own.items()} | dict.fromkeys(FINAL_NORM, (width,))


def _lpips_shapes(prefix: str) -> Shapes:
    """Published keys and shapes of that part of LPIPS."""
    with torch.device("meta"):
        own = LPIPS().state_dict()
    names = published_names(VGG16_STAGES)
    return {theirs: tuple(own[ours].shape) for theirs, ours in names.items() if theirs.startswith(prefix)}
