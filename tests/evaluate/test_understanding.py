"""Questions from recipes, files and shards; figures that a model which knows the truth would get; what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_generator
import tiny_sprites
from raekit import shipped
from raekit.data.conversations.base import Turn
from raekit.errors import UserError
from raekit.evaluate.understanding import (
    Item,
    Items,
    drawn,
    evaluate_understanding,
    find_questions,
    items_of,
    open_items,
    shifted,
)
from raekit.evaluate.understanding_report import DRAWN, OTHER, TRUE
from raekit.generate import TextToImage
from raekit.latent_file import Latent
from raekit.understand import Question, Understander


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    """A unified model that draws as well."""
    return tiny_generator.unified(tmp_path_factory.mktemp("unified"), sampling={"steps": 2})


@pytest.fixture(scope="module")
def understander(generator: TextToImage) -> Understander:
    return Understander.of(generator)


def item(number: int, kind: str = "naming", answer: str = "a", prompt: str = "") -> Item:
    return Item(Question.of("what?", [np.full((4, 4, 3), number, np.uint8)]), answer, kind, prompt)


def shown(items: list[Item | None]) -> list[int | None]:
    """The grey that each question is about."""
    return [None if one is None else int(one.question.pictures[0].max()) for one in items]


def test_questions_about_shards_are_of_every_kind_that_applies(understander: Understander, tmp_path: Path) -> None:
    shard = tiny_sprites.shard(tmp_path / "shapes.tar")
    asked = open_items(str(shard), understander, num=6)
    assert Counter(one.kind for one in asked.items) == {"naming": 6, "presence": 6, "match": 6}
    naming = asked.items[0]
    assert naming.question.turns[-1].text == "<image>\nwhat is this?" and naming.prompt == naming.answer.split()[-1]
    assert open_items(str(shard), understander, num=6).items[7].question.turns == asked.items[7].question.turns
    held_out = open_items(str(shard), understander, num=6, split="test_concept")
    assert {one.answer for one in held_out.items if one.kind == "naming"} == {"a bus"}


def test_the_held_out_domains_of_a_recipe_are_kinds(understander: Understander, tmp_path: Path) -> None:
    shard = tiny_sprites.shard(tmp_path / "shapes.tar")
    source = f"{{name: shards, path: {shard}}}"
    (tmp_path / "a.yaml").write_text(
        f"""stage: unified
held_out:
  image_size: 32
  mixture:
    - {{name: requests, source: {source}}}
    - {{name: questions, domain: names, kinds: [naming], source: {source}}}
"""
    )
    asked = open_items(str(tmp_path / "a.yaml"), understander, num=3)
    # What is asked to be drawn has no answer in words.
    assert [one.kind for one in asked.items] == ["names"] * 3
    assert asked.items[0].question.pictures[0].shape == (3, 32, 32)
    assert asked.items[0].prompt in asked.items[0].answer


def test_a_file_of_conversations(understander: Understander, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    said = [
        {"from": "human", "value": "<image>\nwhat?"},
        {"from": "gpt", "value": "black"},
        {"from": "human", "value": "and?"},
        {"from": "gpt", "value": "square"},
    ]
    lines = [{"image": "a.png", "conversations": said}, {"image": "none.png", "conversations": said}]
    path = tmp_path / "talk.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    asked = open_items(str(path), understander, num=10)
    assert [(one.kind, one.answer) for one in asked.items] == [("talk", "black"), ("talk", "square")]
    assert len(asked.items[1].question.turns) == 3
    assert len(asked.left_out) == 1 and "none.png" in asked.left_out[0]


def test_answers_of_a_conversation_see_what_was_said_before() -> None:
    turns = [Turn("user", "<image> a?"), Turn("assistant", "A "), Turn("user", "<image> b?"), Turn("assistant", "B")]
    first, second = items_of(turns, ["one", "two"], "talk", "it")
    assert first == Item(Question((turns[0],), ("one",)), "A", "talk", "it")
    assert second == Item(Question(tuple(turns[:3]), ("one", "two")), "B", "talk", "it")
    drawing = [Turn("user", "draw"), Turn("assistant", "<image>"), Turn("user", "why?"), Turn("assistant", "so")]
    assert items_of(drawing, ["one"], "talk") == []


def test_pictures_are_shifted_within_a_kind() -> None:
    items = [item(1), item(2, "counting"), item(3), item(4), item(5, "colour")]
    assert shown(shifted([*items, item(6, "counting")])) == [3, 6, 4, 1, None, 2]
    assert shifted([Item(Question.of("say no"), "no", "text")] * 2) == [None, None]


def test_latents_are_drawn_from_captions(generator: TextToImage) -> None:
    found = drawn(generator, [item(1, prompt="sun"), item(2), item(3, prompt="moon")], seed=4, batch_size=2)
    assert found[1] is None
    latents = [one.question.pictures[0] for one in found if one is not None]
    expected = generator.sample(["sun", "moon"], prompt_seeds=[4, 5])
    for latent, each in zip(latents, expected, strict=True):
        assert isinstance(latent, Latent)
        torch.testing.assert_close(latent.tensor, each, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="no question comes with a caption to draw from"):
        drawn(generator, [item(2)], 0, 2)


def test_a_model_that_knows_is_right_and_its_control_is_chance(
    understander: Understander, generator: TextToImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [item(number, answer=str(number % 2), prompt="sun") for number in range(4)]

    def knows(self: Understander, questions: list[Question], *_: Any, **options: Any) -> list[str]:
        assert options == {"max_tokens": 3}
        return [
            "?" if isinstance(one.pictures[0], Latent) else str(int(one.pictures[0].max()) % 2) for one in questions
        ]

    monkeypatch.setattr(Understander, "ask", knows)
    done: list[int] = []
    report = evaluate_understanding(understander, Items(items, "here"), generator, 0, 3, 2, done.append)
    assert [report.exact(name).value for name in (TRUE, OTHER, DRAWN)] == [1.0, 0.0, 0.0]
    assert report.chance() == pytest.approx(1 / 3) and report.commonest() == 0.5
    assert done == [4, 8, 12]
    assert report.settings["model"] == generator.checksum
    # The loss is that of the true answer, whatever was said.
    scores = understander.score([one.question for one in items], [one.answer for one in items])
    total = -sum(score.log_probability for score in scores) / sum(score.num_tokens for score in scores)
    assert report.loss(TRUE) == pytest.approx(total, abs=1e-4)


def test_recipes_that_ship_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_questions("recipes/nano/unified.yaml") == shipped.PACKAGE / "recipes/nano/unified.yaml"


def test_what_is_longer_than_the_model_reads_is_left_out(understander: Understander, tmp_path: Path) -> None:
    limit = understander.model.conditioner.max_length
    lines = [
        {"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": answer}]}
        for text, answer in (("what?", "a"), ("what? " * limit, "a"), ("what?", "a " * limit))
    ]
    path = tmp_path / "talk.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    asked = open_items(str(path), understander, num=10)
    report = evaluate_understanding(understander, asked, max_tokens=2)
    assert len(report.questions) == 1 and len(report.left_out) == 2
    assert report.left_out[0].startswith("000000002: question: ") and "reads" in report.left_out[1]
    with pytest.raises(UserError, match="none of its questions can be asked; the last: 000000003"):
        evaluate_understanding(understander, Items(asked.items[1:], "here"), max_tokens=2)


def test_what_is_refused(understander: Understander, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="num: 0 conversations of each source"):
        open_items("x", understander, num=0)
    with pytest.raises(UserError, match="data 'none': no such recipe, file or folder"):
        open_items("none", understander, num=1)
    (tmp_path / "a.yaml").write_text("stage: stage2\nheld_out: {}\n")
    with pytest.raises(UserError, match="has no held_out conversations; give one of stage unified"):
        open_items(str(tmp_path / "a.yaml"), understander, num=1)
