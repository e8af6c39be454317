"""The sum of time and condition, and the bound that a narrow width warns of."""

import pytest
import torch

from raekit.backbones.dit import DiT
from raekit.conditioning.base import Cond


def model() -> DiT:
    return DiT(DiT.Config(width=16, depth=1, heads=2), (3, 2, 2), cond_width=8)


def test_condition_is_not_expanded_without_need() -> None:
    time, vector, tokens = torch.randn(2, 8), torch.randn(2, 8), torch.randn(2, 4, 8)
    assert model().condition(time, Cond()).shape == (2, 1, 8)
    torch.testing.assert_close(model().condition(time, Cond(vector=vector))[:, 0], time + vector)
    both = model().condition(time, Cond(vector=vector, tokens=tokens))
    torch.testing.assert_close(both, (time + vector)[:, None] + tokens)


@pytest.mark.parametrize(("width", "bound"), [(8, "0.333"), (12, "0.000")])
def test_warning_quotes_the_bound(width: int, bound: str) -> None:
    with pytest.warns(UserWarning, match=rf"width {width} is not above the latent token width 12.* = {bound}"):
        DiT(DiT.Config(width=width, depth=1, heads=1), (12, 2, 2), cond_width=8)
    with pytest.warns(UserWarning, match="latent token width 48"):
        DiT(DiT.Config(width=24, depth=1, heads=1, patch_size=2), (12, 2, 2), cond_width=8)
