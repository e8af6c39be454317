"""Stage 2: what is trained, what is dropped, and a generator that loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_generator
import tiny_recipes
from raekit.errors import UserError
from raekit.generate import TextToImage
from raekit.training.draws import Draws
from raekit.training.stage2 import EVALUATION_SEED, Stage2


def build(folder: Path, condition: dict[str, object] | None = None, **changes: object) -> Stage2:
    values = {**tiny_recipes.stage2(folder, **(condition or {})), **changes}
    return Stage2(tiny_recipes.resolve(values), torch.device("cpu"))


def test_the_latent_space_is_frozen(tmp_path: Path) -> None:
    names = set(build(tmp_path).parameters())
    assert {name.split(".")[0] for name in names} == {"backbone", "conditioner"}
    assert "conditioner.queries" in names


def test_training_drops_conditions_and_evaluation_does_not(tmp_path: Path) -> None:
    stage = build(tmp_path, {"dropout": 1.0})
    batch = next(stage.batches(0, 8))
    with torch.no_grad():
        stage.generator.conditioner.null_token.fill_(3.0)
        for parameter in stage.generator.backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        training, evaluation = (
            stage._terms(batch, Draws(0, range(8)), is_training=is_training)["loss"] for is_training in (True, False)
        )
    assert not torch.allclose(training, evaluation)


def test_the_exported_generator_draws_what_the_sheet_shows(tmp_path: Path) -> None:
    stage = build(tmp_path)
    path = stage.export(tmp_path / "out")
    loaded = TextToImage.load(path, device="cpu")
    stage.generator.backbone.eval()
    prompts = ["a red circle"]
    expected = stage.generator(prompts, output="tensor")
    torch.testing.assert_close(loaded(prompts, output="tensor"), expected)


def test_labels_condition_as_well(tmp_path: Path) -> None:
    import tiny_data

    for colour in ("red", "blue"):
        (tmp_path / "classes" / colour).mkdir(parents=True)
        for shape in tiny_data.SHAPES:
            source = tiny_data.pictures(tmp_path / "pictures") / f"{colour}_{shape}.png"
            (tmp_path / "classes" / colour / f"{shape}.png").write_bytes(source.read_bytes())
    data = {"image_size": 32, "mixture": [{"name": "folder", "path": str(tmp_path / "classes")}]}
    condition = {"name": "label", "num_classes": 2, "width": 16}
    values = {
        **tiny_recipes.stage2(tmp_path),
        "condition": condition,
        "data": data,
        "held_out": data,
        "sample_prompts": [0, 1],
    }
    stage = Stage2(tiny_recipes.resolve(values), torch.device("cpu"))
    loss = stage.loss(next(stage.batches(0, 4)), Draws(0, range(4)))["loss"]
    assert torch.isfinite(loss)
    assert stage.sheet().size[0] > 0


EARLY = {**tiny_generator.BACKBONE, "depth": 2, "early_block": 1}
TEXT = {"name": "text", "width": tiny_generator.BACKBONE["width"]}


def test_an_early_head_learns_beside_the_last_layer_and_guides(tmp_path: Path) -> None:
    transport = {"prediction": "x", "self_weight": 0.5}
    sampling = {"steps": 2, "guidance": "internal", "guidance_scale": 1.78, "guidance_interval": [0.1, 1.0]}
    stage = build(tmp_path, backbone=EARLY, transport=transport, sampling=sampling)
    with torch.no_grad():
        for parameter in stage.generator.backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    terms = stage.loss(next(stage.batches(0, 4)), Draws(0, range(4)))
    torch.testing.assert_close(terms["loss"], terms["flow"] + 0.5 * terms["self"])
    terms["loss"].backward()
    assert stage.generator.backbone.early.linear.weight.grad.abs().max() > 0
    loaded = TextToImage.load(stage.export(tmp_path / "out"), device="cpu", precision="fp32")
    guided, plain = (loaded("a red circle", output="latent", guidance_scale=scale) for scale in (1.78, 1.0))
    assert guided.isfinite().all() and not torch.allclose(guided, plain, atol=1e-4)


def test_evaluation_is_of_the_last_layer_alone(tmp_path: Path) -> None:
    stage = build(tmp_path, backbone=EARLY)
    batch, draws = next(stage.batches(0, 8)), Draws(EVALUATION_SEED, range(8))
    with torch.no_grad():
        flow = stage._terms(batch, draws, is_training=False)["flow"].mean()
    assert stage.evaluate()["loss"] == pytest.approx(flow.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sampling": {"guidance": "internal"}}, "guidance: 'internal' needs a backbone with an early head"),
        ({"condition": {"dropout": 0.0}}, "guidance: 'cfg' needs a model trained with condition.dropout"),
    ],
)
def test_guidance_that_the_model_will_not_know_is_refused_at_once(
    tmp_path: Path, changes: dict[str, dict[str, object]], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        build(tmp_path, changes.get("condition"), sampling=changes.get("sampling", {}))
    values = tiny_recipes.stage2(tmp_path, **changes.get("condition", {}))
    with pytest.raises(UserError, match=complaint):
        Stage2.describe(tiny_recipes.resolve({**values, "sampling": changes.get("sampling", {})}))


@pytest.mark.parametrize("is_cached", [True, False])
def test_words_in_context_condition_as_well(tmp_path: Path, is_cached: bool) -> None:
    values = tiny_recipes.stage2(tmp_path)
    condition = {**TEXT, "language_model": values["condition"]["language_model"], "precision": "fp32"}
    cache = str(tmp_path / "cache") if is_cached else None
    stage = Stage2(tiny_recipes.resolve({**values, "condition": condition, "cache": cache}), torch.device("cpu"))
    with torch.no_grad():
        for parameter in stage.generator.backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    loss = stage.loss(next(stage.batches(0, 4)), Draws(0, range(4)))["loss"]
    loss.backward()
    assert stage.generator.conditioner.connector.weight.grad.abs().max() > 0
    assert ("condition", "up to 256 words in context x 40") in Stage2.describe(stage.config)
    loaded = TextToImage.load(stage.export(tmp_path / "out"), device="cpu", precision="fp32")
    red, blue, both = (
        loaded(prompts, output="latent") for prompts in ("red", "a blue square", ["red", "a blue square"])
    )
    assert not torch.allclose(red, blue, atol=1e-4)
    torch.testing.assert_close(both, torch.cat([red, blue]), rtol=1e-4, atol=1e-4)


def test_a_condition_that_does_not_fit_is_refused_before_training(tmp_path: Path) -> None:
    values = tiny_recipes.stage2(tmp_path)
    condition = {**TEXT, "language_model": values["condition"]["language_model"], "width": 16}
    recipe = tiny_recipes.resolve({**values, "condition": condition})
    for build_it in (lambda: Stage2(recipe, torch.device("cpu")), lambda: Stage2.describe(recipe)):
        with pytest.raises(UserError, match=r"condition: context is \[1, 1, 16\], this model needs \[1, 1, 40\]"):
            build_it()
