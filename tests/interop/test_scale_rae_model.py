"""Whole Scale-RAE models: the published numbers come out, every key is accounted for, and strange ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import tiny_encoders
import tiny_published
from parity.case import read_case, read_manifest
from raekit.autoencoder.latent import to_grid, to_tokens
from raekit.autoencoder.rae import RAE
from raekit.encoders.base import EncoderConfig
from raekit.errors import UserError
from raekit.generate import TextToImage, load_generator
from raekit.interop.convert import convert
from raekit.interop.dit import Generator
from raekit.interop.format import ConvertConfig
from raekit.interop.scale_rae_model import AS_PUBLISHED, check_statistics
from raekit.interop.statistics import EPS
from raekit.latent_file import Latent
from raekit.multimodal.unified import UnifiedModel
from raekit.samplers.integrate import integrate
from raekit.understand import Understander
from tiny_published import CHANNELS, GRID, LATENT, same

GOLDEN = Path(__file__).parents[1] / "parity" / "fixtures"
CASE = "srae_15b_generation"
PROMPT = "Generate an image of a red image"


@pytest.fixture
def encoder(tmp_path: Path) -> EncoderConfig:
    return tiny_encoders.config("siglip2", tiny_encoders.save("siglip2", tmp_path / "encoder"))


@pytest.fixture
def autoencoder(tmp_path: Path, encoder: EncoderConfig) -> Path:
    """The latent space of the tiny model: a published decoder, no statistics."""
    decoder = tiny_published.save_decoder(tmp_path / "decoder", with_statistics=False)
    convert(decoder, tmp_path / "autoencoder", ConvertConfig(encoder=encoder))
    return tmp_path / "autoencoder"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_published.save_scale_rae(tmp_path / "published")


def test_it_draws(source: Path, autoencoder: Path, tmp_path: Path) -> None:
    rows = dict(convert(source, tmp_path / "model", ConvertConfig(autoencoder=autoencoder)))
    total = len(tiny_published.scale_rae_model())
    assert rows["from"] == f"{source} (scale_rae_model)" and rows["loaded"] == f"{total} of {total} tensors"
    model = load_generator(tmp_path / "model", device="cpu")
    assert isinstance(model, TextToImage) and model.checksum[:12] == rows["checksum"]
    assert model.config.sampling == AS_PUBLISHED and "50 points of scale_rae_published" in rows["sampling"]
    assert model("a red apple", steps=3, output="tensor").shape == (1, 3, 12, 12)
    assert bool(model.conditioner.fingerprint.any())
    assert model.conditioner.config.precision == "fp32" and model.conditioner.dropout == 0.4


def test_it_sees(source: Path, autoencoder: Path, tmp_path: Path) -> None:
    """The same directory answers questions about what it drew, without a pixel in between."""
    rows = dict(convert(source, tmp_path / "model", ConvertConfig(autoencoder=autoencoder)))
    assert rows["sight"] == "mlp2x_gelu of 16 tokens x 32, through its latent space's encoder"
    generator = load_generator(tmp_path / "model", device="cpu")
    model = UnifiedModel.of(generator)
    state = model.conditioner.state_dict()
    projector = {f"model.mm_{key}": value for key, value in state.items() if key.startswith("projector.")}
    assert same(projector, {key: tiny_published.scale_rae_model()[key] for key in projector}) and len(projector) == 4
    latent = generator("a red apple", steps=3, output="latent")
    (answer,) = Understander(model).answer(Latent(latent[0]), "What is it?", max_tokens=3)
    assert isinstance(answer, str)


def test_without_a_projector_it_only_reads(source: Path, autoencoder: Path, tmp_path: Path) -> None:
    tensors = {key: value for key, value in tiny_published.scale_rae_model().items() if "mm_projector" not in key}
    blind = tiny_published.save_scale_rae(tmp_path / "blind", tensors | {"aux_vision_head.0.bias": torch.ones(1)})
    config = ConvertConfig(autoencoder=autoencoder, reply="Here:")
    rows = dict(convert(blind, tmp_path / "reading", config))
    assert rows["sight"] == "none: no projector in the checkpoint"
    assert "aux_vision_head.0.bias: the head of a training loss" in rows["left out"]
    reading = load_generator(tmp_path / "reading", device="cpu")
    assert reading.config.condition.name == "query"
    assert reading.config.condition.template.endswith("<|im_start|>assistant\nHere:<im_start>")
    convert(source, tmp_path / "seeing", config)
    seeing = load_generator(tmp_path / "seeing", device="cpu")
    assert seeing.config.condition.name == "unified"
    first, second = (each.conditioner(["a red apple"]).tokens for each in (reading, seeing))
    assert torch.allclose(first, second, atol=1e-5)


def test_the_reply_can_be_stated(source: Path, autoencoder: Path, tmp_path: Path) -> None:
    config = ConvertConfig(autoencoder=autoencoder, reply="Here you go:\n")
    rows = dict(convert(source, tmp_path / "model", config))
    assert rows["reply"] == "'Here you go:\\n', as stated"
    settings = json.loads((tmp_path / "model" / "generator" / "config.json").read_text())
    assert settings["generator"]["condition"]["reply"] == "Here you go:\n"


def golden_latent_space(directory: Path, vision: dict[str, Tensor]) -> Path:
    """A latent space around the golden case's own vision tower; its decoder plays no part."""
    width = vision["embeddings.patch_embedding.bias"].numel()
    config = transformers.SiglipVisionConfig(
        hidden_size=width,
        num_attention_heads=2,
        num_hidden_layers=1 + max(int(key.split(".")[2]) for key in vision if key.startswith("encoder.layers.")),
        intermediate_size=vision["encoder.layers.0.mlp.fc1.bias"].numel(),
        image_size=32,
        patch_size=8,
    )
    transformers.SiglipVisionModel(config).save_pretrained(directory / "tower")
    decoder = {"size": "nano", "width": 16, "depth": 1, "heads": 2, "mlp_width": 24, "patch_size": 3}
    settings = {"encoder": {"name": "siglip2", "path": str(directory / "tower")}, "decoder": decoder}
    RAE(RAE.Config.model_validate(settings | {"statistics": "none"})).save(directory / "space")
    return directory / "space"


def test_golden_latents(tmp_path: Path) -> None:
    """The published model's own condition and latents, from an import of its checkpoint."""
    case = read_case(GOLDEN, read_manifest(GOLDEN)[CASE])
    source = tiny_published.save_scale_rae(tmp_path / "published", case.weights, **case.config["lm"])
    space = golden_latent_space(tmp_path, case.group("hf/"))
    rows = dict(convert(source, tmp_path / "model", ConvertConfig(autoencoder=space)))
    assert rows["reply"] == "'', as it answers"
    assert "the same as model.embed_tokens.weight" in rows["left out"]
    model = load_generator(tmp_path / "model", device="cpu", precision="fp32")
    with torch.no_grad():
        cond = model.conditioner([PROMPT])
        for name, options in (("latents_official", {}), ("latents_official_guidance3_active", {"guidance_scale": 3.0})):
            settings = model.sampling(**options)
            velocity = model.denoiser.guided(cond, model.conditioner.null(1), settings)
            shift, generators = model.transport.time_shift, [torch.Generator()]
            latent = integrate(velocity, case.inputs["x_end"], settings, shift, generators)
            difference = (to_tokens(latent)[0] - case.outputs[name]).abs().max()
            assert float(difference) <= case.tolerance("latents_official"), name
    difference = (cond.tokens - case.outputs["condition_z"]).abs().max()
    assert float(difference) <= case.tolerance("condition_z")
    assert torch.allclose(model.backbone.time_embed.frequencies, case.inputs["t_embedder_W"], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"vision_loss_mode": "causal"}, "vision_loss_mode is 'causal' .* only query is published"),
        ({"vision_loss": "regression-loss"}, "vision_loss is 'regression-loss'"),
        ({"dit_cls": "NextDiT"}, "dit_cls is 'NextDiT'"),
    ],
)
def test_other_kinds_are_refused(autoencoder: Path, tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    source = tiny_published.save_scale_rae(tmp_path / "published", **change)
    refused(source, autoencoder, tmp_path, sentence)


@pytest.mark.parametrize(
    ("missing", "added", "sentence"),
    [
        ("model.layers.0.self_attn.q_proj.bias", None, "1 missing .model.layers.0.self_attn.q_proj.bias"),
        ("model.norm.weight", None, "model.norm.weight"),
        ("diff_head.model.final_layer.linear.bias", None, "final_layer.linear.bias"),
        (None, "model.image_newline", r"1 unexpected \(model.image_newline\)"),
        (None, "diff_head.model.dit_blocks.0.norm3.weight", "1 unexpected"),
    ],
)
def test_keys_that_do_not_fit(
    autoencoder: Path, tmp_path: Path, missing: str | None, added: str | None, sentence: str
) -> None:
    tensors = tiny_published.scale_rae_model()
    tensors.pop(missing, None)
    tensors |= {} if added is None else {added: torch.ones(3)}
    refused(tiny_published.save_scale_rae(tmp_path / "published", tensors), autoencoder, tmp_path, sentence)


def test_a_missing_shard_is_named(source: Path, autoencoder: Path, tmp_path: Path) -> None:
    (source / "model-00001-of-00002.safetensors").unlink()
    refused(source, autoencoder, tmp_path, r"1 of 2 shards are missing \(model-00001-of-00002.safetensors\)")


def test_what_lies_beside_the_weights_is_needed(source: Path, autoencoder: Path, tmp_path: Path) -> None:
    (source / "vocab.json").unlink()
    refused(source, autoencoder, tmp_path, "has no tokenizer")
    (source / "config.json").unlink()
    refused(source, autoencoder, tmp_path, "has no config.json of a Scale-RAE model beside its weights")


def test_its_latent_space_is_needed(source: Path, encoder: EncoderConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name it with --autoencoder"):
        convert(source, tmp_path / "model")
    decoder = tiny_published.save_decoder(tmp_path / "normalised")
    convert(decoder, tmp_path / "other", ConvertConfig(encoder=encoder))
    refused(source, tmp_path / "other", tmp_path, "trained on tokens as they are, but its latent space normalises them")


def refused(source: Path, autoencoder: Path, tmp_path: Path, sentence: str) -> None:
    """Not converted, for a reason that is said, and nothing is left behind."""
    with pytest.raises(UserError, match=sentence):
        convert(source, tmp_path / "model", ConvertConfig(autoencoder=autoencoder))
    assert not (tmp_path / "model").exists()


def test_latent_statistics_of_a_checkpoint_are_those_of_its_latent_space(
    encoder: EncoderConfig, tmp_path: Path
) -> None:
    convert(tiny_published.save_decoder(tmp_path / "decoder"), tmp_path / "space", ConvertConfig(encoder=encoder))
    published = tiny_published.statistics()
    rows = {"data_mean": published["mean"], "data_std": (published["var"] + EPS).sqrt()}
    stored = {f"diff_head.{key}": to_tokens(value[None])[0] for key, value in rows.items()}
    assert torch.equal(to_grid(stored["diff_head.data_mean"][None])[0], published["mean"])
    source = tiny_published.save_scale_rae(tmp_path / "published", tiny_published.scale_rae_model() | stored)
    convert(source, tmp_path / "good", ConvertConfig(autoencoder=tmp_path / "space"))
    stored["diff_head.data_std"] += 0.1
    other = tiny_published.save_scale_rae(tmp_path / "other", tiny_published.scale_rae_model() | stored)
    refused(other, tmp_path / "space", tmp_path, "its data_std is not that of the latent space")


def test_statistics_may_be_one_number_a_channel(autoencoder: Path) -> None:
    """A file with one row for all tokens; here of a latent space that changes nothing."""
    space = RAE.load(autoencoder)
    statistics = {"data_mean": torch.zeros(1, CHANNELS), "data_std": torch.ones(1, CHANNELS)}
    check_statistics(space, Generator(None, "scale_rae_dit", statistics=statistics), "weights")  # type: ignore[arg-type]
    assert space.shape == LATENT == (CHANNELS, GRID, GRID)
