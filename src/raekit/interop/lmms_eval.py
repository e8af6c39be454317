"""A unified model as lmms-eval asks it, for those who have the benchmarks' data.

In: requests of lmms-eval, which hold functions from a data set's rows to messages. Out: answers, or log probabilities.

    lmms-eval --model raekit --model_args pretrained=DIR,max_pictures=4 --tasks mme --batch_size 8

lmms-eval is the extra ``raekit[lmms-eval]``. It finds the model through the entry point ``lmms_eval.models``, which is
:func:`manifest`; the class is made when it is asked for, of :class:`Adapter` and of lmms-eval's own base. **What was
checked**: the interface as lmms-eval's model guide states it, and as base class, registry and request of its release
0.7.3 have it. The harness itself has not been run with it, for it comes without the data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from raekit.errors import UserError
from raekit.multimodal.chat import IMAGE, Turn
from raekit.understand import MAX_PICTURES, Question, Understander

INSTALL = "install it with `pip install 'raekit[lmms-eval]'`"
NAME = "raekit"
MAX_NEW_TOKENS = 128
"""Longest answer where neither the task nor the user says."""
READ_AHEAD = 4
"""Batches of requests whose pictures are held at once."""


class Way(NamedTuple):
    """How a request wants its answer written."""

    max_tokens: int
    temperature: float
    top_p: float


class Adapter:
    """What lmms-eval calls; a base for the class that is also one of its own models.

    Args:
        pretrained: the model's directory or hub id; None: the bundled one.
        device: ``auto``, ``cpu``, ``cuda`` ...
        batch_size: questions at once.
        max_pictures: in one question, at most.
        max_new_tokens: longest answer, whatever a task asks for.
        precision: as for :func:`raekit.load`.
        seed: of answers that are drawn.
        max_batch_size: lmms-eval hands it to every model; not used.

    Attributes:
        is_simple: False: lmms-eval is to send messages, not texts.
    """

    is_simple = False
    task_dict: dict[str, Any]

    def __init__(
        self,
        pretrained: str | None = None,
        device: str = "auto",
        batch_size: int | str = 1,
        max_pictures: int = MAX_PICTURES,
        max_new_tokens: int | None = None,
        precision: Any = "auto",
        seed: int = 0,
        max_batch_size: Any = None,
    ) -> None:
        super().__init__()
        del max_batch_size
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise UserError(f"batch_size: {batch_size!r} is no number of questions; give a whole number from 1 up")
        self.understander = Understander.load(pretrained, device, precision=precision, max_pictures=int(max_pictures))
        self.batch_size, self.max_new_tokens, self.seed = int(batch_size), max_new_tokens, seed

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.understander.model.conditioner.queries.device
        return device

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """An answer to each request.

        Args:
            requests: whose ``args`` end in: row to messages, settings, place of the row, task, split.

        Raises:
            UserError: a question that cannot be asked (see :meth:`~raekit.understand.Understander.ask`), or beams.
        """
        answers = [""] * len(requests)
        chunk = READ_AHEAD * self.batch_size
        for first in range(0, len(requests), chunk):
            groups: dict[Way, dict[int, Question]] = defaultdict(dict)
            for place, request in enumerate(requests[first : first + chunk], start=first):
                to_messages, settings, row, task, split = request.args[-5:]
                messages = to_messages(self.task_dict[task][split][row])
                groups[self._way(settings)][place] = question_of(messages)
            for way, asked in groups.items():
                said = self.understander.ask(
                    list(asked.values()), self.batch_size, seed=self.seed + min(asked), **way._asdict()
                )
                for place, answer in zip(asked, said, strict=True):
                    answers[place] = cut(answer, requests[place].args[-4].get("until"))
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Log probability of each request's continuation, and whether it is the likeliest.

        The blank that lmms-eval puts before a continuation is left out: here an answer begins a line.

        Args:
            requests: whose ``args`` are: context, continuation (or row to it), row to pictures, place, task, split.

        Raises:
            UserError: a question that cannot be asked.
        """
        found: list[tuple[float, bool]] = []
        chunk = READ_AHEAD * self.batch_size
        for first in range(0, len(requests), chunk):
            questions, answers = [], []
            for request in requests[first : first + chunk]:
                context, target, to_pictures, row, task, split = request.args
                read = self.task_dict[task][split][row]
                questions.append(Question.of(_without_marks(context), list(to_pictures(read) or ())))
                answers.append(str(target(read) if callable(target) else target).strip())
            scores = self.understander.score(questions, answers, self.batch_size, is_ended=False)
            found += [(score.log_probability, score.is_likeliest) for score in scores]
        return found

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refused.

        Raises:
            UserError: always.
        """
        del requests
        raise UserError("lmms-eval: tasks of several rounds are not supported; choose one that asks each question once")

    def _way(self, settings: Mapping[str, Any]) -> Way:
        if int(settings.get("num_beams") or 1) > 1:
            raise UserError(f"num_beams: {settings['num_beams']}; answers are written without beams, give 1")
        temperature = 0.0 if settings.get("do_sample") is False else float(settings.get("temperature") or 0.0)
        top_p = float(settings.get("top_p") or 1.0) if temperature > 0 else 1.0
        return Way(int(self.max_new_tokens or settings.get("max_new_tokens") or MAX_NEW_TOKENS), temperature, top_p)


def question_of(messages: Sequence[Mapping[str, Any]]) -> Question:
    """Messages as a question: texts and pictures of each turn in their order, a line each.

    Args:
        messages: ``{"role": ..., "content": text or [{"type": "text", "text": ...}, {"type": "image", "url": ...}]}``.

    Raises:
        UserError: video, sound, or a picture that the assistant would have shown.
    """
    turns, pictures = [], []
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        lines = []
        for part in parts:
            if part["type"] == "text":
                lines.append(_without_marks(part["text"]))
            elif part["type"] == "image" and message["role"] != "assistant":
                lines.append(IMAGE)
                pictures.append(part["url"])
            else:
                raise UserError(
                    f"lmms-eval: {part['type']} of the {message['role']} cannot be shown to this model; choose a task "
                    "that shows it pictures alone"
                )
        turns.append(Turn(message["role"], "\n".join(line for line in lines if line)))
    return Question(tuple(turns), tuple(pictures))


def cut(answer: str, until: str | Sequence[str] | None) -> str:
    """An answer up to the first of some texts."""
    stops = [until] if isinstance(until, str) else list(until or ())
    ends = [answer.find(stop) for stop in stops if stop and stop in answer]
    return answer[: min(ends)].strip() if ends else answer


def manifest() -> Any:
    """What lmms-eval registers, by its entry point.

    Raises:
        UserError: lmms-eval is not installed.
    """
    try:
        from lmms_eval.models.registry_v2 import ModelManifest
    except ImportError as error:
        raise UserError(f"lmms-eval: not installed, or another release ({error}); {INSTALL}") from None
    return ModelManifest(model_id=NAME, chat_class_path=f"{__name__}.Raekit")


def model_class() -> type[Any]:
    """:class:`Adapter` as a model of lmms-eval.

    Raises:
        UserError: lmms-eval is not installed.
    """
    try:
        from lmms_eval.api.model import lmms
    except ImportError as error:
        raise UserError(f"lmms-eval: not installed, or another release ({error}); {INSTALL}") from None
    return type("Raekit", (Adapter, lmms), {"__doc__": Adapter.__doc__, "__module__": __name__})


def __getattr__(name: str) -> Any:
    if name == "Raekit":
        return model_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _without_marks(text: str) -> str:
    """A task's text without marks of pictures, which have places of their own here."""
    return text.replace(IMAGE, "").strip()
