"""DINO: the published tables of keys, taps in the order asked, frozen but differentiable, strict about its weights.

Its activations are compared with the published ones in ``parity/cases_losses.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from raekit.errors import UserError
from raekit.losses import dino
from raekit.losses.dino import DINO, HUB_IDS, PRESETS, UNUSED, Shape

SMALL = Shape(width=16, depth=3, heads=2, patch_size=56)


@pytest.fixture
def network() -> DINO:
    torch.manual_seed(0)
    small = DINO(SMALL)
    small.pos_embed.normal_()
    small.cls_token.normal_()
    return small


@pytest.mark.parametrize(("preset", "tokens"), [("dino_s8", 784), ("dino_s16", 196), ("dino_b16", 196)])
def test_published_tables(preset: str, tokens: int) -> None:
    with torch.device("meta"):
        own = DINO(PRESETS[preset]).state_dict()
    width, _, _, patch = PRESETS[preset]
    assert len(own) + len(UNUSED) == 150
    assert own["pos_embed"].shape == (1, 1 + tokens, width)
    assert own["patch_embed.proj.weight"].shape == (width, 3, patch, patch)
    assert own["blocks.11.attn.qkv.bias"].shape == (3 * width,)
    assert HUB_IDS.keys() == PRESETS.keys()


def test_taps_follow_the_order_asked_and_stop_at_the_deepest(network: DINO) -> None:
    image = torch.rand(2, 3, 40, 60)
    last, first = network.taps(image, (-1, 1))
    assert last.shape == first.shape == (2, 16, 16)
    torch.testing.assert_close(
        network.blocks[2](network.blocks[1](network.blocks[0](network.embed(image))))[:, 1:], last
    )
    ran: list[int] = []
    network.blocks[1].register_forward_hook(lambda *_: ran.append(1))
    torch.testing.assert_close(network.taps(image, (1,))[0], first)
    assert not ran


def test_the_image_gets_a_gradient_and_the_network_none(network: DINO) -> None:
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    network.taps(image, (3,))[0].square().sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_an_image_of_its_size_is_not_resized(network: DINO) -> None:
    image = torch.rand(1, 3, 224, 224)
    patch = (image - network.image_mean)[:, :, :56, :56] / network.image_std
    expected = network.patch_embed["proj"](patch).flatten() + network.pos_embed[0, 1]
    torch.testing.assert_close(network.embed(image)[0, 1], expected)


def test_weights_load_strictly(network: DINO, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(dino.PRESETS, "dino_s8", SMALL)
    published: dict[str, Tensor] = network.state_dict() | {name: torch.ones(16) for name in UNUSED}
    save_file(published, tmp_path / "model.safetensors")
    image = torch.rand(1, 3, 32, 32)
    loaded = DINO.load("dino_s8", tmp_path)
    assert torch.equal(loaded.taps(image, (3,))[0], network.taps(image, (3,))[0])
    save_file(published | {"head.weight": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"does not fit this DINO: 1 unexpected key \(head.weight"):
        DINO.load("dino_s8", tmp_path)
