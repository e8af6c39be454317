"""The sizes that backbones are known by, and how many parameters each comes to.

In: a name such as ``XL`` or ``2.4B``. Out: widths, depths and heads; the exact count, of a network that is built on the
meta device, where weights take no memory. Sources: RAE (arXiv 2510.11690), tables 8, 13 and 16; Scale-RAE (arXiv
2601.16208), table 10 and section 3.3.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import nn

from raekit.backbones.base import Backbone, Shape


class WideShape(NamedTuple):
    """Of a trunk and a head."""

    width: int
    depth: int
    heads: int
    head_width: int
    head_depth: int
    head_heads: int

    @property
    def trunk(self) -> Shape:
        """Shape of the trunk."""
        return Shape(*self[:3])

    @property
    def head(self) -> Shape:
        """Shape of the head."""
        return Shape(*self[3:])


DIT = {
    "nano": Shape(320, 10, 5),
    "S": Shape(384, 12, 6),
    "B": Shape(768, 12, 12),
    "L": Shape(1024, 24, 16),
    "XL": Shape(1152, 28, 16),  # gFID-50k 4.28 after 80 epochs on DINOv2-B, 2.39 after 720
    "XXL": Shape(1280, 32, 16),
    "H": Shape(1536, 32, 16),
    "G": Shape(2048, 40, 16),
    "T": Shape(2688, 40, 21),
    "0.5B": Shape(1280, 16, 32),
    "2.4B": Shape(2048, 32, 32),  # GenEval 49.5, DPG 76.9 after pretraining with a 1.5B language model
    "3.1B": Shape(2304, 32, 32),
    "5.5B": Shape(3072, 32, 32),  # GenEval 53.2; 55.5 with a 7B language model
    "9.8B": Shape(4096, 32, 32),
}
"""DiT. S to T: RAE, table 13. 0.5B to 9.8B: Scale-RAE, table 10 (3.1B is 3.3B there; 9.8B holds 9.7 billion, and a
connector). nano: ours, for a CPU."""

DIT_DH = {
    "nano": WideShape(256, 6, 4, 512, 2, 8),
    "S": WideShape(384, 12, 6, 2048, 2, 16),  # gFID-50k 6.07 after 80 epochs on DINOv2-B
    "B": WideShape(768, 12, 12, 2048, 2, 16),  # 3.38
    "L": WideShape(1024, 24, 16, 2048, 2, 16),
    "XL": WideShape(1152, 28, 16, 2048, 2, 16),  # 2.16, after 800 epochs 1.51, with autoguidance 1.13
    "0.5B": WideShape(1280, 16, 32, 2688, 2, 21),  # GenEval +11.2 over the DiT
    "2.4B": WideShape(2048, 32, 32, 2688, 2, 21),
    "3.1B": WideShape(2304, 32, 32, 2688, 2, 21),
}
"""DiT-DH. S to XL: RAE, tables 8, 13 and 16. 0.5B to 3.1B: the DiT of that name and Scale-RAE's head of 2 x 2688, which
adds 0.28 billion (section 3.3); its attention heads are not published, 21 is RAE's number for that width; they were
trained with ``has_time_in_head: false``. nano: ours, for a CPU."""

RAE_LATENT, SCALE_RAE_LATENT, NANO_LATENT = (768, 16, 16), (1152, 16, 16), (128, 4, 4)
"""``(C, h, w)`` of the latent spaces that the sizes are counted in: DINOv2-B, SigLIP-2 So400M, the bundled one."""


def latent_of(size: str) -> tuple[int, int, int]:
    """The latent shape for which a size was published."""
    if size == "nano":
        return NANO_LATENT
    return SCALE_RAE_LATENT if size.endswith("B") and size != "B" else RAE_LATENT


def num_parameters(backbone: type[Backbone], size: str) -> int:
    """Numbers that a backbone of that size trains, exactly; tables of positions and frequencies are not among them.

    Its latent space is that of :func:`latent_of` and its condition as wide as itself.
    """
    built, depth = _on_meta(backbone, size)
    return _count(built) + (depth - 1) * _count(built.blocks[0])


def describe(backbone: type[Backbone], size: str) -> str:
    """A size in one line: shape, exact number of parameters, and the latent it is counted in."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = num_parameters(backbone, size)
    kind: Any = backbone
    width, depth, heads, *head = kind.Config(size=size).shape
    text = f"width {width}, depth {depth}, heads {heads}"
    if head:
        text += f"; head {head[0]}, {head[1]}, {head[2]}"
    text += f": {count:,} parameters in a latent of {' x '.join(map(str, latent_of(size)))}"
    return text + (", not wider than its tokens (RAE, theorem 1)" if caught else "")


def _on_meta(backbone: type[Backbone], size: str) -> tuple[Backbone, int]:
    """The backbone without memory and with one block of its trunk, since all are alike; and their real number."""
    kind: Any = backbone
    shape = kind.Config(size=size).shape
    with torch.device("meta"):
        return kind(kind.Config(size=size, depth=1), latent_of(size), shape.width), shape.depth


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
