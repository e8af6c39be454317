"""The projector's layers and keys."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from raekit.encoders.projector import Projector, ProjectorKind


@pytest.mark.parametrize(("kind", "layers"), [("linear", [0]), ("mlp2x_gelu", [0, 2]), ("mlp3x_gelu", [0, 2, 4])])
def test_layers(kind: ProjectorKind, layers: list[int]) -> None:
    projector = Projector(kind, 6, 5)
    assert set(projector.state_dict()) == {f"{i}.{name}" for i in layers for name in ("weight", "bias")}
    x = expected = torch.randn(2, 3, 6)
    for i in layers:
        expected = F.linear(expected if i == 0 else F.gelu(expected), projector[i].weight, projector[i].bias)
    torch.testing.assert_close(projector(x), expected)
