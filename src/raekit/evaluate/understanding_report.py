"""What an evaluation of answers found: a table by kind of question, and every answer.

In: answers to the same questions about several sets of pictures. Out: ``report.json``, and ``answers.jsonl`` with a
line for each question. The table has what guessing gives beside what was found: ``chance`` is the share of the other
questions of a kind that have the same answer (what a model gets that knows the answers but cannot see), ``commonest``
the share of the commonest answer (what it gets if it always says that).
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from raekit.data import left_out
from raekit.evaluate.figures import Mean
from raekit.evaluate.page import JSON_FILE, Row, in_json
from raekit.evaluate.scene_report import share
from raekit.files import write_files
from raekit.understand import Score

T = TypeVar("T")

TITLE = "Answers to held-out questions"
TRUE, OTHER, DRAWN = "true pictures", "other pictures", "drawn latents"
"""The sets of pictures: the right ones; those of the next question of the kind; what the model drew from captions."""
ANSWERS_FILE = "answers.jsonl"
ALL = "all questions"

ARTICLES = ("a ", "an ", "the ")


@dataclass(frozen=True)
class Judged:
    """What was said of one set of pictures; None where a question has no picture in it.

    Attributes:
        answers: as they were written.
        right: whether they are exactly right.
        scores: of the true answers.
    """

    answers: list[str | None]
    right: list[bool | None]
    scores: list[Score | None]


@dataclass(frozen=True)
class UnderstandingReport:
    """What was found.

    Attributes:
        settings: model, questions, limits.
        questions: kind, text and true answer of each.
        results: by set of pictures.
        left_out: why each conversation was left out that could not be used.
    """

    settings: dict[str, Any]
    questions: list[tuple[str, str, str]]
    results: dict[str, Judged]
    left_out: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        """In the order of the questions."""
        return list(dict.fromkeys(kind for kind, _, _ in self.questions))

    @property
    def columns(self) -> list[str]:
        """Of the table."""
        names = ["questions", "chance", "commonest"]
        return names + [column for name in self.results for column in (name, "loss")]

    @property
    def notes(self) -> list[str]:
        """Sentences that a reader of the table must know."""
        notes = [
            "exactly right: the same words, but for case, a full stop at the end and an article at the beginning; "
            "loss: cross entropy of the true answer, nats per token",
            "chance: share of the other questions of a kind with the same answer; commonest: share of its commonest "
            f"answer; {OTHER}: the same model shown the picture of the next question of the kind",
        ]
        if DRAWN in self.results:
            notes.append(
                f"{DRAWN}: drawn from the picture's caption, not decoded; a wrong answer may be true of a wrong drawing"
            )
        if self.left_out:
            notes.append(left_out.sentence("conversations", self.left_out))
        return notes

    def exact(self, name: str, kind: str | None = None) -> Mean | None:
        """Share of a set's answers that are exactly right, of a kind or of all; None of none."""
        right = self._known(self.results[name].right, kind)
        return share(right) if right else None

    def loss(self, name: str, kind: str | None = None) -> float | None:
        """Nats per token of the true answers, all tokens of a kind counting alike; None of none."""
        scores = self._known(self.results[name].scores, kind)
        if not scores:
            return None
        return -sum(score.log_probability for score in scores) / sum(score.num_tokens for score in scores)

    def chance(self, kind: str | None = None) -> float | None:
        """What a model gets that answers as another question of the kind is answered; None without another."""
        shares = self._known(self._chances(), kind)
        return sum(shares) / len(shares) if shares else None

    def commonest(self, kind: str | None = None) -> float:
        """What a model gets that always gives the commonest answer of a kind."""
        counts = {
            one: Counter(normalised(answer) for each, _, answer in self.questions if each == one) for one in self.kinds
        }
        chosen = self.kinds if kind is None else [kind]
        return sum(max(counts[one].values()) for one in chosen) / sum(counts[one].total() for one in chosen)

    def table(self) -> list[tuple[str, list[Row]]]:
        """A row for each kind, and one for all."""
        return [(TITLE, [self._row(kind) for kind in (*self.kinds, None)])]

    def as_json(self) -> dict[str, Any]:
        """Everything but the single answers."""
        found = {}
        for kind in (*self.kinds, None):
            sets = {
                name: {"exact": None if (mean := self.exact(name, kind)) is None else asdict(mean),
                       "loss": self.loss(name, kind)}
                for name in self.results
            }  # fmt: skip
            found[kind or ALL] = {
                "questions": sum(self._of(kind)),
                "chance": self.chance(kind),
                "commonest": self.commonest(kind),
                **sets,
            }
        content = {"title": TITLE, "settings": self.settings, "notes": self.notes, "kinds": found}
        return {**content, "left_out": self.left_out}

    def save(self, directory: Path) -> list[Path]:
        """Write both files; returns their paths.

        Raises:
            UserError: the disk is full or the place is not writable.
        """
        lines = []
        for place, (kind, question, answer) in enumerate(self.questions):
            line: dict[str, Any] = {"kind": kind, "question": question, "answer": answer}
            for name, judged in self.results.items():
                score = judged.scores[place]
                line[name] = {
                    "said": judged.answers[place],
                    "right": judged.right[place],
                    "log_probability": None if score is None else score.log_probability,
                }
            lines.append(json.dumps(line, ensure_ascii=False))
        answers = "\n".join(lines) + "\n"
        return write_files(directory, {JSON_FILE: in_json(self.as_json()), ANSWERS_FILE: answers.encode()})

    def _row(self, kind: str | None) -> Row:
        chance = self.chance(kind)
        cells = [str(sum(self._of(kind))), "-" if chance is None else f"{chance:.3f}", f"{self.commonest(kind):.3f}"]
        for name in self.results:
            mean, loss = self.exact(name, kind), self.loss(name, kind)
            cells.append("-" if mean is None else f"{mean.value:.3f} ± {mean.standard_error:.3f}")
            cells.append("-" if loss is None else f"{loss:.3f}")
        return (ALL if kind is None else kind), cells

    def _known(self, values: Sequence[T | None], kind: str | None) -> list[T]:
        """Those of the questions of a kind that have one."""
        return [value for value, is_asked in zip(values, self._of(kind), strict=True) if is_asked and value is not None]

    def _of(self, kind: str | None) -> list[bool]:
        """Which questions are of a kind."""
        return [kind is None or each == kind for each, _, _ in self.questions]

    def _chances(self) -> list[float | None]:
        """Of each question, the share of the others of its kind that have its answer."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for kind, _, answer in self.questions:
            counts[kind][normalised(answer)] += 1
        return [
            None if (total := counts[kind].total()) < 2 else (counts[kind][normalised(answer)] - 1) / (total - 1)
            for kind, _, answer in self.questions
        ]


def is_exact(answer: str, truth: str | Sequence[str]) -> bool:
    """Whether an answer is the true one, or one of several."""
    truths = [truth] if isinstance(truth, str) else truth
    return normalised(answer) in {normalised(one) for one in truths}


def normalised(answer: str) -> str:
    """An answer without what does not matter: case, blanks, the full stop at the end, the article at the beginning."""
    text = re.sub(r"\s+", " ", answer).strip().lower().rstrip(".").rstrip()
    article = next((one for one in ARTICLES if text.startswith(one)), "")
    return text.removeprefix(article)
