"""The FID's Inception: PyTorch's own file to safetensors, under the same names.

In: ``weights-inception-2015-12-05-6726825d.pth`` of torch-fidelity or ``pt_inception-2015-12-05-6726825d.pth`` of
pytorch-fid, which hold the same network. Out: safetensors for :mod:`raekit.metrics.inception`, which never unpickles.
"""

from __future__ import annotations

from typing import Literal

import torch

from raekit.interop.format import ConvertConfig
from raekit.interop.ledger import Ledger
from raekit.interop.loss_networks import LossNetwork, Shapes
from raekit.metrics.inception import Inception

CLASSIFIER: Shapes = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
"""Behind the features; no distance reads it."""

COUNTER = "num_batches_tracked"
"""Of batches seen in training; some files lack it."""


class InceptionV3(LossNetwork):
    """InceptionV3 of 2015, whose features make the FID."""

    SIGNATURE = "Mixed_7c.branch_pool.conv.weight"

    class Config(ConvertConfig):
        """Options of this layout."""

        name: Literal["inception"] = "inception"

    def shapes(self, ledger: Ledger) -> Shapes:
        """Every layer up to the last pool; counters and the classifier if they are there."""
        with torch.device("meta"):
            own = Inception(Inception.Config()).layers.state_dict()
        shapes = {key: tuple(value.shape) for key, value in own.items()} | CLASSIFIER
        return {
            key: shape
            for key, shape in shapes.items()
            if key in ledger.tensors or not (key.endswith(COUNTER) or key in CLASSIFIER)
        }
