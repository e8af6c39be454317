"""Stage 1: its terms, its noise, its opponent, and the artefact it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny_recipes
import two_ranks
from raekit import distributed
from raekit.autoencoder.rae import RAE
from raekit.errors import UserError
from raekit.training.draws import Draws
from raekit.training.loop import Trainer
from raekit.training.stage import Micro
from raekit.training.stage1 import Stage1

ADVERSARY: dict[str, Any] = {
    "discriminator": {"name": "features", "backbone": "encoder", "kernel_size": 3},
    "optim": {"lr": 1e-3, "clip_norm": None},
}


def build(folder: Path, **changes: object) -> Stage1:
    return Stage1(tiny_recipes.resolve({**tiny_recipes.stage1(folder), **changes}), torch.device("cpu"))


def terms_of(stage: Stage1, seed: int = 0) -> dict[str, Tensor]:
    return stage.loss(stage.prepare(next(stage.batches(0, 8))), Draws(seed, range(8)))


def test_the_loss_is_the_sum_of_its_weighted_terms(tmp_path: Path) -> None:
    terms = terms_of(build(tmp_path, losses={"gradient": 0.5, "encoder": 0.1, "gram": 2.0}))
    assert set(terms) == {"loss", "l1", "gradient", "encoder", "gram"}
    torch.testing.assert_close(terms["loss"], sum(value for name, value in terms.items() if name != "loss"))


def test_only_the_decoder_learns(tmp_path: Path) -> None:
    stage = build(tmp_path)
    terms_of(stage)["loss"].backward()
    assert isinstance(stage.autoencoder, RAE)
    assert all(p.grad is None for p in stage.autoencoder.encoder.parameters())
    assert all(name.startswith("decoder.") for name in stage.parameters())


def test_noise_is_there_and_follows_the_draws(tmp_path: Path) -> None:
    stage = build(tmp_path)
    one, same, other = (terms_of(stage, seed)["l1"].item() for seed in (0, 0, 1))
    assert one == same != other


def test_a_decoder_can_start_from_given_weights(tmp_path: Path) -> None:
    first = build(tmp_path)
    save_file(first.autoencoder.trained()["decoder"].state_dict(), tmp_path / "decoder.safetensors")
    second = build(tmp_path, init_decoder=str(tmp_path / "decoder.safetensors"), seed=5)
    assert torch.equal(first.autoencoder.last_layer, second.autoencoder.last_layer)


@pytest.mark.parametrize("form", ["per_position", "per_channel", "none"])
def test_the_artefact_is_a_latent_space_of_that_form(tmp_path: Path, form: str) -> None:
    values = tiny_recipes.stage1(tmp_path)
    stage = build(tmp_path, autoencoder={**values["autoencoder"], "statistics": form})
    stage.complete()
    rae = RAE.load(stage.export(tmp_path / "out"))
    latent = rae.encode(next(stage._batches(stage.dataset, 8)).image / 255)
    if form == "per_channel":
        torch.testing.assert_close(latent.mean(dim=(0, 2, 3)), torch.zeros(32), atol=1e-4, rtol=0)
    elif form == "per_position":
        torch.testing.assert_close(latent.mean(dim=0), torch.zeros(32, 4, 4), atol=1e-4, rtol=0)
    assert rae.checksum and rae.shape == (32, 4, 4)


def test_the_held_out_metrics_are_told_per_domain(tmp_path: Path) -> None:
    data = tiny_recipes.stage1(tmp_path)["held_out"]
    source = data["mixture"][0]
    both = {**data, "mixture": [{**source, "domain": "left"}, {**source, "domain": "right"}]}
    values = build(tmp_path, held_out=both).evaluate()
    assert set(values) == {"psnr", "ssim", "psnr/left", "psnr/right"}
    assert values["psnr"] == pytest.approx((values["psnr/left"] + values["psnr/right"]) / 2, abs=1e-4)


def adversarial(folder: Path, **changes: Any) -> dict[str, Any]:
    return {**tiny_recipes.stage1(folder), "adversary": {**ADVERSARY, **changes}}


def trainer_of(values: dict[str, Any], run: Path, **train: Any) -> Trainer:
    return Trainer(tiny_recipes.resolve({**values, "run": str(run)}, **train))


def first_micro(stage: Stage1) -> Micro:
    batch = next(stage.batches(0, 8))
    return Micro(batch, stage.prepare(batch), Draws(0, batch.positions))


def test_the_adaptive_weight_balances_both_gradients_at_the_last_layer(tmp_path: Path) -> None:
    stage = build(tmp_path, adversary={**ADVERSARY, "weight": 1.0})
    assert stage.adversary is not None
    sweep = stage._sweep(first_micro(stage), 0, is_kept=False)
    one, other = sweep.reconstruction.last_layer, sweep.adversarial.last_layer
    torch.testing.assert_close((stage.adversary.balance(one, other) * other).norm(), one.norm(), rtol=1e-3, atol=0)


def test_each_terms_share_of_the_gradient_is_told(tmp_path: Path) -> None:
    trainer = trainer_of({**adversarial(tmp_path), "share_every_steps": 2}, tmp_path / "run")
    batches = trainer.ready(trainer.stage.batches(0, 8))
    terms = trainer.train_step(batches)
    shares = [value for name, value in terms.items() if name.startswith("share/")]
    assert len(shares) == 4 and sum(shares).item() == pytest.approx(1.0) and min(shares) > 0
    assert not any(name.startswith("share/") for name in trainer.train_step(batches))


def test_both_players_learn_and_only_when_they_may(tmp_path: Path) -> None:
    values = adversarial(tmp_path, discriminator_start_steps=1, start_steps=2)
    trainer = trainer_of(values, tmp_path / "run", steps=3)
    trainer.train()
    rows = {row["step"]: row for row in trainer.run.history() if "loss" in row}
    assert "discriminator/loss" not in rows[1] and "discriminator/loss" in rows[2]
    assert "adversarial" not in rows[2] and "adversarial" in rows[3]
    assert rows[3]["discriminator/lr"] > 0


def test_the_adversarial_gradient_is_that_of_the_weighted_sum(tmp_path: Path) -> None:
    """Two sweeps over the pixels give what differentiating the weighted loss in one go gives."""
    stage = build(tmp_path, adversary={**ADVERSARY, "is_adaptive": False, "weight": 3.0})
    assert stage.adversary is not None
    micro = first_micro(stage)
    drawn = stage._draw(micro.prepared, micro.draws, 0)
    (drawn.terms["loss"] + 3.0 * stage.adversary.fool(drawn.image, micro.draws)).backward()
    expected = {name: p.grad.clone() for name, p in stage.autoencoder.decoder.named_parameters() if p.grad is not None}
    stage.autoencoder.zero_grad()
    stage.descend([micro], 1)
    for name, parameter in stage.autoencoder.decoder.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)


def gradients(values: dict[str, Any], run: Path, micro: int) -> dict[str, Tensor]:
    trainer = trainer_of(values, run, batch_size=16, micro_batch_size=micro)
    trainer.train_step(trainer.ready(trainer.stage.batches(0, micro)))
    return {name: p.grad.clone() for name, p in trainer.parameters.items() if p.grad is not None}


def test_micro_batches_change_neither_player_nor_the_adaptive_weight(tmp_path: Path) -> None:
    values = adversarial(tmp_path)
    whole, parts = gradients(values, tmp_path / "whole", 16), gradients(values, tmp_path / "parts", 4)
    assert whole.keys() == parts.keys() and any(name.startswith("discriminator.") for name in whole)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-6)


def step_of_a_rank(values: dict[str, Any], run: str, out: str) -> None:
    trainer = trainer_of(values, Path(run), batch_size=16)
    terms = trainer.train_step(trainer.ready(trainer.stage.batches(0, 16)))
    tensors = {name: p.grad.clone() for name, p in trainer.parameters.items() if p.grad is not None}
    tensors |= {f"after.{name}": value.clone() for name, value in trainer.stage.state().items()}
    save_file(tensors, f"{out}-{distributed.rank()}.safetensors")
    Path(f"{out}-{distributed.rank()}.json").write_text(json.dumps(float(terms["adversarial_weight"])))


def test_two_processes_take_the_step_of_one_decoder_and_discriminator_alike(tmp_path: Path) -> None:
    values = adversarial(tmp_path)
    step_of_a_rank(values, str(tmp_path / "one"), str(tmp_path / "alone"))
    two_ranks.run(step_of_a_rank, values, str(tmp_path / "two"), str(tmp_path / "both"))
    alone, first, second = (load_file(tmp_path / f"{n}.safetensors") for n in ("alone-0", "both-0", "both-1"))
    moved = [name for name in alone if name.startswith("discriminator.")]
    assert moved
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        # Adam's first step is a sign wherever a gradient is about zero: the weights after it may differ by rounding.
        tolerance = 1e-4 if name.startswith("after.") else 1e-6
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=tolerance)
    weights = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("alone-0", "both-0")]
    assert weights[0] == pytest.approx(weights[1], rel=1e-4)


def test_a_frozen_latent_space_has_nothing_to_train(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has nothing to train; write rae or kl_vae"):
        build(tmp_path, autoencoder={"name": "vae"})


def test_only_the_latent_spaces_blocks_are_compiled(tmp_path: Path) -> None:
    recipe = tiny_recipes.resolve(adversarial(tmp_path), checkpoint_activations=True)
    trainer = Trainer(recipe)
    assert {type(block).__name__ for block in trainer.stage.blocks()} == {"DecoderBlock"}
    terms = trainer.train_step(trainer.ready(trainer.stage.batches(0, recipe.train.micro_batch)))
    assert all(value.isfinite() for value in terms.values())
