"""What a stage-1 recipe comes to: sizes against the built stage, learning rates against the schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_autoencoders
import tiny_encoders
import tiny_recipes
from raekit.errors import UserError
from raekit.training.optim import OptimConfig, Updater
from raekit.training.planning.stage1_outline import timetable
from raekit.training.stage1 import Stage1

ADVERSARY: dict[str, Any] = {
    "weight": 0.5,
    "discriminator": {"name": "features", "backbone": "encoder"},
    "discriminator_start_steps": 1,
    "start_steps": 2,
}


def rows(recipe: dict[str, Any]) -> dict[str, str]:
    return dict(tiny_recipes.resolve(recipe).describe())


def test_sizes_are_those_of_the_stage(tmp_path: Path) -> None:
    recipe = tiny_recipes.stage1(tmp_path) | {"adversary": ADVERSARY}
    told, stage = rows(recipe), Stage1(tiny_recipes.resolve(recipe), torch.device("cpu"))
    assert stage.adversary is not None
    tokens = stage.autoencoder.precompute(torch.rand(2, 3, 32, 32))
    assert told["tokens"] == f"[B, {tokens.shape[1]}, {tokens.shape[2]}], of block 2 of 2"
    assert told["decoder output"] == "32 x 32 px"
    logits = stage.adversary.discriminator(torch.rand(2, 3, 32, 32))
    assert told["image as the discriminator sees it"].endswith(f"logits [B, {logits.shape[1]}]")
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in stage.modules().items()}
    assert told["discriminator parameters"] == f"{counts['discriminator']:,}"
    assert told["decoder parameters"].startswith(f"{counts['decoder']:,}, with its table of positions ")
    frozen = sum(p.numel() for p in stage.autoencoder.parameters()) - counts["decoder"]
    assert told["frozen parameters"] == f"{frozen:,}, encoder {frozen:,}"
    assert told["losses"] == "l1 1, gradient 0.5, encoder 0.1, adversarial 0.5 x ratio of gradients from step 2"


def test_what_is_frozen_is_named_and_rounded_weights_are_half(tmp_path: Path) -> None:
    """A run of VGG16, whose weights outweigh all else here: 14.7 million of 4 bytes."""
    recipe = tiny_recipes.stage1(tmp_path)
    recipe["losses"] = {"lpips": 1.0, "lpips_vgg": "vgg", "lpips_heads": "heads", "lpips_start_steps": 3, "gram": 2.0}
    told = rows(recipe)
    assert told["frozen parameters"].endswith(", VGG16 and LPIPS 14,716,160")
    assert told["memory"].startswith("0.1 GB ")
    assert told["losses"] == "l1 1, lpips 1 from step 3, gram 2"


def test_memory_counts_the_moments_and_averages_that_there_are(tmp_path: Path) -> None:
    recipe = tiny_recipes.stage1(tmp_path)
    recipe["autoencoder"]["decoder"] = {"size": "B"}

    def told(name: str, **train: object) -> float:
        values = {**recipe, "optim": {**recipe["optim"], "name": name}, "train": {**recipe["train"], **train}}
        return float(rows(values)["memory"].split()[0])

    assert told("adamw") - told("muon") == pytest.approx(86e6 * 4 / 1e9, abs=0.1)
    assert told("adamw", extra_ema=[0.9, 0.99]) - told("adamw") == pytest.approx(86e6 * 8 / 1e9, abs=0.1)


def test_a_vae_has_no_tokens_and_its_loss_encoder_is_counted(tmp_path: Path) -> None:
    recipe = tiny_recipes.stage1(tmp_path)
    encoder = recipe["autoencoder"]["encoder"]
    recipe["autoencoder"] = {"name": "kl_vae", **tiny_autoencoders.kl_vae(tmp_path)}
    recipe["loss_encoder"] = encoder
    told = rows(recipe)
    count = sum(p.numel() for p in tiny_encoders.build("nano", tmp_path / "encoder").parameters())
    assert told["frozen parameters"] == f"{count:,}, loss encoder {count:,}"
    assert "tokens" not in told and {"encoder parameters", "decoder parameters"} <= told.keys()
    recipe["loss_encoder"] = encoder | {"path": str(tmp_path / "nowhere")}
    told = rows(recipe)
    assert told["loss encoder"].startswith("not counted: encoder.path: no directory")
    assert told["frozen parameters"] == "0"


def test_a_frozen_latent_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'vae' is frozen and has nothing to train"):
        rows(tiny_recipes.stage1(tmp_path) | {"autoencoder": {"name": "vae"}})


def test_another_target_size_is_said(tmp_path: Path) -> None:
    recipe = tiny_recipes.stage1(tmp_path)
    recipe["autoencoder"]["decoder"] = recipe["autoencoder"]["decoder"] | {"patch_size": 16}
    told = rows(recipe)
    assert told["decoder output"] == "64 x 64 px, compared with the image resized from 32 px"
    assert told["decoder patches"] == "[B, 16, 768], in patches of 16"


def test_length_in_pictures_steps_passes_and_epochs(tmp_path: Path) -> None:
    recipe = tiny_recipes.stage1(tmp_path)
    recipe["train"] = {"steps": "2 epochs", "images_per_epoch": 1000, "batch_size": 8, "micro_batch_size": 2}
    told = rows(recipe)
    assert told["pictures"] == "2,000, 2 epochs of 1,000"
    assert told["steps"] == "250 of 8 pictures, in 4 passes of 2"


@pytest.mark.parametrize(
    ("schedule", "start", "text"),
    [
        ({"shape": "constant"}, 0, "0.01, constant"),
        ({}, 0, "0.01, cosine to 0 at step 100"),
        ({"warmup_steps": 10, "final_factor": 0.1}, 0, "up to 0.01 at step 10, cosine to 0.001 at step 100"),
        ({"warmup_steps": 10}, 40, "0 until step 40, then up to 0.01 at step 50, cosine to 0 at step 100"),
        ({"shape": "linear", "decay_end_steps": 80}, 0, "0.01, linear to 0 at step 80"),
    ],
)
def test_a_timetable_says_what_the_schedule_does(schedule: dict[str, Any], start: int, text: str) -> None:
    assert timetable(OptimConfig.model_validate({"lr": 0.01, "schedule": schedule}), 100, start) == text


def test_a_decay_that_the_run_does_not_reach_is_said_with_its_last_rate() -> None:
    optim = OptimConfig.model_validate({"lr": 0.01, "schedule": {"shape": "linear", "decay_end_steps": 100}})
    last = Updater({}, optim, 100, start_step=50).lr(99)
    assert timetable(optim, 100, 50).endswith(f"linear to 0 at step 150 (the run ends before, at {last:.3g})")
    assert last == pytest.approx(0.0051)
