"""The adapter against stand-ins for lmms-eval's base, request and registry, as its model guide describes them."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from raekit.errors import UserError
from raekit.interop import lmms_eval
from raekit.interop.lmms_eval import Adapter, cut, question_of
from raekit.multimodal.chat import Turn
from raekit.understand import Score, Understander

DOCS = [{"image": f"{number}.png", "question": f"what is {number}?"} for number in range(5)]


class Scripted:
    """Answers with the question's own words, and remembers how it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], dict[str, Any]]] = []
        queries = SimpleNamespace(device=torch.device("cpu"))
        self.model = SimpleNamespace(conditioner=SimpleNamespace(queries=queries))

    def ask(self, questions: list[Any], batch_size: int, **options: Any) -> list[str]:
        texts = [question.turns[-1].text for question in questions]
        self.calls.append((texts, {"batch_size": batch_size, **options}))
        return [
            f"I see {text.split()[-1]} in {question.pictures[0]}"
            for text, question in zip(texts, questions, strict=True)
        ]

    def score(self, questions: list[Any], answers: list[str], batch_size: int, is_ended: bool) -> list[Score]:
        assert not is_ended
        return [Score(-float(len(answer)), 1, answer == "yes") for answer in answers]


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Adapter:
    monkeypatch.setattr(Understander, "load", classmethod(lambda cls, *args, **kwargs: Scripted()))
    built = Adapter("somewhere", "cpu", batch_size="2")
    built.task_dict = {"task": {"test": DOCS}}
    return built


def messages(doc: dict[str, str]) -> list[dict[str, Any]]:
    content = [{"type": "image", "url": doc["image"]}, {"type": "text", "text": doc["question"]}]
    return [{"role": "user", "content": content}]


def request(row: int, has_context: bool, **settings: Any) -> SimpleNamespace:
    """As the guide has it, and, with the context before it, as the release 0.7.3 sends it."""
    args = (messages, settings, row, "task", "test")
    return SimpleNamespace(args=("context", *args) if has_context else args)


@pytest.mark.parametrize("has_context", [False, True])
def test_answers_come_in_the_order_of_the_requests(adapter: Adapter, has_context: bool) -> None:
    ways = [{"max_new_tokens": 8}, {"max_new_tokens": 4, "temperature": 0.5, "until": ["in"]}]
    requests = [request(row, has_context, **ways[row % 2]) for row in range(5)]
    assert adapter.generate_until(requests) == [
        "I see 0? in 0.png",
        "I see 1?",
        "I see 2? in 2.png",
        "I see 3?",
        "I see 4? in 4.png",
    ]
    greedy, drawn = adapter.understander.calls
    assert greedy[0] == [f"<image>\nwhat is {row}?" for row in (0, 2, 4)]
    assert greedy[1] == {"batch_size": 2, "seed": 0, "max_tokens": 8, "temperature": 0.0, "top_p": 1.0}
    assert drawn[1] == {"batch_size": 2, "seed": 1, "max_tokens": 4, "temperature": 0.5, "top_p": 1.0}


def test_settings_of_tasks(adapter: Adapter) -> None:
    assert adapter._way({}) == (128, 0.0, 1.0)
    assert adapter._way({"temperature": 1.0, "do_sample": False, "top_p": 0.3}) == (128, 0.0, 1.0)
    assert adapter._way({"temperature": 1.0, "top_p": 0.3}) == (128, 1.0, 0.3)
    assert adapter._way({"temperature": 0, "top_p": None, "num_beams": 1}) == (128, 0.0, 1.0)
    adapter.max_new_tokens = 6
    assert adapter._way({"max_new_tokens": 1024}).max_tokens == 6
    with pytest.raises(UserError, match="num_beams: 4; answers are written without beams"):
        adapter._way({"num_beams": 4})


def test_log_probabilities(adapter: Adapter) -> None:
    def pictures(doc: dict[str, str]) -> list[str]:
        return [doc["image"]]

    requests = [
        SimpleNamespace(args=("<image> is it?", " yes", pictures, 0, "task", "test")),
        SimpleNamespace(args=("is it?", lambda doc: doc["image"], pictures, 1, "task", "test")),
    ]
    assert adapter.loglikelihood(requests) == [(-3.0, True), (-5.0, False)]


def test_messages_become_turns() -> None:
    question = question_of(
        [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "first: <image>"},
                    {"type": "image", "url": "a"},
                    {"type": "text", "text": "second:"},
                    {"type": "image", "url": "b"},
                ],
            },
        ]
    )
    assert question.turns == (Turn("system", "Be brief."), Turn("user", "first:\n<image>\nsecond:\n<image>"))
    assert question.pictures == ("a", "b")
    for role, kind in (("user", "video"), ("assistant", "image")):
        with pytest.raises(UserError, match=f"lmms-eval: {kind} of the {role} cannot be shown"):
            question_of([{"role": role, "content": [{"type": kind, "url": "a"}]}])


def test_answers_end_where_the_task_says() -> None:
    assert cut("yes\n\nno", ["\n\n", "z"]) == "yes"
    assert cut("yes", None) == cut("yes", "") == cut("yes", "no") == "yes"


def test_what_is_refused(adapter: Adapter) -> None:
    with pytest.raises(UserError, match="several rounds"):
        adapter.generate_until_multi_round([])
    with pytest.raises(UserError, match="batch_size: 'auto'"):
        Adapter(batch_size="auto")
    assert adapter.device == torch.device("cpu")


def test_without_lmms_eval_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmms_eval", None)
    for call in (lmms_eval.manifest, lambda: lmms_eval.Raekit):
        with pytest.raises(UserError, match=r"pip install 'raekit\[lmms-eval\]'"):
            call()
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        lmms_eval.other  # noqa: B018


def test_with_its_base_it_is_one_of_its_models(adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    class Base:
        is_simple = True

        def __init__(self) -> None:
            self.task_dict, self._rank = {}, 0

    for name, content in {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.model": {"lmms": Base},
        "lmms_eval.models": {},
        "lmms_eval.models.registry_v2": {"ModelManifest": lambda **fields: fields},
    }.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    manifest = lmms_eval.manifest()
    assert manifest == {"model_id": "raekit", "chat_class_path": "raekit.interop.lmms_eval.Raekit"}
    module_name, class_name = manifest["chat_class_path"].rsplit(".", 1)
    cls = getattr(sys.modules[module_name], class_name)
    built = cls(pretrained="somewhere", batch_size=1, max_batch_size=None, device="cpu")
    assert isinstance(built, Base) and isinstance(built, Adapter) and not cls.is_simple
    assert (built.task_dict, built._rank) == ({}, 0)
