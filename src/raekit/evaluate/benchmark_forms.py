"""The six benchmarks' forms: how a row is asked, and what a file of answers looks like.

In: a row of a benchmark, or rows with their answers. Out: a question in words with its pictures, or the contents of the
files that the benchmark's own tool reads (:mod:`raekit.evaluate.benchmarks` says which). Nothing here knows a model.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from string import ascii_uppercase
from typing import Any, NamedTuple

from raekit.errors import UserError
from raekit.multimodal.chat import IMAGE

LETTER = "Answer with the option's letter from the given choices directly."
SHORT = "Answer the question using a single word or phrase."
IN_THE_PICTURE = "Answer the question in the image with the option's letter directly."

Row = Mapping[str, Any]


class Asked(NamedTuple):
    """A row as a question.

    Attributes:
        text: what is asked; ``<image>`` where a picture belongs, if the row says so.
        pictures: files or PIL images.
        choices: what the letters stand for; empty for an open question.
    """

    text: str
    pictures: tuple[Any, ...]
    choices: tuple[str, ...] = ()


class Predicted(NamedTuple):
    """A row, its place, how it was asked and what was answered."""

    row: Row
    place: int
    asked: Asked
    answer: str

    @property
    def letter(self) -> str:
        """The choice, or the answer as it is where it names none."""
        return letter_of(self.answer, self.asked.choices) or self.answer


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        fields: that every row must have.
        ask: a row as a question.
        files: predictions as contents of files, by name; takes the model's name too.
        data: where its data are, in words.
    """

    fields: tuple[str, ...]
    ask: Callable[[Row], Asked]
    files: Callable[[Sequence[Predicted], str], dict[str, str]]
    data: str


def is_picture(field: str) -> bool:
    """Whether a field of a row holds a picture: ``image``, ``images``, ``image_1`` ... ``image_7``."""
    return re.fullmatch(r"images?|image_\d+", field) is not None


def letter_of(answer: str, choices: Sequence[str]) -> str | None:
    """The choice that an answer names: ``B``, ``(b)``, ``B. a dog``, ``The answer is B.``, ``a dog``; None if none.

    The official tools of MMMU draw a choice at random where this is None; nothing is drawn here.
    """
    letters = ascii_uppercase[: len(choices)]
    if not letters:
        return None
    text = answer.strip()
    if found := re.match(rf"\(?([{letters}{letters.lower()}])(?:[).:,]|$)", text):
        return found[1].upper()
    same = [letter for letter, choice in zip(letters, choices, strict=True) if _plain(choice) == _plain(text)]
    if len(same) == 1:
        return same[0]
    # Alone and in capitals, but no word: "A dog", "I think".
    rest = re.sub(r"\b[AI] (?!or\b|and\b)(?=[a-z])", "", text)
    named = set(re.findall(rf"(?<![\w'])([{letters}])(?![\w'])", rest))
    return named.pop() if len(named) == 1 else None


def _plain(text: str) -> str:
    return text.strip().rstrip(".").lower()


def _with_choices(question: str, choices: Sequence[str]) -> str:
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False))
    return f"{question}\n{listed}\n{LETTER}"


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _options(row: Row) -> tuple[str, ...]:
    """Choices, which MMMU's data set holds as the text of a Python list.

    Raises:
        UserError: neither a list nor the text of one.
    """
    options = row["options"]
    if isinstance(options, str):
        try:
            options = ast.literal_eval(options)
        except (ValueError, SyntaxError):
            options = None
    if not isinstance(options, list | tuple):
        raise UserError(f"row {row.get('id')!r}: its options are no list ({row['options']!r}); give them as published")
    return tuple(str(option) for option in options)


def _ask_mme(row: Row) -> Asked:
    return Asked(str(row["question"]).strip(), _several(row["image"]))


def _ask_textvqa(row: Row) -> Asked:
    return Asked(f"{row['question']}\n{SHORT}", _several(row["image"]))


def _ask_ai2d(row: Row) -> Asked:
    options = _options(row)
    return Asked(_with_choices(row["question"], options), _several(row["image"]), options)


def _ask_seed(row: Row) -> Asked:
    choices = tuple(str(row[f"choice_{letter}"]) for letter in "abcd")
    return Asked(_with_choices(row["question"], choices), _several(row["image"]), choices)


def _ask_mmmu(row: Row) -> Asked:
    """Pictures stand where ``<image 1>`` does, in question and choices, as often as it does."""
    options = _options(row)
    if "question" not in row:  # the vision rows of MMMU-Pro: question and choices are in the picture
        return Asked(IN_THE_PICTURE, _several(row["image"]), options)
    text = _with_choices(row["question"], options) if options else f"{row['question']}\n{SHORT}"
    numbers = re.findall(r"<image (\d+)>", text)
    fields = [f"image_{number}" for number in numbers]
    if missing := [field for field in fields if row.get(field) is None]:
        raise UserError(f"row {row.get('id')!r}: mentions {missing[0]}, which it lacks; give rows as published")
    return Asked(re.sub(r"<image \d+>", IMAGE, text), tuple(row[field] for field in fields), options)


def _mme_files(predicted: Sequence[Predicted], model: str) -> dict[str, str]:
    """Two lines a picture, one after the other, as MME's tool counts them."""
    del model
    categories: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in predicted:
        picture = str(one.row["question_id"])
        cells = (PurePosixPath(picture).name, one.row["question"], one.row["answer"], one.answer)
        line = "\t".join(" ".join(str(cell).split()) for cell in cells)
        categories[str(one.row["category"])][picture].append(line)
    for category, pictures in categories.items():
        for picture, lines in pictures.items():
            if len(lines) != 2:
                raise UserError(
                    f"mme, {category}: {len(lines)} questions about {picture!r}, and MME's tool counts in twos; give "
                    "all rows of a category"
                )
    return {f"{category}.txt": _joined(sum(pictures.values(), [])) for category, pictures in categories.items()}


def _textvqa_files(predicted: Sequence[Predicted], model: str) -> dict[str, str]:
    del model
    listed = [{"question_id": one.row["question_id"], "answer": one.answer} for one in predicted]
    return {"textvqa.json": json.dumps(listed, ensure_ascii=False) + "\n"}


def _ai2d_files(predicted: Sequence[Predicted], model: str) -> dict[str, str]:
    lines = [
        {
            "question_id": one.row.get("question_id", one.place),
            "prompt": one.asked.text,
            "answer": one.answer,
            "gt_answer": str(one.row["answer"]),
            "model_id": model,
        }
        for one in predicted
    ]
    return {"ai2d.jsonl": _json_lines(lines)}


def _seed_files(predicted: Sequence[Predicted], model: str) -> dict[str, str]:
    del model
    return {
        "seed.jsonl": _json_lines(
            {"question_id": one.row["question_id"], "prediction": one.letter} for one in predicted
        )
    }


def _mmmu_files(predicted: Sequence[Predicted], model: str) -> dict[str, str]:
    del model
    subjects: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in predicted:
        found = re.fullmatch(r"[^_]+_(.+)_\d+", str(one.row["id"]))
        if found is None:
            raise UserError(f"mmmu: the id {one.row['id']!r} names no subject; ids are as in validation_Accounting_1")
        entry = {"id": one.row["id"], "question_type": one.row["question_type"], "answer": one.row.get("answer", "?")}
        if one.asked.choices:
            letters = list(ascii_uppercase[: len(one.asked.choices)])
            entry |= {"all_choices": letters, "index2ans": dict(zip(letters, one.asked.choices, strict=True))}
        subjects[found[1]].append({**entry, "response": one.answer})
    files = {f"{subject}/output.json": json.dumps(entries, indent=1) + "\n" for subject, entries in subjects.items()}
    answers = {str(one.row["id"]): one.letter for one in predicted}
    return {**files, "answers.json": json.dumps(answers, indent=1) + "\n"}


def _mmmu_pro_files(predicted: Sequence[Predicted], model: str) -> dict[str, str]:
    settings = {"standard" if "question" in one.row else "vision" for one in predicted}
    if len(settings) > 1:
        raise UserError("mmmu_pro: standard and vision rows in one file; give each setting by itself")
    lines = [
        {**{key: value for key, value in one.row.items() if not is_picture(key)}, "response": one.answer}
        for one in predicted
    ]
    return {f"{model}_{settings.pop()}_direct.jsonl": _json_lines(lines)}


def _json_lines(values: Iterable[Mapping[str, Any]]) -> str:
    return _joined(json.dumps(value, ensure_ascii=False) for value in values)


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


BENCHMARKS: dict[str, Benchmark] = {
    "mme": Benchmark(
        ("question_id", "question", "answer", "category", "image"), _ask_mme, _mme_files, "the set lmms-lab/MME"
    ),
    "textvqa": Benchmark(
        ("question_id", "question", "image"), _ask_textvqa, _textvqa_files, "the set lmms-lab/textvqa"
    ),
    "ai2d": Benchmark(("question", "options", "answer", "image"), _ask_ai2d, _ai2d_files, "the set lmms-lab/ai2d"),
    "seed": Benchmark(
        ("question_id", "question", "choice_a", "choice_b", "choice_c", "choice_d", "image"),
        _ask_seed,
        _seed_files,
        "the set lmms-lab/SEED-Bench",
    ),
    "mmmu": Benchmark(("id", "question", "options", "question_type"), _ask_mmmu, _mmmu_files, "the set MMMU/MMMU"),
    "mmmu_pro": Benchmark(("id", "options", "answer"), _ask_mmmu, _mmmu_pro_files, "the set MMMU/MMMU_Pro"),
}
"""The benchmarks, by name."""
