"""Convolutions on pixels: shapes, what a logit sees, and a norm that is kept."""

from __future__ import annotations

import pytest
import torch

from raekit.losses.patches import PatchDiscriminator


def build(**settings: int) -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator.build(PatchDiscriminator.Config(**settings)).eval()


@pytest.mark.parametrize(("depth", "window"), [(2, 22), (3, 46), (4, 94)])
def test_a_logit_sees_its_window_and_no_more(depth: int, window: int) -> None:
    network = build(width=4, depth=depth).double()
    image = torch.rand(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    logits = network(image)
    (gradient,) = torch.autograd.grad(logits[0, logits.shape[1] // 2 + 3], image)
    rows = gradient[0].abs().sum(dim=(0, 2)).nonzero().flatten()
    assert rows.max() - rows.min() + 1 <= window
    assert rows.max() - rows.min() + 1 >= window - 2


def test_no_sample_sees_another() -> None:
    network, image = build(width=8), torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(network(image)[1:], network(image[1:]))


def test_spectral_norms_move_in_training_only() -> None:
    network, image = build(width=8), torch.rand(2, 3, 32, 32)
    before = {name: value.clone() for name, value in network.named_buffers()}
    network(image)
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    network.train()(image)
    assert any(not torch.equal(value, before[name]) for name, value in network.named_buffers())


def test_every_layer_has_norm_one_or_less() -> None:
    for module in build(width=8).layers:
        if isinstance(module, torch.nn.Conv2d):
            assert torch.linalg.matrix_norm(module.weight.flatten(1), 2) < 1.1


def test_an_outline_counts_without_weights() -> None:
    outline = PatchDiscriminator.outline(PatchDiscriminator.Config(width=8))
    assert sum(p.numel() for p in outline.parameters()) == sum(p.numel() for p in build(width=8).parameters())
    assert all(p.device.type == "meta" for p in outline.parameters())
