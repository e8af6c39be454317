"""The unified stage: its loss is the model's, however a step is cut; what learns, what is exported, where it starts."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tiny_recipes
from parity import cases_multimodal
from parity.case import read_case, read_manifest
from raekit.errors import UserError
from raekit.generate import load_generator
from raekit.multimodal.batch import collate
from raekit.multimodal.chat import QUERY
from raekit.training.blocks import wrap
from raekit.training.draws import Draws
from raekit.training.loop import Trainer
from raekit.training.parallel.placement import ALONE, Placement
from raekit.training.stage import Micro, Terms
from raekit.training.stage2 import Stage2
from raekit.training.unified import NUM_START_TALKS, Unified
from raekit.understand import Understander

CPU = torch.device("cpu")
ADAPTED = {"lora": {"rank": 2}}


def build(folder: Path, condition: dict[str, Any] | None = None, **changes: Any) -> Unified:
    folder.mkdir(exist_ok=True)
    stage = Unified(recipe(folder, condition, **changes), CPU)
    return noisy(stage)


def recipe(folder: Path, condition: dict[str, Any] | None = None, **changes: Any) -> Any:
    values = tiny_recipes.unified(folder, **(condition or {}))
    data = {**values["data"], **changes.pop("data", {})}
    return tiny_recipes.resolve({**values, "data": data, **changes})


def noisy(stage: Unified) -> Unified:
    """The stage with a backbone and adapters that react; fresh ones say zero."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in stage.parameters().items():
            if name.startswith("backbone.") or "adapters" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return stage


def gradients(stage: Unified, sizes: list[int], position: int = 0) -> tuple[Terms, dict[str, torch.Tensor]]:
    """Terms and gradients of a step from a position on, cut into micro-batches of the sizes."""
    micros = []
    for size in sizes:
        batch = next(stage.batches(position, size))
        micros.append(Micro(batch, stage.prepare(batch), Draws(stage.config.seed, batch.positions, CPU)))
        position += size
    for parameter in stage.parameters().values():
        parameter.grad = None
    terms = stage.descend(micros, 0)
    return terms, {name: p.grad.clone() for name, p in stage.parameters().items() if p.grad is not None}


def test_a_step_is_the_same_however_it_is_cut_and_packed(tmp_path: Path) -> None:
    stage = build(tmp_path, {"dropout": 0.5, **ADAPTED})
    whole, expected = gradients(stage, [8])
    assert whole["diffusion"] > 0 and {"ce", "diffusion", "loss"} <= whole.keys()
    torch.testing.assert_close(whole["loss"], whole["ce"] + 2 * whole["diffusion"])
    # The mixture alternates: micro-batches of one hold only words, or only a picture to be drawn.
    for row_tokens, sizes in ((None, [4, 4]), (400, [8]), (400, [2] * 4), (90, [1] * 8)):
        object.__setattr__(stage.config, "data", stage.config.data.model_copy(update={"row_tokens": row_tokens}))
        terms, found = gradients(stage, sizes)
        for name, value in whole.items():
            torch.testing.assert_close(terms[name], value, rtol=2e-5, atol=1e-6)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-6, msg=name)


def test_a_conversation_that_cannot_be_used_is_replaced_and_noted(tmp_path: Path) -> None:
    settings = recipe(tmp_path)
    (tmp_path / "pictures" / "red_circle.png").write_bytes(b"no picture")
    stage = Unified(settings, CPU)
    assert len(next(stage.batches(0, 16)).positions) == 16
    (row,) = map(json.loads, (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines())
    assert (row["source"], row["key"]) == ("requests", "red_circle.png") and "red_circle.png: is no" in row["reason"]
    assert stage.quarantine.counts() == {"requests": 1}


def test_broken_lines_of_a_file_are_written_down(tmp_path: Path) -> None:
    values = tiny_recipes.unified(tmp_path)
    turns = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    path = tmp_path / "talk.jsonl"
    path.write_text(f"no JSON\n{json.dumps({'conversations': turns})}\n" + "{}\n" * 4)
    values["data"] = {"mixture": [{"name": "llava", "path": str(path)}], "max_tokens": 100}
    stage = Unified(tiny_recipes.resolve(values), CPU)
    next(stage.batches(0, 2))
    rows = [json.loads(line) for line in stage.quarantine.path.read_text().splitlines()]
    assert sorted(row["key"] for row in rows) == [f"{number:09d}" for number in (1, 3, 4, 5, 6)]
    assert any(row["reason"].startswith("line 1: is not JSON") for row in rows)
    assert stage.quarantine.counts() == {"llava": 5}


def test_packing_saves_rows(tmp_path: Path) -> None:
    stage = build(tmp_path, data={"row_tokens": 400})
    batch = next(stage.batches(0, 8))
    assert len(batch.ids) < len(batch.positions) == 8
    assert sorted(batch.positions.tolist()) == list(range(8))
    assert batch.segments is not None and (batch.ids == QUERY).sum() == 16 * len(batch.rows)


@pytest.mark.parametrize(
    ("condition", "changes", "learns", "rests"),
    [
        (ADAPTED, {}, {"adapters", "marks", "projector", "queries", "connector", "null_token"}, {"language_model"}),
        ({}, {}, {"projector", "queries", "connector", "null_token"}, {"language_model", "adapters", "marks"}),
        (
            {"is_llm_trained": True},
            {},
            {"language_model", "head", "projector", "queries", "connector", "null_token"},
            {"adapters"},
        ),
        (
            {"is_llm_trained": True},
            {"frozen": ["language_model", "projector"]},
            {"queries", "connector", "null_token"},
            {"language_model", "head", "projector"},
        ),
    ],
    ids=["adapted", "frozen", "trained", "backbone alone"],
)
def test_what_learns(tmp_path: Path, condition: Any, changes: Any, learns: set[str], rests: set[str]) -> None:
    stage = build(tmp_path, condition, **changes)
    own = {name.split(".")[1] for name in stage.parameters() if name.startswith("conditioner.")}
    assert own == learns and not own & rests
    _, found = gradients(stage, [8])
    without = {name for name in stage.parameters() if name not in found}
    assert without <= {"conditioner.null_token"}, without


def test_the_language_model_has_its_own_pace(tmp_path: Path) -> None:
    stage = build(tmp_path, ADAPTED, language_model_optim={"lr": 1e-4})
    (player,) = stage.players()
    own = {name.split(".")[1] for name in player.groups["language_model"].parameters}
    assert own == {"adapters", "marks", "projector", "queries"}
    rest = {name.split(".")[1] for name in player.groups["model"].parameters if name.startswith("conditioner.")}
    assert rest == {"connector", "null_token"}


def test_a_run_resumes_exactly_and_its_generator_can_be_asked(tmp_path: Path) -> None:
    runs = {
        name: recipe(tmp_path, ADAPTED, run=str(tmp_path / name), data={"row_tokens": 200}) for name in ("whole", "cut")
    }
    artefacts = {name: Trainer(settings).train() for name, settings in runs.items()}
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step_00000004")
    shutil.rmtree(tmp_path / "cut" / "generator")
    resumed = Trainer(runs["cut"], is_resumed=True)
    assert resumed.step == 2
    resumed.train()
    files = [Path(str(artefacts[name])) / "model.safetensors" for name in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()
    logged = [row for row in resumed.run.history() if "ce" in row]
    assert {"loss", "ce", "diffusion"} <= logged[-1].keys()
    stored = set(json.loads((tmp_path / "whole/generator/config.json").read_text())["generator"]["condition"])
    assert {"lora", "vision_shape", "system"} <= stored
    generator = load_generator(artefacts["whole"], device="cpu", precision="fp32")
    assert not any("language_model" in name for name in generator.conditioner.state_dict())
    assert generator.conditioner.adapters is not None
    assert any(
        value.abs().max() > 0
        for name, value in generator.conditioner.adapters.named_parameters()
        if name.endswith("up.weight")
    )
    assert len(generator("a red circle")) == 1
    assert len(Understander.of(generator).answer(torch.rand(1, 3, 32, 32), "what is this?", max_tokens=2)) == 1


def test_the_exported_generator_is_what_was_trained(tmp_path: Path) -> None:
    stage = build(tmp_path, ADAPTED)
    path = stage.export(tmp_path / "out")
    generator = load_generator(path, device="cpu", precision="fp32")
    stage.generator.backbone.eval()
    expected = stage.generator("a red circle", output="latent")
    torch.testing.assert_close(generator("a red circle", output="latent"), expected)
    plain = build(tmp_path, {})
    plain.generator.backbone.eval()
    assert not torch.allclose(plain.generator("a red circle", output="latent"), expected, atol=1e-3)


def test_it_starts_from_a_generator_that_only_reads(tmp_path: Path) -> None:
    reader = Stage2(tiny_recipes.resolve(tiny_recipes.stage2(tmp_path)), CPU)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in reader.parameters().values():
            parameter.add_(torch.randn_like(parameter))
    path = str(reader.export(tmp_path / "first"))
    stage = Unified(recipe(tmp_path, ADAPTED, init_generator=path), CPU)
    before, after = reader.state(), stage.state()
    same = {name for name in before if name in after and torch.equal(before[name], after[name])}
    assert {"conditioner.queries", "conditioner.connector.weight", "conditioner.null_token"} <= same
    assert {name for name in before if name.startswith("backbone.")} <= same
    assert "conditioner.projector.0.weight" in stage.parameters()
    assert stage.config.condition.width == 16
    # And from a unified one, all of it.
    second = str(stage.export(tmp_path / "second"))
    again = Unified(recipe(tmp_path, ADAPTED, init_generator=second), CPU)
    assert all(torch.equal(value, again.state()[name]) for name, value in stage.state().items())


def test_the_connector_can_start_at_the_principal_components_of_requests(tmp_path: Path) -> None:
    def told(is_linear_start: bool) -> torch.Tensor:
        """What all requests among the first conversations tell the backbone, ``[M, N, Z]``."""
        stage = Unified(recipe(tmp_path, is_linear_start=is_linear_start), CPU)
        batch = next(stage.batches(0, NUM_START_TALKS))
        seen = stage.prepare(batch)
        with torch.no_grad():
            return stage.model.connect(stage.model.states(seen), batch).tokens

    started, fresh = told(True), told(False)
    assert started.mean((0, 1)).abs().max() < 1e-3 < fresh.mean((0, 1)).abs().max(), (
        "what all have in common is left out"
    )
    away = started - started.mean(0)
    covariance = away.flatten(0, 1).T @ away.flatten(0, 1)
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-2 * covariance.diag().max()
    with pytest.raises(UserError, match="is_linear_start: it asks a frozen language model"):
        recipe(tmp_path, {"is_llm_trained": True}, is_linear_start=True)


def test_evaluation_judges_answers_word_for_word(tmp_path: Path) -> None:
    stage = build(tmp_path, num_held_out=6)
    found = stage.evaluate()
    assert found["loss"] == pytest.approx(found["ce"] + 2 * found["diffusion"], rel=1e-4)
    assert found["exact/questions"] == 0 and "exact/requests" not in found
    # What the language model finds likeliest is right by definition.
    talk = next(talk for talk in map(stage.held_out_talks.__getitem__, range(6)) if talk.domain == "questions")
    length = stage._answer_length(talk.turns[-1])
    end = len(talk.layout) - 1
    answer = stage.model.chat.text(talk.layout.ids[end - length : end])
    assert answer == talk.turns[-1].text
    assert talk.layout.ids[end - 1] == stage.model.chat.turn_end


def test_it_learns_by_heart_to_tell_what_it_is_shown(tmp_path: Path) -> None:
    values = tiny_recipes.unified(tmp_path, is_llm_trained=True)
    questions = {**values["data"]["mixture"][1], "kinds": ["naming"], "per_image": 1, "is_varied": False}
    source = {**questions["source"], "where": {"label_text": ["dog", "cat", "cow"]}}
    data = {**values["data"], "mixture": [{**questions, "source": source}]}
    stage = Unified(tiny_recipes.resolve({**values, "data": data, "held_out": data, "num_held_out": 3}), CPU)
    optimiser = torch.optim.Adam(stage.parameters().values(), lr=3e-3)
    before = stage.evaluate()
    for position in range(0, 120 * 6, 6):
        gradients(stage, [6], position)
        optimiser.step()
    after = stage.evaluate()
    assert after["ce"] < 0.1 * before["ce"]
    assert (before["exact/questions"], after["exact/questions"]) == (0, 1)


def test_what_explain_says(tmp_path: Path) -> None:
    rows = dict(Unified.describe(recipe(tmp_path, data={"row_tokens": 200})))
    assert rows["mixture"] == "requests 0.5, questions 0.5"
    assert rows["conversations"] == "up to 400 tokens, packed into rows of 200; up to 1 pictures"


def test_samples_of_each_domain_are_counted(tmp_path: Path) -> None:
    stage = build(tmp_path)
    talks = [stage.talks[position] for position in range(10)]
    assert Counter(talk.domain for talk in talks) == stage.counts(10) == {"requests": 5, "questions": 5}
    first = [batch.positions.tolist() for batch in islice(stage.batches(0, 4), 2)]
    assert first == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_condition_that_only_reads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="condition.name"):
        recipe(tmp_path, {"name": "query"})
    with pytest.raises(UserError, match="the language model itself is trained"):
        recipe(tmp_path, {**ADAPTED, "is_llm_trained": True})


FIXTURES = Path(__file__).parents[1] / "parity/fixtures"


@pytest.mark.parametrize("name", ["srae_15a_training_batch", "srae_15a_training_t2i"])
def test_the_loss_of_a_step_is_the_published_one(name: str) -> None:
    """Scale-RAE's training forward with dropped conditions, whole, packed, and cut into a micro-batch a row."""
    case = read_case(FIXTURES, read_manifest(FIXTURES)[name])
    model, inputs = cases_multimodal.unified(case), case.inputs
    given = [inputs[f"train_mode_{kind}"] for kind in ("normals_for_t", "x_end", "dropout_u")]
    stage = Unified.__new__(Unified)
    stage.model, stage.device, stage.placement = model, CPU, Placement(ALONE)
    stage.generator = SimpleNamespace(backbone=model.backbone)
    stage.config = SimpleNamespace(train=SimpleNamespace(precision="fp32"))
    whole = cases_multimodal.spoken(case, model)
    for row_tokens, parts in ((None, [whole]), (1024, [whole]), (None, [[sample] for sample in whole])):
        micros = []
        for part in parts:
            batch = collate(part, model.chat.padding, row_tokens=row_tokens)
            draws = cases_multimodal.Given(*(value[batch.positions] for value in given))
            micros.append(Micro(batch, model.see(batch), draws))
        terms = stage.descend(micros, 0)
        for term, theirs in (("loss", "train_mode_loss"), ("diffusion", "train_mode_loss_image")):
            tolerance = case.tolerance(theirs)
            torch.testing.assert_close(terms[term], case.outputs[theirs], rtol=0, atol=tolerance)


def test_of_a_generator_that_reads_word_by_word_it_takes_the_backbone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = tiny_recipes.stage2(tmp_path)
    condition = {"name": "text", "language_model": values["condition"]["language_model"], "width": 40}
    reader = Stage2(tiny_recipes.resolve({**values, "condition": condition}), CPU)
    with torch.no_grad():
        for parameter in reader.parameters().values():
            parameter.add_(torch.randn_like(parameter))
    own = {key: value for key, value in tiny_recipes.unified(tmp_path).items() if key != "backbone"}
    del own["condition"]["width"]
    recipe = tiny_recipes.resolve({**own, "init_generator": str(reader.export(tmp_path / "first"))})
    assert recipe.condition.width == 40, "of the generator"
    stage = Unified(recipe, CPU)
    assert "its condition is 'text', this run's 'unified': of its weights the backbone's alone" in caplog.text
    before, after = reader.state(), stage.state()
    assert all(torch.equal(value, after[name]) for name, value in before.items() if name.startswith("backbone."))
    assert not torch.equal(before["conditioner.connector.weight"], after["conditioner.connector.weight"])


def test_activations_computed_twice_change_nothing(tmp_path: Path) -> None:
    stage = build(tmp_path, ADAPTED)
    terms, expected = gradients(stage, [4])
    blocks = stage.blocks()
    assert len(blocks) == len(stage.generator.backbone.blocks) + 2, "the language model's too"
    wrap(blocks, is_compiled=False, checkpointing="full")
    again, found = gradients(stage, [4])
    assert torch.equal(again["loss"], terms["loss"])
    assert all(torch.equal(found[name], value) for name, value in expected.items())
