"""The discriminator: published sizes, heads alone in its state, spectral norms, and samples that do not see each other.

Logits, gradients and singular vectors are compared with the published ones in ``parity/cases_losses.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import tiny_encoders
from raekit.errors import UserError
from raekit.losses.dino import DINO, PRESETS, Shape
from raekit.losses.discriminator import Discriminator, SpectralConv1d, load_backbone


class Patches(nn.Module):
    """A stand-in: 16 tokens of 32 channels, scaled by the number of the block."""

    width, depth = 32, 4

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 32, 8, 8).requires_grad_(False)

    def taps(self, image: Tensor, layers: Sequence[int]) -> list[Tensor]:
        assert len(set(layers)) == len(layers)
        return [layer * self.embed(image).flatten(2).transpose(1, 2) for layer in layers]


def build(**settings: object) -> Discriminator:
    torch.manual_seed(0)
    config = Discriminator.Config(backbone="encoder", **settings)
    return Discriminator(config, Patches())


@pytest.mark.parametrize(("preset", "logits"), [("dino_s8", 3920), ("dino_s16", 980)])
def test_published_sizes(preset: str, logits: int) -> None:
    with torch.device("meta"):
        discriminator = Discriminator(Discriminator.Config(backbone=preset), DINO(PRESETS[preset]))
        taps = discriminator.taps(torch.rand(2, 3, 256, 256))
    assert sum(tap.shape[1] for tap in taps) == logits
    assert discriminator.layers == (12, 3, 6, 9, 12)
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 7_386_245
    assert len(discriminator.state_dict()) == 80
    assert discriminator.state_dict()["heads.4.1.fn.0.weight_orig"].shape == (384, 384, 9)


def test_the_backbone_is_neither_saved_nor_trained_but_moves_along() -> None:
    discriminator = build()
    assert all(name.startswith("heads.") for name in discriminator.state_dict())
    assert all(name.startswith("heads.") for name, _ in discriminator.named_parameters())
    discriminator.to(torch.float64)
    assert isinstance(discriminator.backbone, Patches) and discriminator.backbone.embed.weight.dtype == torch.float64
    assert discriminator(torch.rand(1, 3, 32, 32, dtype=torch.float64)).dtype == torch.float64
    assert copy.deepcopy(discriminator).state_dict().keys() == discriminator.state_dict().keys()


@pytest.mark.parametrize("norm", ["bn", "gn", "batch"])
def test_heads_learn_and_the_picture_gets_a_gradient(norm: str) -> None:
    discriminator, image = build(norm=norm), torch.rand(2, 3, 32, 32, requires_grad=True)
    discriminator.train()(image).square().sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in discriminator.parameters())


@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_a_batch_is_the_mean_of_its_halves(norm: str) -> None:
    """So that two processes with averaged gradients take the step of one: logits, gradients, singular vectors."""
    whole, first, second = (build(norm=norm).train() for _ in range(3))
    image = torch.rand(4, 3, 32, 32)
    (logits := whole(image)).square().mean().backward()
    halves = [part(image[k : k + 2]) for part, k in ((first, 0), (second, 2))]
    for half in halves:
        half.square().mean().backward()
    torch.testing.assert_close(logits, torch.cat(halves))
    for parameter, a, b in zip(whole.parameters(), first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, (a.grad + b.grad) / 2)
    for value, a, b in zip(whole.buffers(), first.buffers(), second.buffers(), strict=True):
        assert torch.equal(value, a) and torch.equal(value, b)


def test_batch_norm_over_the_batch_sees_the_neighbours() -> None:
    discriminator, image = build(norm="batch").train(), torch.rand(4, 3, 32, 32)
    assert not torch.allclose(discriminator(image)[:2], discriminator(image[:2]), atol=1e-3)


def test_sample_norm_is_the_published_formula() -> None:
    norm, x = build().heads[0][0][1], torch.randn(2, 32, 16)
    with torch.no_grad():
        norm.weight.uniform_(), norm.bias.uniform_()
    scaled = (x - x.mean(2, keepdim=True)) / (x.var(2, correction=0, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(norm(x), scaled * norm.weight[:, None] + norm.bias[:, None])


def test_spectral_norm_is_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    layer = SpectralConv1d(6, 4, 3).train()
    x = torch.randn(2, 6, 10)
    for _ in range(200):
        layer(x)
    weight = layer.weight_orig / torch.linalg.matrix_norm(layer.weight_orig.flatten(1), 2)
    padded = torch.cat([x[..., -1:], x, x[..., :1]], dim=-1)
    torch.testing.assert_close(layer(x), nn.functional.conv1d(padded, weight, layer.bias))


def test_spectral_norm_holds_from_the_start_and_rests_in_evaluation() -> None:
    torch.manual_seed(0)
    layer = SpectralConv1d(64, 64, 9).eval()
    before = layer.weight_u.clone()
    estimate = layer.weight_u @ (layer.weight_orig.flatten(1) @ layer.weight_v)
    exact = torch.linalg.matrix_norm(layer.weight_orig.flatten(1), 2)
    assert estimate.item() == pytest.approx(exact.item(), rel=0.05)
    layer(torch.randn(1, 64, 10))
    assert torch.equal(layer.weight_u, before)
    layer.train()(torch.randn(1, 64, 10))
    assert not torch.equal(layer.weight_u, before)


def test_two_forwards_before_one_backward() -> None:
    """Real and fake pictures are judged apart, and the second forward moves the singular vectors."""
    discriminator, image = build().train(), torch.rand(1, 3, 32, 32)
    (discriminator(image).sum() - discriminator(1 - image).sum()).backward()
    assert all(parameter.grad is not None for parameter in discriminator.parameters())


def test_singular_vectors_stay_exact_under_autocast() -> None:
    discriminator = build().train()
    plain = copy.deepcopy(discriminator)
    image = torch.rand(1, 3, 32, 32)
    plain(image)
    with torch.autocast("cpu", torch.bfloat16):
        discriminator(image)
    assert all(torch.equal(a, b) for a, b in zip(discriminator.buffers(), plain.buffers(), strict=True))


def test_it_looks_through_a_registered_encoder(tmp_path: Path) -> None:
    """The run's own, or one of the settings; resized as that encoder does."""
    encoder = tiny_encoders.build("dinov2", tmp_path)
    own = Discriminator.Config(backbone="encoder", norm="gn")
    named = Discriminator.Config(backbone="encoder", encoder=encoder.config)
    assert load_backbone(own, encoder) is encoder
    for discriminator in (Discriminator(own, encoder), Discriminator(named, load_backbone(named))):
        assert discriminator.layers == (2, 1, 2)
        image = torch.rand(2, 3, 40, 40, requires_grad=True)
        logits = discriminator(image)
        assert logits.shape == (2, 3 * encoder.grid**2)
        logits.sum().backward()
        assert image.grad is not None and image.grad.abs().sum() > 0


def test_an_outline_counts_without_weights(tmp_path: Path) -> None:
    """The published counts: 7,386,245 trained, and a DINO-S/8 of 150 tensors less its final norm."""
    outline = Discriminator.outline(Discriminator.Config())
    counts = [sum(p.numel() for p in part.parameters()) for part in (outline, outline.backbone)]
    assert counts == [7_386_245, 21_670_272 - 2 * 384]
    assert all(p.device.type == "meta" for part in (outline, outline.backbone) for p in part.parameters())
    encoder = tiny_encoders.build("dinov2", tmp_path)
    own, named = (Discriminator.Config(backbone="encoder", encoder=each) for each in (None, encoder.config))
    heads = sum(p.numel() for p in Discriminator(own, encoder).parameters())
    for outline in (Discriminator.outline(own, encoder), Discriminator.outline(named)):
        assert sum(p.numel() for p in outline.parameters()) == heads
    with pytest.raises(UserError, match="this latent space has no encoder"):
        Discriminator.outline(own)


def test_dino_is_loaded_by_its_preset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"discriminator.weights: no file '.*missing.safetensors'"):
        load_backbone(Discriminator.Config(weights=str(tmp_path / "missing.safetensors")))
    with pytest.raises(UserError, match="this latent space has no encoder"):
        load_backbone(Discriminator.Config(backbone="encoder"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_size": 4}, "kernel_size: 4 is even"),
        ({"backbone": "encoder", "weights": "x"}, "belongs to a DINO"),
        ({"encoder": {"name": "dinov2"}}, "set backbone to encoder"),
        ({"layers": ()}, "at least 1"),
    ],
)
def test_settings_that_contradict_are_told(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Discriminator.Config(**settings)


def test_a_network_that_does_not_fit_is_told() -> None:
    with pytest.raises(UserError, match="no block 5 in a network of 4"):
        build(layers=(1, 5))
    with pytest.raises(UserError, match="gn makes 32 groups, the width is 16"):
        Discriminator(Discriminator.Config(norm="gn"), DINO(Shape(16, 1, 2, 112)))
