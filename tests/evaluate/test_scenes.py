"""Scenes from prompt to verdict: with a generator that draws the truth, and with one that draws noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_encoders
import tiny_generator
import tiny_sprites
from raekit.data.scene_plan import TASKS
from raekit.data.scene_prompts import ScenePrompt, true_picture
from raekit.data.scenes import Scenes
from raekit.errors import UserError
from raekit.evaluate import scenes as module
from raekit.evaluate.scene_report import DECODED, GENERATED, TRUE
from raekit.evaluate.scenes import build_checkers, choose_prompts, decoded, evaluate_scenes, judge, open_scenes
from raekit.metrics.scene_check import Found


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sprites.shard(tmp_path_factory.mktemp("shapes") / "shapes.tar")


@pytest.fixture(scope="module")
def scenes(shapes: Path) -> Scenes:
    return open_scenes(shapes, 48, with_held_out=False)


class Same:
    """A latent space that gives pictures back as they are."""

    checksum, device, output_size = "0", torch.device("cpu"), 48

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return image

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return latent


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALIBRATION_PER_TASK", 1)
    monkeypatch.setattr(module, "PROBE_ROUNDS", 1)


def test_true_pictures_score_their_ceiling(
    few: None, scenes: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator that draws what it is told is right, up to its checker; the wrong pictures of its tasks are not."""
    prompts, origin = choose_prompts(scenes, 3, 0, None)
    space: Any = Same()
    encoder = tiny_encoders.build("nano", tmp_path / "encoder")
    checkers = build_checkers(scenes, space, encoder)
    assert [checker.name for checker in checkers] == ["templates", "attributes", "probe"]
    generator = tiny_generator.text_to_image(tmp_path)
    monkeypatch.setattr(generator, "latent_space", space)
    drawn = {prompt.text: true_picture(prompt, scenes, (9, n))[0] for n, prompt in enumerate(prompts)}

    def sample(texts: list[str], **options: Any) -> torch.Tensor:
        assert len(options["prompt_seeds"]) == len(texts)
        return torch.from_numpy(np.stack([drawn[text] for text in texts])).permute(0, 3, 1, 2) / 255

    monkeypatch.setattr(generator, "sample", sample)
    counts: list[int] = []
    report = evaluate_scenes(generator, prompts, scenes, checkers, 5, {"steps": 2}, counts.append, origin)
    assert counts == [16, 18] and report.seed == 5
    sets = report.results["templates"]
    assert sets[TRUE].score().value >= 0.8 and sets[GENERATED].score().value >= 0.8
    assert sets[DECODED].right == sets[TRUE].right
    assert sets[GENERATED].by_chance() < 0.1
    assert report.settings["sampling"]["steps"] == 2 and set(report.sheets) == {GENERATED, TRUE, DECODED}
    assert report.notes[0] == origin and any("probe" in note for note in report.notes)
    assert "GenEval-style" in " ".join(report.notes)
    json.dumps(report.as_json())


def test_a_generator_that_knows_nothing_scores_nothing(few: None, scenes: Scenes, tmp_path: Path) -> None:
    generator = tiny_generator.text_to_image(tmp_path)
    checkers = build_checkers(scenes, generator.latent_space)
    prompts = choose_prompts(scenes, 1, 2, None)[0]
    report = evaluate_scenes(generator, prompts, scenes, checkers, sampling={"steps": 1})
    assert report.results["templates"][GENERATED].score().value <= 0.2 and report.agreement() is None
    assert not any("probe" in note for note in report.notes)


def test_chance_is_the_other_prompts_of_the_task() -> None:
    def asked(kind: str, task: str = "single_object") -> ScenePrompt:
        return ScenePrompt(task, kind, ({"class": kind, "count": 1},))

    def thing(kind: str) -> Found:
        return Found(kind, "red", (0, 0, 1, 1), 1.0)

    prompts = [asked("dog"), asked("cat"), asked("dog"), asked("cow", "counting")]
    found = [[thing("dog")], [thing("dog")], [thing("cat")], [thing("cow")]]
    judged = judge(prompts, found)
    assert judged.right == [True, False, False, True]
    # Of picture and other prompt: dog-cat no, dog-dog and again yes, cat-cat yes.
    assert judged.chance == {"single_object": 3 / 4, "counting": None}


def test_prompts_by_task_and_by_file(shapes: Path, scenes: Scenes, tmp_path: Path) -> None:
    prompts, origin = choose_prompts(scenes, 2, 0, None)
    assert [prompt.task for prompt in prompts] == [task for task in TASKS for _ in range(2)]
    assert "leaves out" in origin
    file = tmp_path / "prompts.jsonl"
    lines = [
        {"tag": "single_object", "include": [{"class": kind, "count": 1}], "prompt": kind}
        for kind in ("dog", "bus", "cow", "oven")
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    everything = open_scenes(shapes, 48, with_held_out=True)
    assert tiny_sprites.HELD_OUT in everything.sprites[tiny_sprites.STYLE]
    chosen, origin = choose_prompts(everything, 9, 0, file)
    assert {prompt.text for prompt in chosen} == {"dog", "bus", "cow"} and "3 of those 3 of 4 in" in origin
    assert len(choose_prompts(everything, 2, 0, file)[0]) == 2
    assert {prompt.text for prompt in choose_prompts(scenes, 9, 0, file)[0]} == {"dog", "cow"}
    shipped, origin = choose_prompts(everything, 99, 0, Path("geneval"))
    assert "of 553 in geneval" in origin
    assert "a photo of a dog" in {prompt.text for prompt in shipped}


def test_what_is_wrong_is_named(scenes: Scenes, tmp_path: Path) -> None:
    none = tmp_path / "none.jsonl"
    none.write_text('{"tag": "single_object", "include": [{"class": "oven", "count": 1}], "prompt": "an oven"}')
    for call, sentence in (
        ((0, 0, None), "num_per_task: 0"),
        ((1, -1, None), "seed: -1 is out of range"),
        ((1, 0, none), "show none of its 1 prompts"),
    ):
        with pytest.raises(UserError, match=sentence):
            choose_prompts(scenes, *call)
    labelled: Any = tiny_generator.class_to_image(tmp_path)
    with pytest.raises(UserError, match="takes class labels, and scenes are asked for in words"):
        evaluate_scenes(labelled, [], scenes, [])


def test_pictures_go_through_the_latent_space(tmp_path: Path) -> None:
    space = tiny_generator.latent_space(tmp_path / "autoencoder")
    pictures = [np.full((48, 48, 3), value, np.uint8) for value in range(20)]
    found = decoded(pictures, space)
    assert len(found) == 20 and found[0].shape == (48, 48, 3) and found[0].dtype == np.uint8
    assert space.output_size == 16
    with torch.no_grad():
        small = space.decode(space.encode(torch.full((1, 3, 48, 48), 7 / 255))).clamp(0, 1)
    assert abs(found[7].mean() - 255 * float(small.mean())) < 2
