"""One process, two, four; whole weights or cut ones: the same step and figures, the same checkpoint and artefact."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

import tiny_generator
import tiny_recipes
import two_ranks
from raekit import distributed
from raekit.errors import UserError
from raekit.training import stage2 as stage2_module
from raekit.training import unified as unified_module
from raekit.training.loop import Trainer
from raekit.training.parallel import placement as parallel
from raekit.training.parallel.layout import SHARD_FROM
from raekit.training.parallel.placement import ParallelConfig, Placement, layout_of
from raekit.training.parallel.sharding import whole
from raekit.training.saving import checkpoint_files

ADVERSARY: dict[str, Any] = {
    "discriminator": {"name": "features", "backbone": "encoder", "kernel_size": 3},
    "optim": {"lr": 1e-3, "clip_norm": None},
}
MUON = {"name": "muon", "lr": 1e-3, "weight_decay": 0.1}
FSDP = {"strategy": "fsdp"}


def stage1(folder: Path) -> dict[str, Any]:
    return {**tiny_recipes.stage1(folder), "adversary": ADVERSARY}


def stage2(folder: Path) -> dict[str, Any]:
    return {**tiny_recipes.stage2(folder, is_llm_trained=True), "optim": {"lr": 1e-3, "clip_norm": 0.01}}


def adapted(folder: Path) -> dict[str, Any]:
    """Low-rank adapters in the blocks of both networks of a finished generator."""
    values = tiny_recipes.stage2(folder)
    for part in ("backbone", "condition", "latent_space"):
        del values[part]
    path = str(tiny_generator.saved(folder / "first"))
    lora = {"rank": 2, "parts": ["backbone", "language_model"]}
    return {**values, "init_generator": path, "lora": lora}


def finetuned(folder: Path) -> dict[str, Any]:
    """The unified stage with a language model that learns, from a finished model."""
    values = tiny_recipes.unified(folder, is_llm_trained=True)
    first = unified_module.Unified(tiny_recipes.resolve(values), torch.device("cpu"))
    return {**values, "init_generator": str(first.export(folder / "first"))}


STAGES: dict[str, Callable[[Path], dict[str, Any]]] = {"stage1": stage1, "stage2": stage2}
OTHERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "lora": adapted,
    "adapted": lambda folder: tiny_recipes.stage2(folder, lora={"rank": 2}),
    "unified": finetuned,
    "unified_lora": lambda folder: tiny_recipes.unified(folder, lora={"rank": 2}),
}
WAYS: dict[str, dict[str, Any]] = {
    "ddp": {"parallel": {"strategy": "ddp"}},
    "fsdp": {"parallel": FSDP},
    "fsdp_by_micro_batch": {"parallel": {**FSDP, "sync": "micro_batch", "frozen": "sharded", "is_resharded": False}},
    "fsdp_checkpointed": {"parallel": FSDP, "checkpoint_activations": "selective"},
}
WAYS_OF_OTHERS: dict[str, dict[str, Any]] = {
    "ddp": WAYS["ddp"],
    "fsdp": WAYS["fsdp"],
    # One conversation a process and pass: where one has only words, the other has only a picture.
    "fsdp_one_by_one": {"micro_batch_size": 2, **WAYS["fsdp_by_micro_batch"]},
}
WAYS_OF_FOUR: dict[str, dict[str, Any]] = {
    "ddp": WAYS["ddp"],
    "hsdp": {"parallel": {"strategy": "hsdp", "shard_size": 2}},
}


def two_steps(values: dict[str, Any], **train: Any) -> dict[str, Tensor]:
    """Held-out figures ahead of all; clipped gradients and terms of the first step; weights and averages after the
    second; whole."""
    trainer = Trainer(tiny_recipes.resolve(values, **{"batch_size": 8, "micro_batch_size": 4, **train}))
    with mock.patch.multiple(stage2_module, EVALUATION_BATCH=3), mock.patch.multiple(unified_module, TALKS_TOGETHER=3):
        found = {f"eval.{name}": torch.tensor(value) for name, value in trainer.stage.evaluate().items()}
    micros = trainer.ready(trainer.stage.batches(0, trainer.recipe.train.micro_batch))
    terms = trainer.train_step(micros)
    distributed.average(terms.values())
    found |= {f"term.{name}": value for name, value in terms.items()}
    found |= {f"grad.{name}": whole(p.grad) for name, p in trainer.parameters.items() if p.grad is not None}
    found = {name: value.detach().clone() for name, value in found.items()}
    trainer.train_step(micros)
    found |= {f"ema.{name}": whole(v) for u in trainer.updaters.values() for name, v in u.ema.values.items()}
    found |= {f"after.{name}": whole(value) for name, value in trainer.stage.state().items()}
    return {name: value.detach().clone() for name, value in found.items()}


def a_rank(recipes: dict[str, dict[str, Any]], ways: dict[str, dict[str, Any]], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, values in recipes.items():
        for way, train in ways.items():
            found = two_steps({**values, "run": str(folder / f"{name}-{way}")}, **train)
            save_file(found, folder / f"{name}-{way}-{distributed.rank()}.safetensors")


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor], context: str, tolerance: float = 1e-6) -> None:
    assert found.keys() == expected.keys(), context
    for name, value in expected.items():
        if name.startswith("term.share/"):
            continue  # of each process's first micro-batch
        if name.startswith(("term.", "eval.")):
            torch.testing.assert_close(
                found[name], value, rtol=2 * tolerance, atol=tolerance / 10, msg=lambda m, n=name: f"{context} {n}: {m}"
            )
        elif not name.startswith("grad."):  # Adam turns rounding about zero into the sign of a step
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-3 * (2 if "after" in name else 1))
    for module in {name.split(".")[1] for name in expected if name.startswith("grad.")}:
        both = ([t[n].flatten() for n in expected if n.startswith(f"grad.{module}.")] for t in (found, expected))
        one, other = (torch.cat(gradients) for gradients in both)
        error, size = float((one - other).norm()), float(other.norm())  # a network's first output is 0: so may they be
        assert error <= tolerance * size, f"{context} {module}: {error:.1e} of {size:.1e}"


def test_one_process_and_two_take_the_same_steps_however_the_weights_lie(tmp_path: Path) -> None:
    recipes = {name: recipe(tmp_path / name) for name, recipe in STAGES.items()}
    alone = {name: two_steps({**v, "run": str(tmp_path / f"{name}-alone")}) for name, v in recipes.items()}
    for world, ways in ((2, WAYS), (4, WAYS_OF_FOUR)):
        two_ranks.run(a_rank, recipes, ways, tmp_path / str(world), world=world)
        for name in recipes:
            for way in ways:
                ranks = [load_file(tmp_path / str(world) / f"{name}-{way}-{rank}.safetensors") for rank in range(world)]
                assert_alike(ranks[0], alone[name], f"{name} {way} on {world}")
                for other in ranks[1:]:
                    assert not [key for key in other if not torch.equal(ranks[0][key], other[key])]


def test_adapters_and_the_unified_stage_take_the_same_steps_too(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    recipes = {name: recipe(tmp_path / name) for name, recipe in OTHERS.items()}
    alone = {name: two_steps({**v, "run": str(tmp_path / f"{name}-alone")}) for name, v in recipes.items()}
    two_ranks.run(a_rank, recipes, WAYS_OF_OTHERS, tmp_path / "2")
    for name in recipes:
        for way in WAYS_OF_OTHERS:
            ranks = [load_file(tmp_path / "2" / f"{name}-{way}-{rank}.safetensors") for rank in range(2)]
            assert_alike(ranks[0], alone[name], f"{name} {way}")
            assert not [key for key in ranks[1] if not torch.equal(ranks[0][key], ranks[1][key])]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_blocks_can_be_cut(tmp_path: Path) -> None:
    values = stage2(tmp_path)
    expected = two_steps({**values, "run": str(tmp_path / "alone")})
    two_ranks.run(a_rank, {"stage2": values}, {"compiled": {"parallel": FSDP, "compile": True}}, tmp_path / "2")
    for rank in range(2):
        assert_alike(load_file(tmp_path / f"2/stage2-compiled-{rank}.safetensors"), expected, "compiled", 1e-5)


def a_whole_run(values: dict[str, Any]) -> None:
    """From the checkpoint of one process to the end, cut over two."""
    trainer = Trainer(tiny_recipes.resolve(values, steps=4, parallel=FSDP), is_resumed=True)
    assert trainer.step == 2 and trainer.placement.layout.strategy == "fsdp"
    assert all(isinstance(root, FSDPModule) for root in trainer.placement.roots) and len(trainer.placement.roots) == 2
    cut = {name for name, p in trainer.parameters.items() if isinstance(p, DTensor)}
    assert cut == {
        n for n in trainer.parameters if (".blocks." in n or ".layers." in n) and trainer.parameters[n].ndim > 1
    }
    moments = {
        key.split(".", 1)[1].rpartition(".")[0]: v for key, v in trainer.updaters["model"].state().items() if v.ndim
    }
    assert {name for name, moment in moments.items() if isinstance(moment, DTensor)} == cut
    artefact = trainer.train()
    assert (artefact is not None) == distributed.is_main()
    assert isinstance(next(p for n, p in trainer.parameters.items() if n in cut), DTensor)


def test_a_run_of_one_process_goes_on_in_pieces_and_back_and_exports_whole_weights(tmp_path: Path) -> None:
    values = {**tiny_recipes.stage2(tmp_path, is_llm_trained=True), "optim": MUON}
    unbroken, broken = ({**values, "run": str(tmp_path / name)} for name in ("unbroken", "broken"))
    Trainer(tiny_recipes.resolve(unbroken, steps=4, extra_ema=[0.5])).train()
    shutil.copytree(tmp_path / "unbroken", tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken" / "checkpoints" / "step_00000004")
    two_ranks.run(a_whole_run, {**broken, "train": {**broken["train"], "extra_ema": [0.5]}})

    expected, found = (
        checkpoint_files.load(tmp_path / n / "checkpoints" / "step_00000004") for n in ("unbroken", "broken")
    )
    for group in ("model", "ema", "ema_0.5"):
        for name, value in expected.tensors[group].items():
            torch.testing.assert_close(found.tensors[group][name], value, rtol=0, atol=1e-3)
    for path, group in (("generator", "ema"), ("ema_0.5/generator", "ema_0.5")):
        written = load_file(tmp_path / "broken" / path / "model.safetensors")
        for name, value in found.tensors[group].items():
            assert torch.equal(written[name], value), name

    back = Trainer(tiny_recipes.resolve(broken, steps=6, extra_ema=[0.5]), is_resumed=True)
    assert back.step == 4
    state = {f"model.{name}": value for name, value in back.updaters["model"].state().items()}
    assert state.keys() == found.tensors["optimizer"].keys()
    for name, value in found.tensors["optimizer"].items():
        assert torch.equal(state[name], value), name


def test_the_rule_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world", lambda: 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert layout_of(SHARD_FROM - 1, ParallelConfig()).strategy == "ddp"
    large = layout_of(SHARD_FROM, ParallelConfig())
    assert (large.strategy, large.num_shards, large.num_replicas) == ("fsdp", 8, 1)
    assert "FSDP" in large.reason and "1.00 B" in large.reason
    by_node = layout_of(1, ParallelConfig(strategy="hsdp"))
    assert (by_node.num_shards, by_node.num_replicas) == (4, 2)
    assert layout_of(1, ParallelConfig(strategy="hsdp", shard_size=2)).num_replicas == 4
    with pytest.raises(UserError, match="hsdp"):
        layout_of(1, ParallelConfig(strategy="hsdp", shard_size=3))


def test_a_vocabulary_is_cut_unless_another_layer_shares_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "LARGE_LAYER", 64)
    network = nn.Module()
    network.words, network.narrow = nn.Embedding(16, 4), nn.Linear(4, 4)
    network.blocks = nn.ModuleList([nn.Linear(32, 32)])
    assert parallel._large_layers(network) == [network.words]
    network.config = SimpleNamespace(tie_word_embeddings=True)
    assert parallel._large_layers(network) == []


def test_a_single_process_is_left_alone() -> None:
    placement = Placement(parallel.ALONE)
    assert list(placement.accumulate([1, 2])) == [1, 2]
    assert not placement.is_sharded and not placement.reducer([nn.Parameter(torch.ones(1))]).buckets
