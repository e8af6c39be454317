"""Pipeline directories: whole, loadable part by part by diffusers, and back again bit for bit."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import tiny_generator
import tiny_pipeline
import tiny_published
from raekit.autoencoder.rae import RAE
from raekit.conditioning.query import QueryConditioner
from raekit.errors import UserError
from raekit.generate import ImageGenerator, load_generator
from raekit.interop.convert import convert
from raekit.interop.diffusers_pipeline import _take_along_language_model, load_pipeline
from raekit.interop.format import ConvertConfig
from raekit.interop.ledger import Rows

PIPELINE = ConvertConfig(format="diffusers_pipeline")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline.latent_space(tmp_path_factory.mktemp("space"))


@pytest.fixture
def generator(space: Path, tmp_path: Path) -> ImageGenerator:
    return tiny_pipeline.class_to_image(tmp_path / "generator", space)


def export(folder: Path) -> tuple[Path, Rows]:
    return folder / "pipeline", convert(folder / "generator", folder / "pipeline", PIPELINE)


def read(path: Path) -> dict[str, object]:
    return json.loads(path.read_text())


def same_model(one: ImageGenerator, other: ImageGenerator) -> bool:
    return all(
        torch.equal(value, other.modules[name].state_dict()[key])
        for name, module in one.modules.items()
        for key, value in module.state_dict().items()
    )


def test_what_it_is_made_of(generator: ImageGenerator, tmp_path: Path) -> None:
    pipeline, rows = export(tmp_path)
    assert {str(path.relative_to(pipeline)) for path in pipeline.rglob("*") if path.is_file()} == {
        "model_index.json",
        "raekit.json",
        "scheduler/scheduler_config.json",
        *(f"{part}/config.json" for part in ("transformer", "vae")),
        *(f"{part}/diffusion_pytorch_model.safetensors" for part in ("transformer", "vae")),
    }
    index = read(pipeline / "model_index.json")
    assert index["_class_name"] == "RAEDiTPipeline" and index["transformer"] == ["diffusers", "RAEDiT2DModel"]
    assert index["vae"] == ["diffusers", "AutoencoderRAE"] and index["id2label"]["2"] == "red apple"
    scheduler = read(pipeline / "scheduler" / "scheduler_config.json")
    assert scheduler["_class_name"] == "FlowMatchEulerDiscreteScheduler"
    assert scheduler["shift"] == pytest.approx(math.sqrt(generator.latent_space.dim / 4096))
    assert dict(rows)["transformer"] == "RAEDiT2DModel, 70 tensors"


def test_there_and_back(generator: ImageGenerator, tmp_path: Path) -> None:
    pipeline, _ = export(tmp_path)
    rows = convert(pipeline, tmp_path / "model")
    assert ("loaded", "70 of 70 tensors") in rows and ("from", f"{pipeline} (diffusers_pipeline)") in rows
    again = load_generator(tmp_path / "model", device="cpu")
    assert same_model(again, generator)
    rows = dict(convert(tmp_path / "model", tmp_path / "published"))
    assert rows["layout"] == "rae_ddt" and (tmp_path / "published" / "model.pt").is_file()
    for part in ("condition", "transport", "sampling"):
        assert getattr(again.config, part) == getattr(generator.config, part)
    assert again.config.backbone.shape == generator.config.backbone.shape
    assert same_model(load_pipeline(pipeline), generator)


def test_diffusers_loads_what_it_knows(generator: ImageGenerator, tmp_path: Path) -> None:
    """Its autoencoder and its scheduler; not the transformer, whose class is in no release of it yet."""
    diffusers = pytest.importorskip("diffusers")
    pipeline, _ = export(tmp_path)
    vae = diffusers.AutoencoderRAE.from_pretrained(pipeline / "vae")
    latent = torch.randn(1, *generator.latent_space.shape)
    with torch.no_grad():
        assert torch.allclose(vae.decode(latent).sample, generator.latent_space.decode(latent), atol=1e-4)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(pipeline / "scheduler")
    assert scheduler.config.shift == pytest.approx(generator.transport.time_shift)


def test_a_pipeline_of_others_has_no_file_of_ours(generator: ImageGenerator, tmp_path: Path) -> None:
    """Then it draws as the pull request does, with the scheduler's shift."""
    pipeline, _ = export(tmp_path)
    (pipeline / "raekit.json").unlink()
    scheduler = read(pipeline / "scheduler" / "scheduler_config.json")
    (pipeline / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler | {"shift": 3.0}))
    model = load_pipeline(pipeline)
    assert (model.config.sampling.steps, model.config.sampling.guidance_scale) == (50, 1.0)
    assert model.transport.time_shift == 3.0 and same_model(model, generator)


def test_a_decoder_that_diffusers_would_change_goes_along_as_it_is(space: Path, tmp_path: Path) -> None:
    """Its own position table is ignored there, so the latent space is copied, unless a loss is allowed."""
    rae = RAE.load(space)
    rae.decoder.position.add_(1.0)
    rae.save(tmp_path / "space")
    (tmp_path / "space" / "encoder").mkdir()
    for path in (space / "encoder").iterdir():
        (tmp_path / "space" / "encoder" / path.name).write_bytes(path.read_bytes())
    generator = tiny_pipeline.class_to_image(tmp_path / "generator", tmp_path / "space")
    pipeline, rows = export(tmp_path)
    assert dict(rows)["latent space"].startswith("in autoencoder/, as our own artefact: diffusers ignores a stored")
    assert not (pipeline / "vae").exists() and same_model(load_pipeline(pipeline), generator)
    convert(pipeline, tmp_path / "model")
    assert load_generator(tmp_path / "model").latent_space.checksum == generator.latent_space.checksum
    lossy = ConvertConfig(format="diffusers_pipeline", lossy=True)
    rows = convert(tmp_path / "generator", tmp_path / "lossy", lossy)
    assert ("latent space", "in vae/") in rows and not (tmp_path / "lossy" / "autoencoder").exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"transport": {"prediction": "x"}}, "predicts a velocity, this model the clean latent"),
        (
            {"backbone": {"name": "dit", "size": "nano", "width": 72, "depth": 1, "heads": 2}},
            "holds class-conditional dit_dh models only",
        ),
    ],
)
def test_what_the_transformer_cannot_hold_stays_ours(
    space: Path, tmp_path: Path, settings: dict[str, object], reason: str
) -> None:
    generator = tiny_pipeline.class_to_image(tmp_path / "generator", space, **settings)
    pipeline, rows = export(tmp_path)
    assert dict(rows)["transformer"].startswith("as our own artefact: ") and reason in dict(rows)["transformer"]
    assert read(pipeline / "model_index.json")["transformer"] == ["raekit", "ClassToImage"]
    assert same_model(load_pipeline(pipeline), generator)
    convert(pipeline, tmp_path / "model")
    again = load_generator(tmp_path / "model")
    assert again.config == generator.config and same_model(again, generator)


def test_a_model_of_prompts_stays_ours(tmp_path: Path) -> None:
    tiny_generator.saved(tmp_path)
    expected = load_generator(tmp_path / "generator", device="cpu")("sun", output="latent")
    pipeline, rows = export(tmp_path)
    assert "takes class labels, this model text prompts" in dict(rows)["transformer"]
    assert dict(rows)["language model"] == "in language_model/, copied"
    assert read(pipeline / "transformer" / "config.json")["generator"]["condition"]["language_model"] == (
        "../language_model"
    )
    convert(pipeline, tmp_path / "model")
    # Both are whole by themselves: they may be moved, and what they were made of may go.
    shutil.move(tmp_path / "language_model", tmp_path / "gone")
    (tmp_path / "elsewhere").mkdir()
    for name, load in ((pipeline.name, load_pipeline), ("model", load_generator)):
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
        assert torch.equal(load(tmp_path / "elsewhere" / name, device="cpu")("sun", output="latent"), expected)


def test_a_language_model_of_the_hub_is_named(tmp_path: Path) -> None:
    config = SimpleNamespace(condition=QueryConditioner.Config(language_model="smollm2-135m"))
    rows = _take_along_language_model(SimpleNamespace(config=config), tmp_path)
    assert rows == [("language model", "smollm2-135m, named but not written")] and not list(tmp_path.iterdir())


def test_parts_that_do_not_fit_are_refused(generator: ImageGenerator, tmp_path: Path) -> None:
    pipeline, _ = export(tmp_path)
    index = read(pipeline / "model_index.json")
    cases = [
        (
            "transformer/config.json",
            {"_class_name": "DiTTransformer2DModel"},
            "is a 'DiTTransformer2DModel', not",
        ),
        ("scheduler/scheduler_config.json", {"use_dynamic_shifting": True}, "has no fixed shift"),
        ("raekit.json", {"sampling": {"steps": 0}}, "raekit.json"),
        ("model_index.json", {"_class_name": "FluxPipeline"}, "has no model_index.json of a RAEDiTPipeline"),
    ]
    assert index["_class_name"] == "RAEDiTPipeline"
    for name, change, sentence in cases:
        text = (pipeline / name).read_text()
        (pipeline / name).write_text(json.dumps(json.loads(text) | change))
        with pytest.raises(UserError, match=sentence):
            load_pipeline(pipeline)
        (pipeline / name).write_text(text)


def test_a_transformer_of_other_latents_is_refused(generator: ImageGenerator, space: Path, tmp_path: Path) -> None:
    pipeline, _ = export(tmp_path)
    other = tiny_generator.latent_space(tmp_path / "other")
    assert other.shape != generator.latent_space.shape
    (pipeline / "vae").rename(tmp_path / "vae")
    (tmp_path / "other").rename(pipeline / "autoencoder")
    with pytest.raises(UserError, match=r"takes latents \[64, 4, 4\], its autoencoder has \[32, 4, 4\]"):
        load_pipeline(pipeline)
    assert tiny_published.ENCODER_WIDTH == 64
