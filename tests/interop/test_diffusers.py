"""AutoencoderRAE directories: round trips bit for bit, and the pictures that diffusers draws, where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import tiny_encoders
import tiny_published
from raekit.autoencoder.rae import RAE
from raekit.errors import UserError
from raekit.interop.convert import convert
from raekit.interop.diffusers import WEIGHTS_FILE, computed_table
from raekit.interop.format import ConvertConfig
from raekit.layers.embeddings import sincos_2d
from tiny_published import same

KINDS = ["dinov2", "mae"]
OUT = ConvertConfig(format="diffusers")


def weights(directory: Path) -> dict[str, Tensor]:
    return load_file(directory / WEIGHTS_FILE)


def oracle(directory: Path) -> Any:
    """The directory as diffusers reads it; every key must be its own."""
    diffusers = pytest.importorskip("diffusers")
    model, info = diffusers.AutoencoderRAE.from_pretrained(directory, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval()


def check_same_pictures(rae: RAE, theirs: Any) -> None:
    """Latents and decoded pixels of both, to 1e-5."""
    image = torch.rand(2, 3, 70, 70)
    with torch.no_grad():
        latent = rae.encode(image)
        assert torch.allclose(theirs.encode(image).latent, latent, rtol=0, atol=1e-5)
        assert torch.allclose(theirs.decode(latent).sample, rae.decode(latent), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [*KINDS, "siglip2"])
def test_there_and_back(kind: str, tmp_path: Path) -> None:
    source = tiny_published.save_diffusers(tmp_path / "published", kind)
    rows = convert(source, tmp_path / "ours")
    tensors = weights(source)
    unused = [key for key in tensors if key.startswith("encoder.head.")]
    assert ("loaded", f"{len(tensors) - len(unused)} of {len(tensors)} tensors") in rows
    assert dict(rows)["from"] == f"{source} (diffusers)"
    assert ("absent", "decoder.decoder_pos_embed: the sin-cos table, as its own system computes it") in rows
    assert dict(rows)["latent"] == "[64, 4, 4], statistics per_position, tau 0.8"
    assert dict(rows)["encoder"].endswith("4 x 4 tokens (written there)")
    rae = RAE.load(tmp_path / "ours")
    assert rae.encoder.config.path == str(tmp_path / "ours" / "encoder")
    image = torch.rand(1, 3, 64, 64)
    assert rae(image).shape == (1, 3, 12, 12)

    notes = [value for label, value in convert(tmp_path / "ours", tmp_path / "again", OUT) if label == "note"]
    written = weights(tmp_path / "again")
    if kind == "siglip2":
        assert "cannot build siglip2 under transformers 5" in notes[0] and "head.*: zeros" in notes[1]
        written = {key.replace("vision_model.", ""): value for key, value in written.items()}
        assert all(not written.pop(key).any() and tensors.pop(key) is not None for key in unused)
    assert same(written, tensors)
    convert(tmp_path / "again", tmp_path / "twice")
    twice = RAE.load(tmp_path / "twice")
    assert same(dict(twice.state_dict()), dict(rae.state_dict()))


@pytest.mark.parametrize("kind", KINDS)
def test_same_pictures_as_diffusers(kind: str, tmp_path: Path) -> None:
    source = tiny_published.save_diffusers(tmp_path / "published", kind)
    theirs = oracle(source)
    convert(source, tmp_path / "ours")
    rae = RAE.load(tmp_path / "ours")
    check_same_pictures(rae, theirs)
    convert(tmp_path / "ours", tmp_path / "again", OUT)
    check_same_pictures(rae, oracle(tmp_path / "again"))


def test_an_autoencoder_of_ours_in_diffusers(tmp_path: Path) -> None:
    """No statistics, none in the file: its divisor is one there, too."""
    rae = ours(tmp_path / "ours")
    rows = convert(tmp_path / "ours", tmp_path / "out", ConvertConfig(format="diffusers", lossy=True))
    assert (
        "left out",
        "layernorm.weight, layernorm.bias of the encoder: the final norm is used without weight and bias",
    ) in rows
    theirs = oracle(tmp_path / "out")
    assert theirs.config.latents_mean is None
    latent = torch.randn(2, 64, 4, 4)
    with torch.no_grad():
        found = theirs._denormalize_latents(latent)
        assert torch.equal(found, latent)
        rae.decoder.position = computed_table(16, 4)
        assert torch.allclose(theirs.decode(latent).sample, rae.decode(latent), rtol=0, atol=1e-5)


def test_siglip2_cannot_be_built_by_diffusers() -> None:
    """The reason for the note in the report; when this fails, the note can go."""
    diffusers = pytest.importorskip("diffusers")
    with pytest.raises(AttributeError, match="has no attribute 'vision_model'"):
        diffusers.AutoencoderRAE(encoder_type="siglip2", encoder_hidden_size=64, encoder_num_hidden_layers=1)


@pytest.mark.parametrize("grid", [4, 16, 32])
def test_the_table_that_diffusers_computes(grid: int) -> None:
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    theirs = embeddings.get_2d_sincos_pos_embed(16, grid, cls_token=True, extra_tokens=1, output_type="pt").float()
    assert torch.allclose(computed_table(16, grid)[0], theirs, atol=1e-6)


def test_the_computed_table_is_the_published_one_on_16_x_16_only() -> None:
    assert torch.allclose(computed_table(16, 16)[0], sincos_2d(16, 16, cls_token=True), atol=1e-6)
    assert not torch.allclose(computed_table(16, 32)[0], sincos_2d(16, 32, cls_token=True), atol=1e-1)


def test_a_stored_position_table_is_loaded(tmp_path: Path) -> None:
    tensors = tiny_published.diffusers_tensors("mae")
    altered = tiny_published.decoder(64)["decoder_pos_embed"]
    source = tiny_published.save_diffusers(
        tmp_path / "published", "mae", tensors | {"decoder.decoder_pos_embed": altered}
    )
    rows = convert(source, tmp_path / "ours")
    assert ("note", "decoder.decoder_pos_embed is the file's; diffusers would ignore it and compute another") in rows
    assert torch.equal(RAE.load(tmp_path / "ours").decoder.position, altered)

    with pytest.raises(UserError, match=r"decoded pixels would differ by up to \d\.\de[+-]\d\d of 1; .* --lossy"):
        convert(tmp_path / "ours", tmp_path / "out", OUT)
    assert not (tmp_path / "out").exists()
    rows = convert(tmp_path / "ours", tmp_path / "out", ConvertConfig(format="diffusers", lossy=True))
    assert any("diffusers computes another; decoded pixels differ by up to" in value for _, value in rows)
    assert same(weights(tmp_path / "out"), tensors)


def test_older_names_mean_the_same(tmp_path: Path) -> None:
    """The hub's names of encoder and decoder, under the prefixes that older files have."""
    source = tiny_published.save_diffusers(tmp_path / "published", "dinov2")
    convert(source, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "hub", ConvertConfig(format="diffusers", encoder_names="hub"))
    renamed = {
        key.replace("encoder.", "encoder.model.", 1) if key.startswith("encoder.") else key: value
        for key, value in weights(tmp_path / "hub").items()
    }
    assert any(".attention.attention.query." in key for key in renamed)
    vit_mae = tiny_published.decoder(64, prefix="decoder.")
    old = {key: value for key, value in renamed.items() if not key.startswith("decoder.")} | vit_mae
    del old["decoder.decoder_pos_embed"]
    older = tiny_published.save_diffusers(tmp_path / "older", "dinov2", old)
    convert(older, tmp_path / "again")
    theirs, again = RAE.load(tmp_path / "ours"), RAE.load(tmp_path / "again")
    assert theirs.encoder.fingerprint()["sha256"] == again.encoder.fingerprint()["sha256"]
    assert same(dict(theirs.decoder.state_dict()), dict(again.decoder.state_dict()))
    convert(tmp_path / "again", tmp_path / "newest", OUT)
    assert weights(tmp_path / "newest").keys() == weights(source).keys()


def test_an_encoder_can_be_named_instead(tmp_path: Path) -> None:
    source = tiny_published.save_diffusers(tmp_path / "published", "mae")
    convert(source, tmp_path / "first")
    encoder = {"name": "mae", "path": str(tmp_path / "first" / "encoder"), "input_size": 64}
    rows = dict(convert(source, tmp_path / "second", ConvertConfig.model_validate({"encoder": encoder})))
    assert rows["encoder"].endswith("(as stated, and the same weights)")
    assert not (tmp_path / "second" / "encoder").exists()
    assert RAE.load(tmp_path / "second").encoder.config.path == encoder["path"]

    affine = ConvertConfig.model_validate({"encoder": encoder | {"norm": "affine"}})
    with pytest.raises(UserError, match="norm = affine, not affine_free"):
        convert(source, tmp_path / "third", affine)
    other = tiny_published.diffusers_tensors("mae") | {"encoder.embeddings.cls_token": torch.ones(1, 1, 64)}
    changed = tiny_published.save_diffusers(tmp_path / "changed", "mae", other)
    with pytest.raises(UserError, match=r"1 weights differ \(embeddings.cls_token\)"):
        convert(changed, tmp_path / "third", ConvertConfig.model_validate({"encoder": encoder}))
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("changes", "extra", "sentence"),
    [
        ({"encoder_type": "clip"}, {}, "encoder_type is 'clip'"),
        ({"reshape_to_2d": False}, {}, "reshape_to_2d is False"),
        ({}, {"encoder_mean": torch.zeros(1, 3, 1, 1)}, r"encoder_mean is \[0.0, 0.0, 0.0\]"),
        ({}, {"decoder.mask_token": torch.zeros(1)}, r"1 unexpected \(decoder.mask_token\)"),
        ({}, {"encoder.embeddings.extra": torch.zeros(1)}, "do not fit ViTMAEModel"),
        ({"encoder_num_hidden_layers": 3}, {}, "do not fit ViTMAEModel"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    changes: dict[str, Any], extra: dict[str, Tensor], sentence: str, tmp_path: Path
) -> None:
    tensors = tiny_published.diffusers_tensors("mae") | extra
    source = tiny_published.save_diffusers(tmp_path / "published", "mae", tensors, **changes)
    with pytest.raises(UserError, match=sentence):
        convert(source, tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["published"]


def ours(directory: Path) -> RAE:
    """An autoencoder of ours with an encoder that diffusers can build, without statistics."""
    source = tiny_published.save_diffusers(directory.parent / "source", "dinov2")
    convert(source, directory.parent / "first")
    first = RAE.load(directory.parent / "first")
    config = first.config.model_copy(update={"statistics": "none", "decoder": first.decoder.config})
    rae = RAE(config, encoder=first.encoder, decoder=first.decoder)
    rae.decoder.position.copy_(sincos_2d(16, 4, cls_token=True))
    rae.save(directory)
    return RAE.load(directory)


def test_encoders_that_diffusers_does_not_have(tmp_path: Path) -> None:
    settings = tiny_encoders.config("webssl", tiny_encoders.save("webssl", tmp_path / "encoder"))
    config = ConvertConfig(encoder=settings, statistics="none")
    convert(tiny_published.save_decoder(tmp_path / "published"), tmp_path / "ours", config)
    with pytest.raises(UserError, match="diffusers has no encoder like webssl .*; it knows dinov2, mae, siglip2"):
        convert(tmp_path / "ours", tmp_path / "out", OUT)
