"""The latent space as one object: encode, decode, save, load, and the refusal of another encoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_encoders
from raekit import shipped
from raekit.autoencoder import AUTOENCODERS, artefact
from raekit.autoencoder.decoder import ViTDecoder
from raekit.autoencoder.latent import LatentStatistics
from raekit.autoencoder.rae import RAE
from raekit.encoders import ENCODERS
from raekit.errors import UserError

DECODER = {"size": "nano", "width": 16, "depth": 1, "heads": 2, "mlp_width": 24, "patch_size": 10}


def config(encoder: Path, /, **options: object) -> RAE.Config:
    recipe = {"encoder": {"name": "siglip2", "path": str(encoder)}, "decoder": DECODER}
    return RAE.Config.model_validate(recipe | options)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoders.save("siglip2", tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def rae(encoder: Path) -> RAE:
    torch.manual_seed(0)
    rae = RAE(config(encoder))
    rae.fit_statistics(torch.rand(12, 3, 32, 32).split([5, 7]))
    return rae


def test_shapes_follow_from_the_parts(rae: RAE) -> None:
    image = torch.rand(2, 3, 50, 40)
    latent = rae.encode(image)
    assert latent.shape == (2, *rae.shape) and rae.shape == (32, 4, 4) and rae.dim == 512
    assert rae.decode(latent).shape == (2, 3, 40, 40) and rae.output_size == 40


def test_an_outline_has_every_size_and_no_weight(rae: RAE) -> None:
    outline = RAE.outline(rae.config)
    assert (outline.shape, outline.resolution) == (rae.shape, rae.resolution)
    assert outline.device.type == "meta"
    counts = [sum(p.numel() for p in each.parameters()) for each in (outline, rae)]
    assert counts[0] == counts[1]
    assert outline(torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 3, 40, 40)


def test_an_outline_refuses_what_does_not_fit(encoder: Path) -> None:
    with pytest.raises(UserError, match="no multiple of the 4 x 4 tokens"):
        RAE.outline(config(encoder, decoder=DECODER | {"patch_size": None}, output_size=33))


@pytest.mark.parametrize("size", [32, 40, 128])
def test_output_size_sets_the_patch(encoder: Path, tmp_path: Path, size: int) -> None:
    """32 px in, 4 x 4 tokens: the encoder's own patch, a larger one, and a fourfold upsampling decoder."""
    rae = RAE(config(encoder, decoder=DECODER | {"patch_size": None}, output_size=size))
    assert rae.config.decoder.patch_size == rae.decoder.patch_size == size // 4
    assert rae(torch.rand(1, 3, 32, 32)).shape == (1, 3, size, size)
    assert rae.resolution == (32, 8, size // 4, size) and rae.resolution.grid == 4
    rae.save(tmp_path)
    assert RAE.load(tmp_path).output_size == size


def test_output_size_and_patch_must_agree(encoder: Path) -> None:
    assert RAE(config(encoder, output_size=40)).output_size == 40
    with pytest.raises(UserError, match="output_size: 64 needs decoder.patch_size 16 .* is 10, which gives 40"):
        RAE(config(encoder, output_size=64))
    other = ViTDecoder(ViTDecoder.Config(**DECODER), 32, 4)
    with pytest.raises(UserError, match="output_size: 64 needs decoder.patch_size 16 .* is 10, which gives 40"):
        RAE(config(encoder, output_size=64, decoder=DECODER | {"patch_size": 16}), decoder=other)


def test_parts_of_another_latent_space_are_refused(encoder: Path) -> None:
    settings = ViTDecoder.Config(**DECODER)
    with pytest.raises(
        UserError, match=r"decoder: made for 3 x 3 tokens, but the encoder gives 4 x 4 .*input_size to 24"
    ):
        RAE(config(encoder), decoder=ViTDecoder(settings, 32, 3))
    with pytest.raises(UserError, match="decoder: made for 16 channels, but the encoder gives .* 32 channels"):
        RAE(config(encoder), decoder=ViTDecoder(settings, 16, 4))
    statistics = LatentStatistics(torch.zeros(32, 5, 5), torch.ones(32, 5, 5))
    with pytest.raises(UserError, match=r"statistics: \[32, 5, 5\] do not fit the latent grid \[32, 4, 4\]"):
        RAE(config(encoder), statistics=statistics)
    resizing = ViTDecoder(settings.model_copy(update={"resize_grid": True}), 32, 3)
    rae = RAE(config(encoder), decoder=resizing)
    assert rae(torch.rand(1, 3, 32, 32)).shape == (1, 3, 30, 30) and rae.resolution.output_size == 30


def test_is_built_from_its_registry(encoder: Path) -> None:
    assert isinstance(AUTOENCODERS.build(config(encoder)), RAE)


def test_decoder_sees_raw_tokens_whatever_the_statistics(rae: RAE) -> None:
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(rae(image), rae.decode_tokens(rae.encode_tokens(image)))


def test_decoded_pixels_are_in_the_encoders_scale(rae: RAE) -> None:
    tokens = torch.randn(1, 16, 32)
    torch.testing.assert_close(rae.decode_tokens(tokens), rae.decoder(tokens) * 0.5 + 0.5)


def test_latents_of_the_fitted_images_are_standard(encoder: Path) -> None:
    rae, images = RAE(config(encoder, statistics="per_channel")), torch.rand(16, 3, 32, 32)
    rae.fit_statistics(images.split(3))
    latent = rae.encode(images)
    torch.testing.assert_close(latent.mean((0, 2, 3)), torch.zeros(32), atol=1e-4, rtol=0)
    torch.testing.assert_close(latent.var((0, 2, 3), correction=0), torch.ones(32), atol=1e-3, rtol=0)


def test_statistics_none_keeps_raw_tokens(encoder: Path) -> None:
    rae, image = RAE(config(encoder, statistics="none")), torch.rand(1, 3, 32, 32)
    rae.fit_statistics([image])
    assert torch.equal(rae.encode(image).flatten(2).transpose(1, 2), rae.encode_tokens(image))


def test_only_the_decoder_is_trained(rae: RAE) -> None:
    rae.train()
    assert rae.decoder.training and not rae.encoder.training
    assert {name.split(".")[0] for name, p in rae.named_parameters() if p.requires_grad} == {"decoder"}
    rae(torch.rand(1, 3, 32, 32)).sum().backward()
    assert rae.decoder.last_layer.grad is not None


def test_round_trip_is_bit_exact(rae: RAE, tmp_path: Path) -> None:
    image = torch.rand(1, 3, 32, 32)
    rae.save(tmp_path / "a")
    loaded = RAE.load(tmp_path / "a")
    assert torch.equal(loaded.encode(image), rae.encode(image)) and torch.equal(loaded(image), rae(image))
    assert loaded.config == rae.config and loaded.checksum == rae.checksum != ""
    loaded.save(tmp_path / "b")
    assert loaded.checksum == rae.checksum
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_artefact_states_what_the_latent_space_is(rae: RAE, tmp_path: Path) -> None:
    rae.save(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    settings = {"input_size": 32, "resize": "bicubic", "norm": "affine_free", "layers": [2], "merge": "sum"}
    assert content["encoder"] == rae.encoder.fingerprint() | settings
    assert content["latent"] == {"shape": [32, 4, 4], "form": "per_position", "eps": 1e-5}
    assert content["image"] == {"size": 40, "range": [0, 1]}
    assert content["config"]["tau"] == 0.8 and content["config"]["noise_law"] == "uniform"


def test_half_size_for_shipping(rae: RAE, tmp_path: Path) -> None:
    rae.save(tmp_path / "full")
    rae.save(tmp_path / "half", dtype=torch.bfloat16)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.7 * sizes[0]
    loaded = RAE.load(tmp_path / "half")
    assert loaded.decoder.last_layer.dtype == torch.float32
    assert torch.equal(loaded.decoder.last_layer, rae.decoder.last_layer.bfloat16().float())
    assert torch.equal(loaded.statistics.mean, rae.statistics.mean)


def test_averaged_weights_can_be_stored_instead(rae: RAE, tmp_path: Path) -> None:
    averaged = {key: value * 0 for key, value in rae.decoder.state_dict().items()}
    rae.save(tmp_path, trained={f"decoder.{key}": value for key, value in averaged.items()})
    assert not RAE.load(tmp_path).decoder.last_layer.any() and rae.decoder.last_layer.any()


def test_another_encoder_is_refused_by_both_names(rae: RAE, encoder: Path, tmp_path: Path) -> None:
    rae.save(tmp_path / "a")
    other = tiny_encoders.build("siglip2", tmp_path / "other", seed=1)
    with pytest.raises(UserError, match=f"made with encoder siglip2 {encoder} .*found siglip2 {tmp_path / 'other'} "):
        RAE.load(tmp_path / "a", encoder=other)


def test_another_preparation_of_images_is_refused(rae: RAE, encoder: Path, tmp_path: Path) -> None:
    rae.save(tmp_path / "a")
    changed = tiny_encoders.build("siglip2", tmp_path / "same", norm="affine")
    with pytest.raises(UserError, match="norm affine_free.*found.*norm affine"):
        RAE.load(tmp_path / "a", encoder=changed)


@pytest.mark.parametrize(
    ("made", "found", "complaint"),
    [
        ({"layers": "last_2"}, {}, r"layers \[1, 2\] by sum.*found.*layers \[2\] by sum"),
        ({}, {"layers": [1]}, r"layers \[2\] by sum.*found.*layers \[1\] by sum"),
        ({"layers": "last_2"}, {"layers": "last_2", "merge": "mean"}, r"\[1, 2\] by sum.*found.*\[1, 2\] by mean"),
    ],
)
def test_other_layers_are_refused(
    encoder: Path, tmp_path: Path, made: dict[str, Any], found: dict[str, Any], complaint: str
) -> None:
    RAE(config(encoder, encoder={"name": "siglip2", "path": str(encoder), **made})).save(tmp_path)
    other = ENCODERS.build(ENCODERS["siglip2"].Config(path=str(encoder), **found))
    with pytest.raises(UserError, match=complaint):
        RAE.load(tmp_path, encoder=other)


def test_layers_by_any_name_are_the_same(encoder: Path, tmp_path: Path) -> None:
    rae = RAE(config(encoder, encoder={"name": "siglip2", "path": str(encoder), "layers": "last_2"}))
    rae.save(tmp_path)
    image = torch.rand(1, 3, 32, 32)
    same = ENCODERS.build(ENCODERS["siglip2"].Config(path=str(encoder), layers=[2, 1]))
    for loaded in (RAE.load(tmp_path), RAE.load(tmp_path, encoder=same)):
        assert torch.equal(loaded.encode(image), rae.encode(image))


def test_artefacts_from_before_layers_are_of_the_last_one(rae: RAE, tmp_path: Path) -> None:
    rae.save(tmp_path)
    identity, tensors = artefact.read(tmp_path)
    del identity["checksum"]
    for key in ("layers", "merge"):
        del identity["encoder"][key], identity["config"]["encoder"][key]
    del identity["config"]["output_size"]
    artefact.write(tmp_path, identity, tensors)
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(RAE.load(tmp_path).encode(image), rae.encode(image))
    first = ENCODERS.build(rae.config.encoder.model_copy(update={"layers": (1,)}))
    with pytest.raises(UserError, match=r"made with.*layers \[2\] by sum.*found.*layers \[1\]"):
        RAE.load(tmp_path, encoder=first)


def test_how_tokens_are_computed_is_not_what_they_are(rae: RAE, encoder: Path, tmp_path: Path) -> None:
    rae.save(tmp_path / "plain")
    settings = {"name": "siglip2", "path": str(encoder), "precision": "bf16"}
    rounded = RAE(config(encoder, encoder=settings), decoder=rae.decoder, statistics=rae.statistics)
    rounded.save(tmp_path / "rounded")
    assert rounded.checksum == rae.checksum
    assert RAE.load(tmp_path / "rounded").encoder.config.precision == "auto"
    RAE.load(tmp_path / "plain", encoder=rounded.encoder)


def test_settings_of_another_release_are_refused(rae: RAE, tmp_path: Path) -> None:
    rae.save(tmp_path / "a")
    identity, tensors = artefact.read(tmp_path / "a")
    del identity["checksum"]
    identity["config"]["decoder"]["rope"] = True
    artefact.write(tmp_path / "a", identity, tensors)
    with pytest.raises(UserError, match=f"{tmp_path / 'a'}.*decoder.rope: unknown key"):
        RAE.load(tmp_path / "a")


def test_the_one_that_ships_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundled = RAE.load()
    assert bundled.shape == (128, 4, 4)
    assert RAE.load("models/nano/autoencoder", encoder=bundled.encoder).checksum == bundled.checksum


def test_encoder_may_move(rae: RAE, encoder: Path, tmp_path: Path) -> None:
    rae.save(tmp_path / "a")
    moved = tiny_encoders.build("siglip2", tmp_path / "moved")
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(RAE.load(tmp_path / "a", encoder=moved).encode(image), rae.encode(image))


def test_encoder_inside_the_package(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(encoder, tmp_path / "package/models/tiny/encoder")
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "package")
    RAE(config(Path("models/tiny/encoder"))).save(tmp_path / "a")
    assert RAE.load(tmp_path / "a").encoder.fingerprint()["source"] == "models/tiny/encoder"
