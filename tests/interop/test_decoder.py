"""Published decoders: every key accounted for, and back bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny_published
from raekit.autoencoder.decoder import ViTDecoder
from raekit.errors import UserError
from raekit.interop.decoder import (
    DIFFUSERS,
    NOTE,
    VIT_MAE,
    check_settings,
    decoder_from,
    decoder_to,
    export_decoder,
    key_names,
    read_settings,
    take_decoder,
)
from raekit.interop.ledger import Ledger
from tiny_published import CHANNELS, GRID, HEADS, MLP_WIDTH, PATCH, WIDTH, same


@pytest.fixture
def published() -> dict[str, Tensor]:
    """Random tensors by the keys and shapes of a released ``model.pt``."""
    return tiny_published.decoder()


def test_round_trip_is_bit_exact(published: dict[str, Tensor]) -> None:
    decoder = decoder_from(published, HEADS)
    assert decoder.config.shape == (WIDTH, 2, HEADS, MLP_WIDTH, PATCH) and decoder.grid == GRID
    assert same(decoder_to(decoder), published)


def test_trained_positions_are_kept(published: dict[str, Tensor]) -> None:
    assert torch.equal(decoder_from(published, HEADS).position, published["decoder_pos_embed"])


def test_only_the_class_token_may_be_missing(published: dict[str, Tensor]) -> None:
    del published["trainable_cls_token"]
    assert not decoder_from(published, HEADS).cls_token.any()
    del published["decoder_norm.bias"]
    with pytest.raises(UserError, match=r"1 missing \(decoder_norm.bias\)"):
        decoder_from(published, HEADS)


def test_no_key_is_ignored(published: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match=r"1 unexpected \(mask_token\)"):
        decoder_from(published | {"mask_token": torch.zeros(1)}, HEADS)


def test_other_shapes_are_refused(published: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match=r"blocks.1.norm1.weight is \[3\], expected \[16\]"):
        decoder_from(published | {"decoder_layers.1.layernorm_before.weight": torch.zeros(3)}, HEADS)


def test_export_can_be_read_with_its_settings(published: dict[str, Tensor], tmp_path: Path) -> None:
    decoder = decoder_from(published, HEADS)
    export_decoder(decoder, tmp_path / "new")
    assert same(torch.load(tmp_path / "new" / "model.pt", weights_only=True), published)
    settings = read_settings(tmp_path / "new" / "config.json")
    again = decoder_from(published, settings["decoder_num_attention_heads"])
    assert again.config == decoder.config
    tokens = torch.randn(1, GRID**2, CHANNELS)
    assert torch.equal(again(tokens), decoder(tokens))


def test_heads_must_be_known(published: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="16 wide, 2 deep is no known size; state its number of --heads"):
        decoder_from(published)


def test_heads_of_a_preset_are_known() -> None:
    small = ViTDecoder(ViTDecoder.Config(size="nano", patch_size=2), latent_channels=4, grid=2)
    again = decoder_from(decoder_to(small))
    assert again.config.shape == small.config.shape


@pytest.mark.parametrize(("key", "value"), [("hidden_act", "relu"), ("layer_norm_eps", 1e-6), ("qkv_bias", False)])
def test_unsupported_settings_are_refused(key: str, value: object) -> None:
    check_settings(tiny_published.decoder_config(), "weights")
    with pytest.raises(UserError, match=f"weights: {key} is {value!r}, only"):
        check_settings(tiny_published.decoder_config() | {key: value}, "weights")


@pytest.mark.parametrize(("depth", "count"), [(12, 200), (24, 392), (28, 456)])
def test_number_of_tensors_of_released_files(depth: int, count: int) -> None:
    """ViT-B, L and XL."""
    assert sum(len(theirs) for theirs in key_names(depth, VIT_MAE).values()) == count


def test_names_of_diffusers(published: dict[str, Tensor]) -> None:
    theirs = tiny_published.decoder(attention=tiny_published.DIFFUSERS)
    decoder = decoder_from(theirs, HEADS)
    assert same(decoder_to(decoder), published) and same(decoder_to(decoder, DIFFUSERS), theirs)


def test_a_layout_may_leave_the_position_table_to_us(published: dict[str, Tensor]) -> None:
    del published["decoder_pos_embed"]
    with pytest.raises(UserError, match=r"1 missing \(decoder_pos_embed\)"):
        decoder_from(published, HEADS)
    ledger = Ledger(published, "weights")
    fresh = ViTDecoder(decoder_from(tiny_published.decoder(), HEADS).config, CHANNELS, GRID)
    assert torch.equal(take_decoder(ledger, heads=HEADS, grid=GRID).position, fresh.position)
    assert ledger.absent == {"decoder_pos_embed": "the sin-cos table, as its own system computes it"}


def test_a_note_is_kept_apart(published: dict[str, Tensor], tmp_path: Path) -> None:
    export_decoder(decoder_from(published, HEADS), tmp_path, tau=0.3)
    settings = read_settings(tmp_path / "config.json")
    assert settings.pop(NOTE) == {"tau": 0.3}
    assert settings == tiny_published.decoder_config() | {"hidden_size": CHANNELS}


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_settings_that_are_no_json_object(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json' (is not valid JSON|holds a list)"):
        read_settings(tmp_path / "config.json")
    assert read_settings(tmp_path / "none.json") == {}
