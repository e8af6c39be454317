"""``raekit evaluate scenes SHARDS``: how well a generator composes, beside what the checkers can tell.

In: a text generator and emoji shards. Out: a table for each checker on standard output; on request a directory with
``report.json``, ``report.html`` and sheets of pictures with their verdicts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from raekit.cli.options import options_of
from raekit.cli.processes import check_out, shared
from raekit.cli.report import progress_bar, show_report
from raekit.config import Config
from raekit.samplers.settings import Sampling

DATA_HELP = "Emoji shards, as `raekit prepare data emoji` makes them."
PROMPTS_HELP = (
    "geneval: the prompts of GenEval, which ship; or a file in the format of its evaluation_metadata.jsonl. Those that "
    "the drawings can show are asked for."
)


class Asking(Config):
    """What is asked for, and who looks at the answers."""

    num_per_task: int = 20
    """Prompts of each of the six tasks."""
    seed: int = 0
    """Of the prompts and of the first picture; the next have seed+1, ..."""
    encoder: str = "nano"
    """Encoder of the learned checker, NAME or NAME=DIR, or none to do without it."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""


@options_of(Asking, False)
@options_of(Sampling, guidance="--guidance-kind", guidance_scale=("--guidance-scale", "--guidance"))
@shared
def scenes(
    data: Annotated[Path, typer.Argument(help=DATA_HELP)],
    model: Annotated[
        str | None, typer.Option(help="A text generator's directory or hub id.", show_default="bundled nano model")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help=PROMPTS_HELP, show_default="pairs that training leaves out")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Directory for report.json, report.html and sheets.")] = None,
    **options: Any,
) -> None:
    """How well a text generator composes: right things, counts, places and colours, beside the checkers' own scores."""
    from raekit.evaluate.scene_report import COLUMNS
    from raekit.evaluate.scenes import build_checkers, choose_prompts, evaluate_scenes, open_scenes
    from raekit.generate import load_generator
    from raekit.metrics.scene_probe import build_encoder

    if out is not None:
        check_out(out)
    given = {name: value for name, value in options.items() if value is not None}
    asking = Asking(**{name: given[name] for name in given if name in Asking.model_fields})
    sampling = {name: given[name] for name in given if name in Sampling.model_fields}
    generator = load_generator(model, asking.device)
    generator.sampling(**sampling)  # a wrong setting is told before the work
    encoder = None if asking.encoder == "none" else build_encoder(asking.encoder, generator.device)
    drawings = open_scenes(data, generator.latent_space.output_size, with_held_out=prompts is not None)
    chosen, origin = choose_prompts(drawings, asking.num_per_task, asking.seed, prompts)
    checkers = build_checkers(drawings, generator.latent_space, encoder)
    with progress_bar("drawing", len(chosen)) as progress:
        report = evaluate_scenes(generator, chosen, drawings, checkers, asking.seed, sampling, progress, origin)
    show_report(COLUMNS, report, out)
