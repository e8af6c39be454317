"""``raekit evaluate understanding DATA`` and ``evaluate benchmark NAME ROWS``: what a unified model answers.

In: questions, and a unified model. Out of the first: a table by kind of question on standard output, and on request a
directory with ``report.json`` and ``answers.jsonl``. Out of the second: prediction files for a benchmark's own tool,
their paths on standard output; no scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from raekit.cli.options import options_of
from raekit.cli.processes import check_alone, check_out, shared
from raekit.cli.report import progress_bar, show_report
from raekit.config import Config, validate

QUESTIONS_HELP = "A recipe of stage unified (its held-out conversations), LLaVA-style .jsonl, emoji or scene shards."
ROWS_HELP = (
    "Rows of the benchmark as JSON lines, paths of pictures relative to the file; the data are not part of raekit."
)
NAME_HELP = "mme, textvqa, ai2d, seed, mmmu or mmmu_pro."
MODEL_HELP = "A unified model: directory or hub id."


class Drawing(Config):
    """Who draws what is asked about besides true pictures."""

    drawn: bool = False
    """Also ask about latents that the model draws from the pictures' captions."""
    drawn_by: str | None = None
    """Another generator of the same latent space that draws them: directory or hub id."""


class Asking(Config):
    """How questions are asked."""

    max_tokens: int = 32
    """Longest answer, in tokens."""
    max_pictures: int = 8
    """Most pictures in one question."""
    batch_size: int = 16
    """Questions at once; changes memory and speed only."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""


@options_of(Drawing, False)
@options_of(Asking, False)
@shared
def understanding(
    data: Annotated[str, typer.Argument(help=QUESTIONS_HELP)],
    model: Annotated[str | None, typer.Option(help=MODEL_HELP, show_default="models/nano/unified, which ships")] = None,
    num: Annotated[int, typer.Option(help="Most conversations of each source.")] = 100,
    split: Annotated[str | None, typer.Option(help="Split of shards, e.g. test_pair.")] = None,
    seed: Annotated[int, typer.Option(help="Of questions that are made, and of the first drawn picture.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Directory for report.json and answers.jsonl.")] = None,
    **options: Any,
) -> None:
    """Exactly right answers and loss by kind of question, beside chance."""
    from raekit.evaluate.understanding import evaluate_understanding, find_questions, open_items
    from raekit.understand import Understander, load_unified

    if out is not None:
        check_out(out)
    find_questions(data)  # before a model is loaded for nothing
    asking = _asking(options)
    generator = load_unified(model, asking.device)
    understander = Understander.of(generator, asking.max_pictures)
    is_drawn, other = options["drawn"], options["drawn_by"]
    drawer = generator.neighbour(other) if other else generator if is_drawn else None
    asked = open_items(data, understander, num, seed, split)
    with progress_bar("asking", len(asked.items) * (2 if drawer is None else 3)) as progress:
        report = evaluate_understanding(
            understander, asked, drawer, seed, asking.max_tokens, asking.batch_size, progress
        )
    show_report(report.columns, report, out)


@options_of(Asking, False)
def benchmark(
    name: Annotated[str, typer.Argument(help=NAME_HELP)],
    rows: Annotated[Path, typer.Argument(help=ROWS_HELP)],
    out: Annotated[Path, typer.Option(help="Directory for the prediction files.")],
    model: Annotated[str | None, typer.Option(help=MODEL_HELP, show_default="models/nano/unified, which ships")] = None,
    called: Annotated[str, typer.Option(help="Name of the model in the files.")] = "raekit",
    **options: Any,
) -> None:
    """Prediction files of MME, TextVQA, AI2D, SEED, MMMU or MMMU-Pro, to be scored by their own tools."""
    from raekit.evaluate import benchmarks
    from raekit.files import make_writable
    from raekit.understand import Understander

    check_alone("evaluate benchmark")
    benchmarks.benchmark_of(name)
    make_writable(out, "--out")
    asking, listed = _asking(options), benchmarks.read_rows(rows)
    understander = Understander.load(model, asking.device, max_pictures=asking.max_pictures)
    with progress_bar(name, len(listed)) as progress:
        predicted = benchmarks.predict(understander, name, listed, asking.max_tokens, asking.batch_size, progress)
    for path in benchmarks.write(name, predicted, out, called):
        typer.echo(path)
    typer.echo(benchmarks.NOT_SCORED, err=True)


def _asking(options: dict[str, Any]) -> Asking:
    """The options that were typed, over the defaults."""
    given = {name: options[name] for name in Asking.model_fields if options[name] is not None}
    settings: Asking = validate(Asking, given, "evaluate")
    return settings
