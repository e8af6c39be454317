"""``raekit understand IMAGE "question"``: a question about pictures, or about latents as they were drawn.

In: picture files, latent files (``raekit generate --output latent``), a question. Out: the answer on standard output.
Several pictures are asked about together, or with ``--each`` one by one, a line for each.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from raekit.cli.options import options_of
from raekit.config import Config, validate
from raekit.errors import UserError
from raekit.multimodal.answering import Answering


class Loading(Config):
    """Which model, and where it runs."""

    model: str | None = None
    """A unified model: directory or hub id (default: models/nano/unified, which ships)."""
    revision: str | None = None
    """Branch, tag or commit of a hub repository."""
    device: str | None = None
    """auto, cpu, cuda, cuda:1, ..."""
    max_pictures: int | None = None
    """Most pictures and latents in one question (default: 8)."""


@options_of(Answering, default=False)
@options_of(Loading, default=False)
def understand(
    words: Annotated[
        list[str], typer.Argument(metavar="[IMAGE]... QUESTION", help="Picture files, then the question about them.")
    ],
    latent: Annotated[
        list[Path] | None, typer.Option(help="A latent to ask about, undecoded; may be given several times.")
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="Ask about each picture and latent by itself.")] = False,
    **options: Any,
) -> None:
    """Ask a question about a picture, or about a latent without decoding it."""
    from raekit import latent_file
    from raekit.understand import MAX_PICTURES, Question, Understander, check_number

    *images, text = words
    names = [*images, *map(str, latent or ())]
    check(text, images, names)
    given = {name: value for name, value in options.items() if value is not None}
    writing = {name: given[name] for name in given if name in Answering.model_fields}
    validate(Answering, writing, "understand")  # a wrong setting is told before the work
    check_number(1 if each else len(names), given.get("max_pictures", MAX_PICTURES))
    pictures: list[Any] = [*images, *(latent_file.load(path) for path in latent or ())]
    questions = [Question.of(text, group) for group in ([[one] for one in pictures] if each else [pictures])]
    understander = Understander.load(**{name: given[name] for name in given if name in Loading.model_fields})
    answers = understander.ask(questions, **writing)
    if not each:
        typer.echo(answers[0])
        return
    for name, answer in zip(names, answers, strict=True):
        typer.echo(f"{name}\t{' '.join(answer.split())}")


def check(text: str, images: list[str], names: list[str]) -> None:
    """Refuse, before a model is loaded, what cannot be asked.

    Raises:
        UserError: a picture in place of the question, no picture, one that is not there, or a latent in its place.
    """
    if os.path.isfile(text):
        raise UserError(f'question: {text!r} is a file; end with the question, as in `raekit understand {text} "..."`')
    if not names:
        raise UserError(f"images: none given to ask {text!r} about; name a picture, or a latent with --latent")
    for image in images:
        if not os.path.isfile(image):
            raise UserError(f"image {image!r}: no such file; name a picture, and put the question in quotes")
        if image.endswith(".safetensors"):
            raise UserError(f"image {image!r}: is a latent, not a picture; give it as --latent {image}")
