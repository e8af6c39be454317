"""What every registered encoder promises; a new row in the registry is tested the day it is added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_encoders
from raekit.encoders import ENCODERS, source
from raekit.encoders.base import RepresentationEncoder


@pytest.fixture(params=sorted(ENCODERS), scope="module")
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RepresentationEncoder:
    return tiny_encoders.build(request.param, tmp_path_factory.mktemp(request.param), depth=3)


def again(encoder: RepresentationEncoder, **changes: Any) -> RepresentationEncoder:
    """The same weights under other settings."""
    rebuilt: RepresentationEncoder = ENCODERS.build(encoder.config.model_copy(update=changes))
    return rebuilt


def images(encoder: RepresentationEncoder, batch: int = 2) -> Tensor:
    size = (batch, 3, encoder.input_size, encoder.input_size)
    return torch.rand(size, generator=torch.Generator().manual_seed(1))


def test_one_token_a_patch(encoder: RepresentationEncoder) -> None:
    tokens = encoder(images(encoder))
    assert encoder.grid * encoder.patch_size == encoder.input_size
    assert tokens.shape == (2, encoder.grid**2, encoder.width)
    assert tokens.dtype == torch.float32 and tokens.isfinite().all()


def test_tokens_are_in_raster_order(encoder: RepresentationEncoder) -> None:
    """A change in one patch changes the token of that patch most."""
    image = images(encoder, batch=1)
    row, column, patch = 1, 2, encoder.patch_size
    changed = image.clone()
    changed[..., row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = 0
    difference = (encoder.hidden(encoder.preprocess(changed)) - encoder.hidden(encoder.preprocess(image))).norm(dim=-1)
    assert difference.argmax().item() == row * encoder.grid + column


def test_is_deterministic_and_sees_each_image_alone(encoder: RepresentationEncoder) -> None:
    image = images(encoder, batch=3)
    together = encoder(image)
    assert torch.equal(together, encoder(image))
    torch.testing.assert_close(encoder(image[1:2]), together[1:2], atol=1e-5, rtol=1e-5)


def test_is_frozen(encoder: RepresentationEncoder) -> None:
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder(images(encoder).requires_grad_()).requires_grad


def test_features_carry_gradients_to_the_image(encoder: RepresentationEncoder) -> None:
    image = images(encoder).requires_grad_()
    features = encoder.features(image)
    assert torch.equal(features, encoder(image))
    features.square().sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0


def test_resizes_other_images(encoder: RepresentationEncoder) -> None:
    size = encoder.input_size + 8
    assert encoder(torch.rand(1, 3, size, size - 3)).shape == (1, encoder.grid**2, encoder.width)


def test_runs_under_bf16_autocast(encoder: RepresentationEncoder) -> None:
    image = images(encoder)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = encoder(image)
    assert tokens.dtype == torch.float32, "the final norm stays in float32"
    assert (tokens - encoder(image)).abs().mean() < 0.05


def test_larger_input_gives_a_larger_grid(encoder: RepresentationEncoder) -> None:
    larger = again(encoder, input_size=2 * encoder.input_size)
    assert larger(images(larger)).shape == (2, 4 * encoder.grid**2, encoder.width)
    assert larger.fingerprint() == encoder.fingerprint()


def test_fingerprint_names_the_weights(encoder: RepresentationEncoder, tmp_path: Path) -> None:
    fingerprint = encoder.fingerprint()
    assert fingerprint["source"] == encoder.config.path
    other = tiny_encoders.build(str(fingerprint["name"]), tmp_path, seed=1).fingerprint()
    assert other["sha256"] != fingerprint["sha256"] and other["name"] == fingerprint["name"]


def test_the_commit_that_was_resolved_is_pinned(
    encoder: RepresentationEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = source.load_model

    def from_hub(*args: Any) -> Any:
        model = load(*args)
        model.config._commit_hash = "abc123"
        return model

    monkeypatch.setattr(source, "load_model", from_hub)
    pinned = again(encoder)
    assert pinned.revision == pinned.config.revision == pinned.fingerprint()["revision"] == "abc123"
    assert encoder.revision is None


def test_taps_are_the_outputs_of_the_blocks(encoder: RepresentationEncoder) -> None:
    """As hooks on the blocks see them; the last, normalised, is the encoder's own output."""
    seen: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, inputs, output: seen.append(output)) for block in encoder.blocks]
    third, first, second = encoder.taps(images(encoder), [-1, 1, 2])
    for hook in hooks:
        hook.remove()
    assert encoder.depth == len(encoder.blocks) == len(seen) == 3
    for tap, output in zip((first, second, third), seen, strict=True):
        assert torch.equal(tap, output[:, -(encoder.grid**2) :])
    assert torch.equal(encoder.normalise(third), encoder(images(encoder)))


def test_taps_carry_gradients_and_stop_at_the_last_one(encoder: RepresentationEncoder) -> None:
    image = images(encoder).requires_grad_()
    ran: list[int] = []
    hooks = [block.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, block in enumerate(encoder.blocks, 1)]
    (tap,) = encoder.taps(image, [2])
    for hook in hooks:
        hook.remove()
    assert ran == [1, 2]
    tap.square().sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0


def test_layers_are_normalised_then_added(encoder: RepresentationEncoder) -> None:
    image = images(encoder)
    first, third = (encoder.normalise(tap) for tap in encoder.taps(image, [1, 3]))
    chosen = again(encoder, layers=(-1, 1))
    assert chosen.layers == (1, 3) and not chosen(image.requires_grad_()).requires_grad
    torch.testing.assert_close(chosen(image), first + third)
    torch.testing.assert_close(again(encoder, layers=(-1, 1), merge="mean")(image), (first + third) / 2)
    assert chosen.fingerprint() == encoder.fingerprint(), "the weights are the same"


def test_bf16_differs_by_its_rounding_only(encoder: RepresentationEncoder) -> None:
    image = images(encoder).requires_grad_()
    rounded = again(encoder, precision="bf16", layers=(1, 2, 3))
    exact = again(encoder, layers=(1, 2, 3))(image)
    tokens = rounded(image)
    assert tokens.dtype == torch.float32
    assert 0 < (tokens - exact).norm() / exact.norm() < 0.01
    rounded.features(image).square().sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert rounded.fingerprint() == encoder.fingerprint(), "what is rounded is not what it is"


def test_fp32_does_not_follow_the_surroundings(encoder: RepresentationEncoder) -> None:
    image = images(encoder)
    exact = again(encoder, precision="fp32")
    with torch.autocast("cpu", torch.bfloat16):
        inside, following = exact(image), encoder(image)
    assert torch.equal(inside, exact(image))
    assert not torch.equal(following, encoder(image))
