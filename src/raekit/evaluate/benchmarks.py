"""Predictions for the six benchmarks of Scale-RAE's tables, in the files that their own tools and servers read.

In: rows of a benchmark as its data set on the Hugging Face hub has them: a file of JSON lines with paths of pictures,
or ``datasets.load_dataset(...)`` itself. Out: one prediction file, or a folder of them. **Nothing is scored here, and
none of the benchmarks can be run without its data**, which is its makers' to give; what raekit knows is the form of the
questions and of the answers:

    mme       a text file a category, ``picture <tab> question <tab> truth <tab> answer``, the input of MME's eval_tool
    textvqa   a JSON list of ``{question_id, answer}``, the submission to EvalAI
    ai2d      JSON lines ``{question_id, prompt, answer, gt_answer, ...}``; AI2D has no form of its own, this is that of
              Cambrian-1's evaluation
    seed      JSON lines ``{question_id, prediction}``, the submission to the SEED-Bench leaderboard
    mmmu      ``SUBJECT/output.json`` for main_parse_and_eval.py, and ``answers.json``, ``{id: answer}``, the form of
              main_eval_only.py and of submissions
    mmmu_pro  ``MODEL_{standard,vision}_direct.jsonl``, each row without its pictures and with a ``response``

Questions are worded as LLaVA-1.5 words them; answers are the model's own words, but for seed and answers.json, which
want the letter of a choice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from raekit.data import left_out
from raekit.data.json_lines import lines_of
from raekit.data.records import record_in
from raekit.data.sample import BadSample
from raekit.errors import UserError
from raekit.evaluate.benchmark_forms import BENCHMARKS, Asked, Benchmark, Predicted, Row, is_picture
from raekit.files import write_files
from raekit.understand import BATCH_SIZE, Progress, Question, Understander

_log = logging.getLogger(__name__)

NOT_SCORED = "these are answers, not scores: the benchmark's own tool or server makes scores of them"


def predict(
    understander: Understander,
    name: str,
    rows: Iterable[Row],
    max_tokens: int = 32,
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
) -> list[Predicted]:
    """Ask all questions of a benchmark, greedily, as the published evaluations do.

    A row that is too long for the model, or has too many pictures, gets an empty answer, and the log counts and names
    such rows.

    Args:
        understander: who is asked.
        name: of the benchmark, a key of :data:`BENCHMARKS`.
        rows: of its data set.
        max_tokens: longest answer.
        batch_size: questions at once; changes memory and speed only.
        progress: see :data:`~raekit.understand.Progress`.

    Raises:
        UserError: another benchmark, no rows, a row without a field, no row that can be asked, or as
            :meth:`~raekit.understand.Understander.ask`.
    """
    benchmark = benchmark_of(name)
    asked: list[tuple[Row, Asked]] = []
    for place, row in enumerate(rows):
        if missing := [field for field in benchmark.fields if row.get(field) is None]:
            raise UserError(f"{name}, row {place}: has no {', '.join(missing)}; give rows as {benchmark.data} has them")
        asked.append((row, benchmark.ask(row)))
    if not asked:
        raise UserError(f"{name}: no rows; give those of {benchmark.data}")
    questions = [Question.of(one.text, one.pictures) for _, one in asked]
    refusals = [understander.refusal(question, max_tokens) for question in questions]
    if reasons := [f"row {place}: {reason}" for place, reason in enumerate(refusals) if reason is not None]:
        told = left_out.sentence("rows", reasons)
        if len(reasons) == len(questions):
            raise UserError(f"{name}: none can be asked; {told}")
        _log.warning("%s: answered with nothing: %s", name, told)
    places = [place for place, reason in enumerate(refusals) if reason is None]
    answers = [""] * len(questions)
    given = understander.ask([questions[place] for place in places], batch_size, progress, max_tokens=max_tokens)
    for place, answer in zip(places, given, strict=True):
        answers[place] = answer
    return [
        Predicted(row, place, one, answer)
        for place, ((row, one), answer) in enumerate(zip(asked, answers, strict=True))
    ]


def write(name: str, predicted: Sequence[Predicted], directory: Path, model: str = "raekit") -> list[Path]:
    """Write a benchmark's prediction files; returns their paths.

    Args:
        name: of the benchmark.
        predicted: what :func:`predict` gave.
        directory: for the files.
        model: name of the model, where files are named after it.

    Raises:
        UserError: rows that the benchmark's tool cannot score, or the place is not writable.
    """
    contents = benchmark_of(name).files(predicted, model)
    return write_files(directory, {file: content.encode() for file, content in contents.items()})


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file of JSON lines, the paths of their pictures made whole: they are relative to the file.

    Raises:
        UserError: no such file, or a line that is no object.
    """
    rows = []
    try:
        for number, _, line in lines_of(path):
            row = record_in(line, f"rows {str(path)!r}, line {number}")
            rows.append({key: _placed(value, path.parent) if is_picture(key) else value for key, value in row.items()})
    except OSError as error:
        raise UserError(
            f"rows {str(path)!r}: cannot be read ({error}); give a file with one JSON object a line"
        ) from None
    except BadSample as error:
        raise UserError(f"{error}; mend it: one row a line") from None
    return rows


def benchmark_of(name: str) -> Benchmark:
    """A benchmark by name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in BENCHMARKS:
        raise UserError(f"benchmark: unknown name {name!r}; known are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def _placed(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_placed(one, folder) for one in value]
    return folder / value if isinstance(value, str) else value
