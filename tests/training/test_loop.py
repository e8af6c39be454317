"""The loop's arithmetic: resume is exact, accumulation changes nothing, bad steps are skipped, signals save."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import tiny_generator
import tiny_language_model
import tiny_recipes
from raekit.errors import UserError
from raekit.training.loop import Trainer, pick_checkpointing
from raekit.training.parallel.placement import ALONE
from raekit.training.planning.machines import RESERVE
from raekit.training.planning.memory import MODES, shares, total
from raekit.training.saving import checkpoint_files
from raekit.training.stage1 import Stage1
from raekit.training.stage2 import Stage2

RECIPES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "encoder": tiny_recipes.encoder,
    "stage1": tiny_recipes.stage1,
    "stage2": tiny_recipes.stage2,
}
KILLED = """
import os, signal, sys, yaml
from raekit.training.loop import Trainer
from raekit.training.recipe import load_recipe
trainer = Trainer(load_recipe(sys.argv[1]))
save = trainer.save
def save_then_die():
    save()
    if trainer.step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
trainer.save = save_then_die
trainer.train()
"""


def final_tensors(run: Path, step: int) -> dict[str, Tensor]:
    """Everything of a checkpoint but the generators of its process, as ``group.name -> tensor``."""
    saved = checkpoint_files.load(run / "checkpoints" / f"step_{step:08d}")
    groups = {group: values for group, values in saved.tensors.items() if group != "rng"}  # of the whole test session
    return {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}


def assert_same_bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert not different


def test_a_run_says_how_fp32_is_multiplied(tmp_path: Path) -> None:
    values = tiny_recipes.encoder(tmp_path)
    for number, asked in enumerate(("high", "highest")):
        Trainer(tiny_recipes.resolve({**values, "run": tmp_path / f"{number}"}, float32_matmul_precision=asked))
        assert torch.get_float32_matmul_precision() == asked
    Trainer(tiny_recipes.resolve(values))
    assert torch.get_float32_matmul_precision() == "highest", "as torch has it, unless the recipe says otherwise"


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_twenty_steps_equal_ten_and_a_kill_and_ten(stage: str, tmp_path: Path) -> None:
    values = RECIPES[stage](tmp_path)
    unbroken = tiny_recipes.resolve({**values, "run": str(tmp_path / "unbroken")}, steps=20, save_every_steps=10)
    Trainer(unbroken).train()

    broken = tiny_recipes.resolve({**values, "run": str(tmp_path / "broken")}, steps=20, save_every_steps=10)
    (tmp_path / "recipe.yaml").write_text(yaml_of(broken))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "recipe.yaml"), "10"]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = Trainer(broken, is_resumed=True)
    assert resumed.step == 10
    resumed.train()

    assert_same_bits(final_tensors(tmp_path / "unbroken", 20), final_tensors(tmp_path / "broken", 20))
    steps = [row["step"] for row in resumed.run.history() if "loss" in row]
    assert steps == list(range(1, 21))


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_four_micro_batches_of_eight_equal_one_of_thirty_two(stage: str, tmp_path: Path) -> None:
    values = RECIPES[stage](tmp_path)
    gradients = []
    for name, micro in (("whole", 32), ("parts", 8)):
        recipe = tiny_recipes.resolve({**values, "run": str(tmp_path / name)}, batch_size=32, micro_batch_size=micro)
        trainer = Trainer(recipe)
        terms = trainer.train_step(trainer.ready(trainer.stage.batches(0, micro)))
        gradients.append(
            {"loss": terms["loss"], **{n: p.grad for n, p in trainer.parameters.items() if p.grad is not None}}
        )
    whole, parts = gradients
    assert whole.keys() == parts.keys() and len(whole) > 5
    for name, value in whole.items():
        torch.testing.assert_close(
            parts[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_encoding_ahead_changes_nothing(stage: str, tmp_path: Path) -> None:
    values = RECIPES[stage](tmp_path)
    for name in (True, False):
        Trainer(tiny_recipes.resolve({**values, "run": str(tmp_path / str(name))}, steps=4, encode_ahead=name)).train()
    assert_same_bits(final_tensors(tmp_path / "True", 4), final_tensors(tmp_path / "False", 4))


def test_a_non_finite_step_changes_nothing_and_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(tiny_recipes.resolve(tiny_recipes.stage1(tmp_path), max_bad_steps=2))
    before = {name: value.clone() for name, value in trainer.stage.state().items()}
    assert isinstance(trainer.stage, Stage1)
    loss = trainer.stage.reconstruction
    honest = loss.terms
    monkeypatch.setattr(loss, "terms", lambda *a: {k: v * float("nan") for k, v in honest(*a).items()})
    batches = trainer.ready(trainer.stage.batches(0, 8))
    trainer.train_step(batches)
    assert_same_bits(before, trainer.stage.state())
    assert (trainer.step, trainer.bad_steps) == (1, 1)
    with pytest.raises(UserError, match="stopped at step 2: 2 bad steps in a row .2 not finite."):
        trainer.train()
    assert_same_bits(before, trainer.stage.state())


MUON = {"name": "muon", "lr": 1e-3, "weight_decay": 0.1}
ASKING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero")
"""What the device has to finish its work for; ``item``, ``bool`` and ``float`` of a tensor come down to the first."""


class Questions(TorchDispatchMode):
    """Counts the times the host asks for a value."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.name().split(".")[0] in ASKING
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optim", [{}, MUON], ids=["adamw", "muon"])
def test_the_host_asks_for_nothing_within_a_step(optim: dict[str, Any], tmp_path: Path) -> None:
    values = {**tiny_recipes.stage2(tmp_path, is_llm_trained=True), "optim": optim}
    trainer = Trainer(tiny_recipes.resolve(values, extra_ema=[0.9]))
    micros = trainer.ready(trainer.stage.batches(0, 8))
    trainer.train_step(micros)
    with Questions() as questions:
        trainer.train_step(micros)
        assert questions.count == 1  # whether the uniforms are in [0, 1): asked of draws on the CPU only
        assert trainer.bad_steps == 0
        assert questions.count == 2  # the counter sees what it should


def test_every_average_is_saved_restored_and_exported(tmp_path: Path) -> None:
    values = tiny_recipes.stage2(tmp_path)
    whole, broken = (
        tiny_recipes.resolve({**values, "run": str(tmp_path / name)}, steps=4, extra_ema=[0.5, 0.9])
        for name in ("whole", "broken")
    )
    artefact = Trainer(whole).train()
    Trainer(broken).train()
    shutil.rmtree(tmp_path / "broken" / "checkpoints" / "step_00000004")
    Trainer(broken, is_resumed=True).train()
    assert_same_bits(final_tensors(tmp_path / "whole", 4), final_tensors(tmp_path / "broken", 4))
    kept = {name.split(".backbone")[0] for name in final_tensors(tmp_path / "whole", 4) if ".backbone" in name}
    assert {"model", "ema", "ema_0.5", "ema_0.9"} <= kept
    paths = [artefact, *(tmp_path / "whole" / f"ema_{decay}" / "generator" for decay in (0.5, 0.9))]
    tensors = [load_file(path / "model.safetensors")["backbone.final.linear.weight"] for path in paths]
    saved = final_tensors(tmp_path / "whole", 4)
    for tensor, group in zip(tensors, ("ema", "ema_0.5", "ema_0.9"), strict=True):
        assert torch.equal(tensor, saved[f"{group}.backbone.final.linear.weight"])
    assert not torch.equal(tensors[1], tensors[2])
    with pytest.raises(UserError, match=r"holds no ema_0.7; resume with the train.extra_ema it had"):
        Trainer(tiny_recipes.resolve({**values, "run": str(tmp_path / "whole")}, extra_ema=[0.7]), is_resumed=True)


SEPARATE = {"language_model_optim": {"lr": 1e-4, "betas": [0.9, 0.999], "schedule": {"shape": "constant"}}}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "muon": ({}, {"optim": MUON}),
    "trained_llm": ({"is_llm_trained": True}, SEPARATE),
    "trained_llm_muon": ({"is_llm_trained": True}, {**SEPARATE, "optim": MUON}),
}


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_variants_of_stage2_resume_exactly_and_ignore_micro_batches(variant: str, tmp_path: Path) -> None:
    condition, changes = VARIANTS[variant]
    values = {**tiny_recipes.stage2(tmp_path, **condition), **changes}
    runs = {name: {**values, "run": str(tmp_path / name)} for name in ("whole", "broken", "one", "four")}
    Trainer(tiny_recipes.resolve(runs["whole"])).train()
    Trainer(tiny_recipes.resolve(runs["broken"])).train()
    shutil.rmtree(tmp_path / "broken" / "checkpoints" / "step_00000004")
    Trainer(tiny_recipes.resolve(runs["broken"]), is_resumed=True).train()
    assert_same_bits(final_tensors(tmp_path / "whole", 4), final_tensors(tmp_path / "broken", 4))
    weights = []
    for name, micro in (("one", 32), ("four", 8)):
        trainer = Trainer(tiny_recipes.resolve(runs[name], batch_size=32, micro_batch_size=micro))
        trainer.train_step(trainer.ready(trainer.stage.batches(0, micro)))
        weights.append({name: p.grad for name, p in trainer.parameters.items() if p.grad is not None})
    for name, gradient in weights[0].items():
        torch.testing.assert_close(weights[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_checkpointed_activations_change_no_bit(tmp_path: Path) -> None:
    values = tiny_recipes.stage2(tmp_path, is_llm_trained=True)
    for name in (True, False):
        recipe = tiny_recipes.resolve({**values, "run": str(tmp_path / str(name))}, checkpoint_activations=name)
        Trainer(recipe).train()
    assert_same_bits(final_tensors(tmp_path / "True", 4), final_tensors(tmp_path / "False", 4))


@pytest.mark.parametrize(
    ("condition", "save"),
    [("query", tiny_language_model.saved_qwen2), ("text", tiny_language_model.saved_encoder)],
    ids=["qwen2", "t5"],
)
def test_memory_decides_which_activations_are_kept(
    condition: str, save: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = {**tiny_generator.BACKBONE, "depth": 4}
    values = tiny_recipes.stage2(tmp_path, name=condition, language_model=save(tmp_path), width=backbone["width"])
    values["backbone"] = backbone
    stage = Stage2(tiny_recipes.resolve(values), torch.device("cpu"))
    assert pick_checkpointing(stage) == "none", "a CPU has no such limit"
    parts, train = stage.parts(stage.config), stage.config.train
    needed = [total(shares(parts, train, ALONE, mode), train.micro_batch) for mode in MODES]
    assert needed == sorted(needed, reverse=True) and len(set(needed)) == 3
    stage.device = torch.device("cuda:0")
    for room, mode in zip((*needed, 1), (*MODES, "full"), strict=True):
        board = SimpleNamespace(total_memory=(room + 1) / RESERVE)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, board=board: board)
        assert pick_checkpointing(stage) == mode


def test_an_estimate_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage2(tiny_recipes.resolve(tiny_recipes.stage2(tmp_path)), torch.device("cpu"))
    shutil.rmtree(tmp_path / "language_model")  # which nothing can be counted without
    stage.device = torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=1e9))
    assert pick_checkpointing(stage) == "full"
    assert "memory cannot be estimated (language_model: no directory" in caplog.text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_compiled_blocks_train_alike(stage: str, tmp_path: Path) -> None:
    values = RECIPES[stage](tmp_path)
    for name in (True, False):
        recipe = tiny_recipes.resolve({**values, "run": str(tmp_path / str(name))}, compile=name, steps=4)
        Trainer(recipe).train()
    compiled, plain = (final_tensors(tmp_path / name, 4) for name in ("True", "False"))
    assert compiled.keys() == plain.keys()
    for name, value in plain.items():
        if name.startswith("model"):
            torch.testing.assert_close(compiled[name], value, rtol=1e-2, atol=2e-3)


def test_sigterm_saves_and_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(tiny_recipes.resolve(tiny_recipes.stage1(tmp_path), steps=50, save_every_steps=1000))
    step = trainer.train_step

    def step_then_signal(batches: Any) -> dict[str, Tensor]:
        terms = step(batches)
        if trainer.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return terms

    monkeypatch.setattr(trainer, "train_step", step_then_signal)
    assert trainer.train() is None
    assert trainer.run.checkpoint_paths() == [trainer.run.checkpoint_path(3)]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_run_directory_is_not_overwritten(tmp_path: Path) -> None:
    recipe = tiny_recipes.resolve(tiny_recipes.stage1(tmp_path), steps=2)
    Trainer(recipe).train()
    with pytest.raises(UserError, match="holds a run already; pass --resume"):
        Trainer(recipe)


def test_resuming_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        Trainer(tiny_recipes.resolve(tiny_recipes.stage1(tmp_path)), is_resumed=True)


@pytest.mark.parametrize("stage", sorted(RECIPES))
def test_training_lowers_the_loss_and_leaves_its_papers(stage: str, tmp_path: Path) -> None:
    trainer = Trainer(tiny_recipes.resolve(RECIPES[stage](tmp_path), steps=12, sample_every_steps=12))
    artefact = trainer.train()
    assert artefact is not None and artefact.is_dir()
    losses = [row["loss"] for row in trainer.run.history() if "loss" in row]
    assert sum(losses[-4:]) < sum(losses[:4])
    files = {path.name for path in trainer.run.path.iterdir()}
    assert {"recipe.yaml", "environment.json", "metrics.jsonl", "loss.png", "samples", "checkpoints"} <= files
    assert list((trainer.run.path / "samples").glob("*.png"))
    assert any("eval/" in key for row in trainer.run.history() for key in row)


def yaml_of(recipe: Any) -> str:
    from raekit.config import dump_yaml

    return dump_yaml(recipe)
