"""Stage 2: what is trained, what is dropped, and a generator that loads."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import tiny_generator
import tiny_language_model
import tiny_recipes
from raekit.conditioning import CONDITIONERS
from raekit.conditioning.base import Cond, Conditioner
from raekit.config import Config
from raekit.errors import UserError
from raekit.generate import TextToImage
from raekit.training import STAGES
from raekit.training.draws import Draws
from raekit.training.loop import Trainer
from raekit.training.stage2 import EVALUATION_SEED, Stage2


class Length(Conditioner):
    """A condition of one's own, which asks no language model: how long the caption is."""

    class Config(Config):
        """A vector as wide as this."""

        name: Literal["length"] = "length"
        width: int = 8

    def __init__(self, config: Config, *, num_tokens: int | None = None) -> None:
        super().__init__()
        self.width, self.dropout = config.width, 0.0
        self.map = torch.nn.Linear(1, config.width)

    @property
    def form(self) -> str:
        return f"one vector x {self.width}"

    def forward(self, prompts: Sequence[str] | Tensor) -> Cond:
        return Cond(vector=self.map(torch.tensor([[float(len(prompt))] for prompt in prompts])))

    def null(self, batch_size: int) -> Cond:
        return Cond(vector=torch.zeros(batch_size, self.width))


def build(folder: Path, condition: dict[str, object] | None = None, **changes: object) -> Stage2:
    values = {**tiny_recipes.stage2(folder, **(condition or {})), **changes}
    return Stage2(tiny_recipes.resolve(values), torch.device("cpu"))


def test_the_latent_space_is_frozen(tmp_path: Path) -> None:
    names = set(build(tmp_path).parameters())
    assert {name.split(".")[0] for name in names} == {"backbone", "conditioner"}
    assert "conditioner.queries" in names


def test_a_condition_of_ones_own_is_trained_but_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONDITIONERS._rows, "length", f"{__name__}:Length")
    values = {**tiny_recipes.stage2(tmp_path), "condition": {"name": "length"}, "sampling": {"guidance": "none"}}
    stage = Stage2(tiny_recipes.resolve(values), torch.device("cpu"))
    assert "conditioner.map.weight" in stage.parameters()
    with pytest.raises(UserError, match="cache: the condition 'length' reads no prompt.*; set cache: null"):
        Stage2(tiny_recipes.resolve({**values, "cache": str(tmp_path / "cache")}), torch.device("cpu"))


def test_a_missing_latent_space_is_told_with_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="latent_space: no directory '.*none'; make it with stage 1"):
        build(tmp_path, latent_space=str(tmp_path / "none"))


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


@pytest.mark.parametrize(
    ("condition", "is_ahead"),
    [({}, False), ({"are_queries_trained": False}, True), ({"is_llm_trained": True}, False)],
    ids=["queries", "frozen", "trained"],
)
def test_frozen_networks_run_ahead_of_the_loss(condition: dict[str, Any], is_ahead: bool, tmp_path: Path) -> None:
    stage = Stage2(tiny_recipes.resolve(tiny_recipes.stage2(tmp_path, **condition)), torch.device("cpu"))
    batch = next(stage.batches(0, 4))
    draws = Draws(stage.config.seed, batch.positions)
    plain, told = stage.loss(batch, draws)["loss"], stage.prepare(batch)
    assert (told.features is not None) == is_ahead and not told.latent.requires_grad
    stage.generator.latent_space.encode = None  # which is asked no more
    assert torch.equal(stage.loss(told, draws)["loss"], plain)


@pytest.mark.parametrize("is_cached", [True, False])
def test_labels_condition_as_well(tmp_path: Path, is_cached: bool) -> None:
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
        "cache": str(tmp_path / "cache") if is_cached else None,
    }
    stage = Stage2(tiny_recipes.resolve(values), torch.device("cpu"))
    batch = next(stage.batches(0, 4))
    assert batch.labels is not None and set(batch.labels.tolist()) <= {0, 1}
    loss = stage.loss(batch, Draws(0, range(4)))["loss"]
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


@pytest.mark.parametrize(
    ("condition", "prompt", "complaint"),
    [
        (None, " ", "sample_prompts: prompt: it is empty; say what the picture should show"),
        (None, 3, "sample_prompts: prompt: 3 is not text"),
        ({"name": "label", "num_classes": 2, "width": 16}, 2, "sample_prompts: label: 2 is not a class of this model"),
    ],
)
def test_what_no_sheet_could_show_is_refused_at_once(
    tmp_path: Path, condition: dict[str, object] | None, prompt: object, complaint: str
) -> None:
    values = {**tiny_recipes.stage2(tmp_path), "sample_prompts": [prompt]}
    config = tiny_recipes.resolve(values if condition is None else {**values, "condition": condition})
    with pytest.raises(UserError, match=complaint):
        Stage2(config, torch.device("cpu"))


@pytest.mark.parametrize("name", ["query", "text", "unified"])
def test_what_a_sheet_would_leave_out_of_a_prompt_is_told_at_once(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = tiny_recipes.stage2(tmp_path)
    limit = 120 if name == "unified" else 12
    condition = {
        "language_model": values["condition"]["language_model"],
        "precision": "fp32",
        "max_prompt_tokens": limit,
    }
    condition |= TEXT if name == "text" else {"name": name}
    prompts = ["a cat", "a cat on a mat" * 10]
    Stage2(tiny_recipes.resolve({**values, "condition": condition, "sample_prompts": prompts}), torch.device("cpu"))
    (told,) = [record.getMessage() for record in caplog.records if "max_prompt_tokens" in record.getMessage()]
    assert "'a cat on a mat" in told and "has 140 tokens" in told and f"reads {limit}" in told
    assert int(told.split("the last ")[1].split()[0]) >= 140 - limit


def test_a_prompt_that_cannot_be_read_is_refused_at_once(tmp_path: Path) -> None:
    values = tiny_recipes.stage2(tmp_path)
    condition = {**values["condition"], "name": "unified", "max_prompt_tokens": 250}
    config = tiny_recipes.resolve({**values, "condition": condition, "sample_prompts": ["a <image> of a cat"]})
    with pytest.raises(UserError, match="sample_prompts: prompt: <image> stands for a picture"):
        Stage2(config, torch.device("cpu"))


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


SLOW = {"lr": 1e-4, "betas": [0.9, 0.999]}


def trained(folder: Path, **changes: object) -> Stage2:
    """A stage that trains a tiny Qwen2 with its backbone, with random weights throughout."""
    folder.mkdir(exist_ok=True)
    condition = {"language_model": tiny_language_model.saved_qwen2(folder), "is_llm_trained": True}
    return noisy(build(folder, condition, **changes))


def noisy(stage: Stage2) -> Stage2:
    """The stage with a backbone that reacts; a fresh one says zero whatever it is told."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in stage.generator.backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return stage


def test_a_trained_language_model_learns_is_saved_and_draws(tmp_path: Path) -> None:
    stage = trained(tmp_path)
    stage.loss(next(stage.batches(0, 4)), Draws(0, range(4)))["loss"].backward()
    gradients = {n: p.grad for n, p in stage.parameters().items() if n.startswith("conditioner.language_model.layers")}
    assert len(gradients) == 2 * 12 and all(g is not None and g.abs().max() > 0 for g in gradients.values())
    with torch.no_grad():
        for name in gradients:
            stage.parameters()[name].add_(0.1)  # no longer what lies on disk
    stage.generator.backbone.eval()
    expected = stage.generator("a red circle", output="latent")
    loaded = TextToImage.load(stage.export(tmp_path / "out"), device="cpu", precision="fp32")
    torch.testing.assert_close(loaded("a red circle", output="latent"), expected)


def test_language_model_and_queries_are_a_group_apart(tmp_path: Path) -> None:
    stage = trained(tmp_path, language_model_optim=SLOW)
    (player,) = stage.players()
    assert list(player.groups) == ["model", "language_model"]
    heads = {".".join(name.split(".")[:2]) for name in player.groups["language_model"].parameters}
    assert heads == {"conditioner.language_model", "conditioner.queries"}
    assert {"conditioner.connector.weight", "conditioner.null_token"} <= set(player.groups["model"].parameters)
    assert player.groups["language_model"].optim.betas == (0.9, 0.999)
    assert sum(len(group.parameters) for group in player.groups.values()) == len(stage.parameters())
    trainer = Trainer(stage.config)
    trainer.train()
    rows = [row for row in trainer.run.history() if "lr" in row]
    row = rows[0]
    assert row["language_model/lr"] == pytest.approx(1e-4) and row["lr"] == pytest.approx(1e-3)
    assert rows[-1]["language_model/grad_norm"] > 0  # at first nothing passes the zeros at the backbone's end


def test_an_optimiser_for_what_is_not_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="language_model_optim: neither language model nor queries are trained"):
        build(tmp_path, {"are_queries_trained": False}, language_model_optim=SLOW).players()


def test_a_run_can_start_from_a_generator_and_keep_parts_of_it(tmp_path: Path) -> None:
    first = trained(tmp_path, transport={"prediction": "x"})
    path = first.export(tmp_path / "first")
    values = tiny_recipes.stage2(tmp_path)
    bare = {key: value for key, value in values.items() if key not in ("backbone", "condition", "latent_space")}
    started = {**bare, "init_generator": str(path), "frozen": ["language_model"]}
    recipe = tiny_recipes.resolve(started)
    assert recipe.transport.prediction == "x" and recipe.condition.is_llm_trained
    stage = Stage2(recipe, torch.device("cpu"))
    before, after = first.state(), stage.state()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    names = set(stage.parameters())
    assert not any(name.startswith("conditioner.language_model") for name in names)
    assert {"conditioner.queries", "conditioner.connector.weight", "backbone.embed.proj.weight"} <= names
    whole = {**values, "condition": recipe.condition.model_dump(), "init_generator": str(path)}
    with pytest.raises(UserError, match=r"transport.prediction: 'velocity', but the generator .* was trained with 'x'"):
        Stage2(tiny_recipes.resolve({**whole, "transport": {}}), torch.device("cpu"))


def test_of_a_generator_told_in_another_way_it_takes_the_backbone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = noisy(build(tmp_path, {"name": "text", "width": 40}))
    values = {**tiny_recipes.stage2(tmp_path), "init_generator": str(first.export(tmp_path / "first"))}
    values["condition"] |= {"are_queries_trained": False, "width": 40}
    stage = Stage2(tiny_recipes.resolve({**values, "cache": str(tmp_path / "cache")}), torch.device("cpu"))
    assert "its condition is 'text', this run's 'query': of its weights the backbone's alone are taken" in caplog.text
    before, after = first.state(), stage.state()
    assert all(torch.equal(value, after[name]) for name, value in before.items() if name.startswith("backbone."))
    bias = after["conditioner.connector.bias"]
    assert bias.abs().max() > 0, "the connector starts from the features, as in a run from nothing"
    with pytest.raises(UserError, match="condition: 'query', but the generator to adapt was trained with 'text'"):
        Stage2(tiny_recipes.resolve({**values, "lora": {}}), torch.device("cpu"))


@pytest.mark.parametrize("parts", [["backbone"], ["language_model"], ["backbone", "language_model"]], ids="+".join)
def test_adapters_are_trained_resumed_and_draw(tmp_path: Path, parts: list[str]) -> None:
    pytest.importorskip("peft")
    path = noisy(build(tmp_path)).export(tmp_path / "first")
    values = tiny_recipes.stage2(tmp_path)
    bare = {key: value for key, value in values.items() if key not in ("backbone", "condition", "latent_space")}
    bare |= {"init_generator": str(path), "lora": {"rank": 2, "parts": parts}, "optim": {"lr": 0.05, "ema": 0.5}}
    if "language_model" in parts:
        bare |= {"language_model_optim": SLOW}
    runs = {name: tiny_recipes.resolve({**bare, "run": str(tmp_path / name)}) for name in ("whole", "broken")}
    adapters = [Trainer(recipe).train() for recipe in runs.values()]
    shutil.rmtree(tmp_path / "broken" / "checkpoints" / "step_00000004")
    resumed = Trainer(runs["broken"], is_resumed=True)
    assert {name.split(".")[1] for name in resumed.parameters} == set(parts)
    assert set(resumed.stage.state()) == set(resumed.parameters)  # a checkpoint holds adapters, not the generator
    resumed.train()
    assert adapters[0] == tmp_path / "whole" / "lora"
    left, right = (load_file(folder / "adapter_model.safetensors") for folder in adapters)
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    generator = TextToImage.load(path, device="cpu", precision="fp32")
    plain = generator("a red circle", output="latent")
    generator.load_lora(adapters[0])
    changed = generator("a red circle", output="latent")
    assert not torch.equal(changed, plain)


def test_adapters_need_a_generator(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lora: adapters need a generator to adapt; name it with init_generator"):
        tiny_recipes.resolve({**tiny_recipes.stage2(tmp_path), "lora": {}})


@pytest.mark.parametrize("is_started", [False, True], ids=["drawn", "given"])
@pytest.mark.parametrize("make", [tiny_recipes.stage2, tiny_recipes.unified])
def test_networks_that_are_filled_later_have_the_same_numbers(
    make: Callable[..., dict[str, Any]], is_started: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = make(tmp_path, is_llm_trained=True)
    if is_started:
        first = noisy(STAGES[values["stage"]](tiny_recipes.resolve(values), torch.device("cpu")))
        values |= {"init_generator": str(first.export(tmp_path / "first"))}
    recipe = tiny_recipes.resolve(values)
    kind = STAGES[recipe.stage]
    expected = kind(recipe, torch.device("cpu")).state()
    monkeypatch.setattr("raekit.training.stage2.may_be_cut", lambda config: True)
    stage = kind(recipe, torch.device("cpu"))
    assert stage.outlines.unread is not None
    for network in (stage.generator.backbone, stage.generator.conditioner.reader):
        assert all(parameter.is_meta for parameter in network.parameters())
    stage.fill()
    found = stage.state()
    assert found.keys() == expected.keys()
    assert not [name for name, value in expected.items() if not torch.equal(found[name], value)]
    assert torch.isfinite(torch.tensor(list(stage.evaluate().values()))).all()
