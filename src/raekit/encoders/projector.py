"""From an encoder's tokens to another network's width: how a language model is shown an image.

In: tokens ``[B,N,D]``. Out: ``[B,N,W]``. The keys are those of ``nn.Sequential``, as in the published models
(Scale-RAE, section 2).
"""

from __future__ import annotations

from typing import Literal

from torch import nn

ProjectorKind = Literal["linear", "mlp2x_gelu", "mlp3x_gelu"]
NUM_LAYERS: dict[ProjectorKind, int] = {"linear": 1, "mlp2x_gelu": 2, "mlp3x_gelu": 3}


class Projector(nn.Sequential):
    """One to three biased linear layers with exact (erf) GELU between them.

    Args:
        kind: ``linear``, ``mlp2x_gelu`` (the released setting) or ``mlp3x_gelu``.
        in_width: ``D``.
        out_width: ``W``, also the width of the layers between.
    """

    def __init__(self, kind: ProjectorKind, in_width: int, out_width: int) -> None:
        layers: list[nn.Module] = [nn.Linear(in_width, out_width)]
        for _ in range(NUM_LAYERS[kind] - 1):
            layers += [nn.GELU(), nn.Linear(out_width, out_width)]
        super().__init__(*layers)
