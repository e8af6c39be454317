"""Diffusion head, queries and connector of a Scale-RAE checkpoint; and heads that see a VAE's latents as tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import tiny_published
from raekit.backbones.dit import DiT
from raekit.conditioning.base import Cond
from raekit.errors import UserError
from raekit.interop.dit import LAYOUTS, Generator, dit_from, dit_to
from raekit.interop.ledger import Ledger
from raekit.interop.scale_rae_head import in_patches, take_condition, take_head
from raekit.layers.embeddings import time_frequencies
from tiny_published import COND_WIDTH, HEAD_WIDTH, LATENT, LM_WIDTH, same, scale_rae_config

HEAD = "diff_head."
STORED = "diff_head.model.t_embedder.W"


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return tiny_published.scale_rae_model()


def head(tensors: dict[str, Tensor], **changes: object) -> tuple[Generator, str]:
    return take_head(Ledger(tensors, "weights"), scale_rae_config(**changes))


def test_the_head_goes_back_bit_for_bit(tensors: dict[str, Tensor]) -> None:
    ledger = Ledger(tensors, "weights")
    published, note = take_head(ledger, scale_rae_config())
    theirs = {key: value for key, value in tensors.items() if key.startswith(HEAD)}
    assert ledger.loaded == theirs.keys() and same(dit_to(published), theirs)
    assert published.backbone.latent_shape == LATENT and note == "drawn from seed 114514, as published"


def test_the_fourier_vector_is_the_published_one(tensors: dict[str, Tensor]) -> None:
    """Numbers of the memo: first eight, sum, sum of squares."""
    vector = head(tensors)[0].backbone.time_embed.frequencies
    first = [0.164998, -0.428739, -0.024267, 0.149424, -0.070685, 0.216612, -1.089931, 0.895714]
    assert torch.allclose(vector[:8], torch.tensor(first), atol=1e-6)
    assert float(vector.double().sum()) == pytest.approx(-12.888590, abs=1e-4)
    assert float(vector.double().square().sum()) == pytest.approx(271.603360, abs=1e-4)


def test_a_stored_fourier_vector_is_compared(tensors: dict[str, Tensor]) -> None:
    _, note = head(tensors | {STORED: time_frequencies()})
    assert note == "drawn from seed 114514; the stored ones are the same to 0e+00"
    for wrong in (time_frequencies().roll(1), torch.ones(3)):
        with pytest.raises(UserError, match=r"stored t_embedder.W is not the one of seed 114514 \(largest difference"):
            head(tensors | {STORED: wrong})


@pytest.mark.parametrize("field", ["hidden_size", "depth", "heads", "z_channels"])
def test_a_config_that_disagrees(tensors: dict[str, Tensor], field: str) -> None:
    with pytest.raises(UserError, match=f"diffusion_model_{field} is 7 in config.json, .* in the weights"):
        head(tensors, **{f"diffusion_model_{field}": 7})


def test_without_rotary_tables_the_config_says_how_many_heads(tensors: dict[str, Tensor]) -> None:
    lacking = {key: value for key, value in tensors.items() if "feat_rope" not in key}
    assert head(lacking)[0].backbone.config.shape.heads == 2
    with pytest.raises(UserError, match="its number of heads is unknown"):
        head(lacking, diffusion_model_heads=None)


@pytest.mark.parametrize("key", ["diff_head.model.dit_blocks.1.attn.qkv.bias", "diff_head.model.pos_embed"])
def test_missing_and_unknown_keys_are_refused(tensors: dict[str, Tensor], key: str) -> None:
    with pytest.raises(UserError, match=key.removeprefix("diff_head.model.")):
        head({name: value for name, value in tensors.items() if name != key})
    with pytest.raises(UserError, match=r"1 unexpected \(strange\)"):
        head(tensors | {"diff_head.model.strange": torch.ones(1)})


def test_the_condition(tensors: dict[str, Tensor]) -> None:
    ledger = Ledger(tensors, "weights")
    state, note = take_condition(ledger, head(tensors)[0])
    assert note == f"connector {LM_WIDTH} to {COND_WIDTH}"
    assert torch.equal(state["queries"], tensors["model.latent_queries"])
    assert torch.equal(state["connector.weight"], tensors["diff_head_projector.weight"])
    assert torch.equal(state["null_token"], tensors["diff_head.model.y_embedder.dropout_embedding"])
    assert ledger.loaded == {"model.latent_queries", "diff_head_projector.weight", "diff_head_projector.bias"}


def test_without_a_connector_there_is_an_exact_identity(tensors: dict[str, Tensor]) -> None:
    lacking = {key: value for key, value in tensors.items() if not key.startswith("diff_head_projector")}
    published = head(tensors)[0]
    with pytest.raises(UserError, match="diff_head_projector.weight is missing"):
        take_condition(Ledger(lacking, "weights"), published)
    lacking["model.latent_queries"] = torch.randn(16, COND_WIDTH)
    state, note = take_condition(Ledger(lacking, "weights"), published)
    states = torch.randn(5, COND_WIDTH)
    connected = torch.nn.functional.linear(states, state["connector.weight"], state["connector.bias"])
    assert torch.equal(connected, states) and note.endswith("the identity")


def test_as_many_queries_as_tokens(tensors: dict[str, Tensor]) -> None:
    published = head(tensors)[0]
    tensors["model.latent_queries"] = torch.randn(15, LM_WIDTH)
    with pytest.raises(UserError, match="15 queries for 16 latent tokens"):
        take_condition(Ledger(tensors, "weights"), published)


def test_tokens_of_vae_latents_become_patches(tensors: dict[str, Tensor]) -> None:
    """The published head sees 4 x 4 tokens of 2 x 2 cells, channel by channel; ours cuts them out of 8 x 8 itself."""
    channels, patch = 8, 2
    config = DiT.Config(width=HEAD_WIDTH, depth=1, heads=2, **LAYOUTS["scale_rae_dit"].settings)
    theirs = DiT(config, (channels * patch**2, 4, 4), cond_width=COND_WIDTH)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    published = dit_to(Generator(theirs, "scale_rae_dit"))
    settings = scale_rae_config(
        generation_alignment_tower="black-forest-labs/FLUX.1-dev-res256", patch_size=patch, diffusion_model_depth=1
    )
    ours = take_head(Ledger(published, "weights"), settings)[0].backbone
    assert ours.latent_shape == (channels, 8, 8) and ours.config.patch_size == patch
    latent, t, cond = torch.randn(2, channels, 8, 8), torch.rand(2), Cond(tokens=torch.randn(2, 16, COND_WIDTH))
    tokens = torch.nn.functional.pixel_unshuffle(latent, patch)
    expected = torch.nn.functional.pixel_shuffle(theirs(tokens, t, cond), patch)
    assert torch.allclose(ours(latent, t, cond), expected, atol=1e-5)


def test_channels_that_are_no_patches(tensors: dict[str, Tensor]) -> None:
    bare = {key.removeprefix(HEAD): value for key, value in tensors.items() if key.startswith(HEAD)}
    with pytest.raises(UserError, match="has 32 channels, no patches of 3 x 3"):
        in_patches(bare, 3, "weights")
    assert dit_from(in_patches(bare, 2, "weights")).backbone.latent_shape == (8, 8, 8)
