"""Published decoders and statistics: every key accounted for, and back bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny_encoders
from raekit.autoencoder.decoder import ViTDecoder
from raekit.autoencoder.latent import LatentStatistics
from raekit.errors import UserError
from raekit.interop.decoder import (
    decoder_from,
    decoder_to,
    export_decoder,
    export_statistics,
    import_decoder,
    import_rae,
    import_statistics,
)

HEADS, GRID, CHANNELS, WIDTH, MLP_WIDTH, PATCH = 2, 4, 32, 16, 24, 5


@pytest.fixture
def published() -> dict[str, Tensor]:
    """Random tensors by the keys and shapes of a released ``model.pt`` (RAE memo), two layers deep."""
    square, vector = (WIDTH, WIDTH), (WIDTH,)
    shapes: dict[str, tuple[int, ...]] = {
        "decoder_pos_embed": (1, GRID**2 + 1, WIDTH),
        "trainable_cls_token": (1, 1, WIDTH),
        "decoder_embed.weight": (WIDTH, CHANNELS),
        "decoder_embed.bias": vector,
        "decoder_norm.weight": vector,
        "decoder_norm.bias": vector,
        "decoder_pred.weight": (3 * PATCH**2, WIDTH),
        "decoder_pred.bias": (3 * PATCH**2,),
    }
    for i in range(2):
        layer = f"decoder_layers.{i}"
        for name in ("attention.attention.query", "attention.attention.key", "attention.attention.value"):
            shapes |= {f"{layer}.{name}.weight": square, f"{layer}.{name}.bias": vector}
        shapes |= {f"{layer}.attention.output.dense.weight": square, f"{layer}.attention.output.dense.bias": vector}
        shapes |= {f"{layer}.intermediate.dense.weight": (MLP_WIDTH, WIDTH), f"{layer}.output.dense.bias": vector}
        shapes |= {f"{layer}.intermediate.dense.bias": (MLP_WIDTH,), f"{layer}.output.dense.weight": (WIDTH, MLP_WIDTH)}
        for norm in ("layernorm_before", "layernorm_after"):
            shapes |= {f"{layer}.{norm}.weight": vector, f"{layer}.{norm}.bias": vector}
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_round_trip_is_bit_exact(published: dict[str, Tensor]) -> None:
    decoder = decoder_from(published, HEADS)
    assert decoder.config.shape == (WIDTH, 2, HEADS, MLP_WIDTH, PATCH) and decoder.grid == GRID
    assert equal(decoder_to(decoder), published)


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


def test_files_of_all_kinds(published: dict[str, Tensor], tmp_path: Path) -> None:
    wrapped = {f"module.decoder.{key}": value for key, value in published.items()}
    wrapped["module.encoder.encoder.layernorm.weight"] = torch.zeros(1)
    torch.save({"model": {}, "ema": wrapped, "step": 7}, tmp_path / "ep-last.pt")
    torch.save(published, tmp_path / "model.pt")
    for file in ("ep-last.pt", "model.pt"):
        assert equal(decoder_to(import_decoder(tmp_path / file, HEADS)), published), file


def test_export_is_read_back_without_being_told_the_heads(published: dict[str, Tensor], tmp_path: Path) -> None:
    decoder = decoder_from(published, HEADS)
    export_decoder(decoder, tmp_path)
    assert equal(torch.load(tmp_path / "model.pt", weights_only=True), published)
    again = import_decoder(tmp_path)
    assert again.config == decoder.config
    tokens = torch.randn(1, GRID**2, CHANNELS)
    assert torch.equal(again(tokens), decoder(tokens))


def test_heads_must_be_known(published: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="16 wide, 2 deep is no known size; state its number of heads"):
        decoder_from(published)


def test_heads_of_a_preset_are_known() -> None:
    small = ViTDecoder(ViTDecoder.Config(size="nano", patch_size=2), latent_channels=4, grid=2)
    again = decoder_from(decoder_to(small))
    assert again.config.shape == small.config.shape


@pytest.mark.parametrize(("key", "value"), [("hidden_act", "relu"), ("layer_norm_eps", 1e-6), ("qkv_bias", False)])
def test_unsupported_settings_are_refused(
    published: dict[str, Tensor], tmp_path: Path, key: str, value: object
) -> None:
    torch.save(published, tmp_path / "model.pt")
    (tmp_path / "config.json").write_text(json.dumps({"decoder_num_attention_heads": HEADS, key: value}))
    with pytest.raises(UserError, match=f"{key} is {value!r}"):
        import_decoder(tmp_path)


def test_statistics_round_trip(tmp_path: Path) -> None:
    statistics = LatentStatistics(torch.randn(3, 2, 2), torch.rand(3, 2, 2))
    export_statistics(statistics, tmp_path / "stat.pt")
    again = import_statistics(tmp_path / "stat.pt")
    assert torch.equal(again.mean, statistics.mean) and torch.equal(again.var, statistics.var) and again.eps == 1e-5


@pytest.mark.parametrize(
    ("content", "mean", "var"),
    [
        ({"mean": torch.full((1, 3, 2, 2), 2.0)}, 2, 1),
        ({"var": torch.full((3, 1, 1), 4.0)}, 0, 4),
        ({"running_mean": torch.full((4, 3), 2.0), "running_var": torch.full((4, 3), 4.0)}, 2, 4),
    ],
)
def test_statistics_of_all_forms(content: dict[str, Tensor], mean: float, var: float, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "stat.pt")
    found = import_statistics(tmp_path / "stat.pt")
    assert found.mean.shape[0] == 3 and (found.mean == mean).all() and (found.var == var).all()


@pytest.mark.parametrize("content", [{"mean": torch.zeros(3)}, {"mean": torch.zeros(1, 1, 1), "std": torch.ones(1)}])
def test_other_statistics_are_refused(content: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "stat.pt")
    with pytest.raises(UserError, match="statistics"):
        import_statistics(tmp_path / "stat.pt")


def test_a_whole_published_autoencoder(published: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(published, tmp_path / "model.pt")
    (tmp_path / "config.json").write_text(json.dumps({"decoder_num_attention_heads": HEADS}))
    export_statistics(LatentStatistics(torch.randn(32, 4, 4), torch.rand(32, 4, 4)), tmp_path / "stat.pt")
    tiny_encoders.save("siglip2", tmp_path / "encoder")
    encoder = tiny_encoders.config("siglip2", tmp_path / "encoder")
    rae = import_rae(encoder, tmp_path, tmp_path / "stat.pt")
    image = torch.rand(1, 3, 32, 32)
    assert rae(image).shape == (1, 3, GRID * PATCH, GRID * PATCH) and rae.config.statistics == "per_position"
    rae.save(tmp_path / "ours")
    assert torch.equal(type(rae).load(tmp_path / "ours")(image), rae(image))
    larger = encoder.model_copy(update={"input_size": 64})
    with pytest.raises(UserError, match="made for 4 x 4 tokens of 32 channels, the encoder gives 8 x 8 of 32"):
        import_rae(larger, tmp_path)
