"""A language model adapted together with backbone, queries and connector: trained, resumed, exported, started from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny_recipes
from raekit.errors import UserError
from raekit.generate import TextToImage
from raekit.training.loop import Trainer
from raekit.training.stage2 import Stage2

SLOW = {"lr": 1e-4, "betas": [0.9, 0.999]}
ADAPTED: dict[str, dict[str, Any]] = {
    "query": {"lora": {"rank": 2}},
    "text": {"name": "text", "width": 40, "lora": {"rank": 2}},
}


def build(folder: Path, condition: dict[str, Any] | None = None, **changes: object) -> Stage2:
    """A stage whose backbone reacts, unless it starts from a generator; a fresh one says zero whatever it is told."""
    values = {**tiny_recipes.stage2(folder, **(condition or {})), **changes}
    stage = Stage2(tiny_recipes.resolve(values), torch.device("cpu"))
    if "init_generator" not in changes:
        torch.manual_seed(3)
        with torch.no_grad():
            for parameter in stage.generator.backbone.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return stage


@pytest.mark.parametrize("kind", sorted(ADAPTED))
def test_a_language_model_is_adapted_together_with_the_rest(tmp_path: Path, kind: str) -> None:
    values = {**tiny_recipes.stage2(tmp_path, **ADAPTED[kind]), "language_model_optim": SLOW, "optim": {"lr": 0.05}}
    runs = {name: tiny_recipes.resolve({**values, "run": str(tmp_path / name)}) for name in ("whole", "broken")}
    whole, broken = Trainer(runs["whole"]), Trainer(runs["broken"])
    own = {name for name in whole.parameters if name.startswith("conditioner.adapters.")}
    groups = whole.stage.players()[0].groups
    assert len(own) == 2 * 2 * 7 and own <= set(groups["language_model"].parameters)
    assert {"backbone.embed.proj.weight", "conditioner.connector.weight"} <= set(groups["model"].parameters)
    paths = [trainer.train() for trainer in (whole, broken)]
    assert own <= set(whole.updaters["language_model"].ema.values)
    shutil.rmtree(tmp_path / "broken" / "checkpoints" / "step_00000004")
    Trainer(runs["broken"], is_resumed=True).train()
    left, right = (load_file(path / "model.safetensors") for path in paths)
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    assert not any("language_model" in name for name in left)
    assert all(left[name].abs().max() > 0 for name in own)
    stage = Stage2(runs["whole"], torch.device("cpu"))
    stage.load_state(left)
    stage.generator.backbone.eval()
    loaded, prompt = TextToImage.load(paths[0], device="cpu", precision="fp32"), "a red circle"
    assert torch.equal(loaded(prompt, output="latent"), stage.generator(prompt, output="latent"))


def test_adapters_start_fresh_beside_a_generator_without_any_and_go_on_as_they_were(tmp_path: Path) -> None:
    plain = build(tmp_path)
    first = str(plain.export(tmp_path / "first"))
    adapted = build(tmp_path, ADAPTED["query"], init_generator=first)
    before, after = plain.state(), adapted.state()
    own = {name for name in after if name.startswith("conditioner.adapters.")}
    assert own and after.keys() - own == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    with torch.no_grad():
        for name in own:
            after[name].normal_()
    second = str(adapted.export(tmp_path / "second"))
    on = build(tmp_path, ADAPTED["query"], init_generator=second, frozen=["language_model"])
    assert all(torch.equal(on.state()[name], after[name]) for name in own) and own.isdisjoint(on.parameters())
    for condition in ({}, {"lora": {"rank": 2, "alpha": 3.0}}):
        with pytest.raises(UserError, match=r"condition.lora: .*, but .*second/generator' has .*16"):
            build(tmp_path, condition, init_generator=second)
    with pytest.raises(UserError, match=r"cache: text features can only be cached .* without condition.lora"):
        build(tmp_path, {**ADAPTED["query"], "are_queries_trained": False}, cache=str(tmp_path / "cache"))
