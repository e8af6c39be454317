"""Stage 2: what is trained, what is dropped, and a generator that loads."""

from __future__ import annotations

from pathlib import Path

import torch

import tiny_recipes
from raekit.generate import TextToImage
from raekit.training.draws import Draws
from raekit.training.stage2 import Stage2


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
        training = stage._per_sample(batch, Draws(0, range(8)), is_training=True)
        evaluation = stage._per_sample(batch, Draws(0, range(8)), is_training=False)
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
