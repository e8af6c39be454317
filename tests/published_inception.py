"""The weights that the FID's Inception is published with, but random: names and shapes are the published ones."""

from __future__ import annotations

import torch
from torch import Tensor

from raekit.metrics.inception import Inception


def random_weights() -> dict[str, Tensor]:
    """Under the published names, each drawn from the sum of its name's letters."""
    drawn = {}
    for name, value in Inception(Inception.Config()).layers.state_dict().items():
        generator = torch.Generator().manual_seed(sum(map(ord, name)))
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            drawn[name] = 0.5 + torch.rand(value.shape, generator=generator)
        elif name.endswith("bn.weight"):
            drawn[name] = 0.8 + 0.4 * torch.rand(value.shape, generator=generator)
        elif value.ndim == 4:
            drawn[name] = torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5
        else:
            drawn[name] = 0.1 * torch.randn(value.shape, generator=generator)
    return drawn


def images() -> Tensor:
    return torch.randint(0, 256, (2, 3, 32, 48), generator=torch.Generator().manual_seed(1)) / 255
