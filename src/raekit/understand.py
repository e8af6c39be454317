"""Questions about pictures and latents, answered by a unified model.

    pictures --encoder--+
    latents ------------+--projector--> LLM (what it has read stays, as keys and values) --> words
    question -----------+

In: questions, each about any number of pictures (files, PIL images, tensors) and latents. Out: answers in words, or how
likely given answers are. A latent is asked about as it is: nothing is decoded (Scale-RAE, section 5.2).

**Batches.** Questions are read together, sorted by length and filled up on the left, where a mask hides it, and what
all of a batch begin with is read once; each is answered until it ends itself. So the batch changes an answer by no more
than rounding does, and an answer that is drawn has the random numbers of its own question: seed plus place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from raekit import config as recipes
from raekit import shares, shipped
from raekit.conditioning.prompt import padded
from raekit.data.picture import Picture, read_square
from raekit.data.sample import BadSample
from raekit.device import Precision
from raekit.errors import UserError
from raekit.generate import ClassToImage, TextToImage, load_generator
from raekit.latent_file import Latent
from raekit.multimodal.answering import Answering, AnsweringOptions
from raekit.multimodal.chat import IMAGE, Turn
from raekit.multimodal.eye import OwnEye
from raekit.multimodal.session import Session
from raekit.multimodal.unified import BUNDLED, UnifiedModel
from raekit.multimodal.writing import Choose, drawn, likeliest, write

MAX_PICTURES = 8
"""Pictures and latents in one question, unless told otherwise. Scale-RAE was trained with one in a conversation."""
BATCH_SIZE = 16
"""Questions at once."""

R = TypeVar("R")

Shown = Picture | Latent
"""What a question may be about."""
Progress = Callable[[int], None]
"""Told how many questions are done."""


@dataclass(frozen=True)
class Question:
    """What is asked, and of what.

    Attributes:
        turns: the conversation so far, the user's turn last; ``<image>`` stands wherever a picture belongs.
        pictures: those, in order.
    """

    turns: tuple[Turn, ...]
    pictures: tuple[Shown, ...] = ()

    @classmethod
    def of(cls, text: str, pictures: Sequence[Shown] = ()) -> Self:
        """A question about some pictures, which come first, as published, unless the text says where they belong.

        Raises:
            UserError: it is empty, or mentions another number of pictures than there are.
        """
        if not text.replace(IMAGE, "").strip():
            raise UserError("question: it is empty; ask something")
        mentioned = text.count(IMAGE)
        if mentioned not in (0, len(pictures)):
            raise UserError(
                f"question: {IMAGE} stands in it {mentioned} times, beside {len(pictures)} pictures; put one for each "
                "picture where it belongs, or leave them all out"
            )
        return cls((Turn("user", text if mentioned else f"{IMAGE}\n" * len(pictures) + text),), tuple(pictures))


class Score(NamedTuple):
    """How likely a given answer is.

    Attributes:
        log_probability: of all its tokens together, in nats.
        num_tokens: of the answer, with the one that ends the turn if that was asked for.
        is_likeliest: whether each of its tokens is the likeliest one.
    """

    log_probability: float
    num_tokens: int
    is_likeliest: bool


def load_unified(
    model: str | Path | None = None,
    device: torch.device | str = "auto",
    precision: Precision = "auto",
    revision: str | None = None,
) -> TextToImage | ClassToImage:
    """The model that is asked: :func:`~raekit.generate.load_generator`, by default of the unified one that ships."""
    directory = shipped.PACKAGE / BUNDLED if model is None else model
    return load_generator(directory, device, precision, revision=revision)


class Understander:
    """Answers questions.

    Args:
        model: the unified model; :meth:`load` takes one from a directory.
        max_pictures: pictures and latents in one question, at most.
        checksum: of the model's directory; empty of one that was never saved.
    """

    def __init__(self, model: UnifiedModel, max_pictures: int = MAX_PICTURES, checksum: str = "") -> None:
        self.model, self.max_pictures, self.checksum = model, max_pictures, checksum

    @classmethod
    def of(cls, generator: TextToImage | ClassToImage, max_pictures: int = MAX_PICTURES) -> Self:
        """A generator that is loaded already, to be asked.

        Raises:
            UserError: it only reads prompts, or labels.
        """
        return cls(UnifiedModel.of(generator), max_pictures, generator.checksum)

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        device: torch.device | str = "auto",
        revision: str | None = None,
        precision: Precision = "auto",
        max_pictures: int = MAX_PICTURES,
    ) -> Self:
        """From a generator whose condition is ``unified``; arguments as for :func:`raekit.load`.

        By default the small one that ships.

        Raises:
            UserError: no generator there, or one that only reads prompts.
        """
        return cls.of(load_unified(model, device, precision, revision), max_pictures)

    def answer(
        self,
        pictures: Any,
        questions: str | Sequence[str],
        batch_size: int = BATCH_SIZE,
        **options: Unpack[AnsweringOptions],
    ) -> list[str]:
        """One answer for each picture.

        Args:
            pictures: one, or several: files, PIL images, images ``[M,3,H,W]`` (uint8, or float in [0, 1]), latents.
            questions: about each of them, or one for each.
            batch_size: questions at once; changes memory and speed only.
            **options: see :class:`Answering`.

        Raises:
            UserError: another number of questions than pictures, or as :meth:`ask`.
        """
        is_single = isinstance(pictures, str | Path | Latent) or not hasattr(pictures, "__len__")
        is_single |= getattr(pictures, "ndim", 4) == 3  # numbers, of one picture
        listed = [pictures] if is_single else list(pictures)
        texts = [questions] * len(listed) if isinstance(questions, str) else list(questions)
        if len(texts) != len(listed):
            raise UserError(f"question: {len(texts)} for {len(listed)} pictures; give one, or one for each")
        asked = [Question.of(text, [picture]) for text, picture in zip(texts, listed, strict=True)]
        return self.ask(asked, batch_size, **options)

    @torch.no_grad()
    def ask(
        self,
        questions: Sequence[Question],
        batch_size: int = BATCH_SIZE,
        progress: Progress | None = None,
        **options: Unpack[AnsweringOptions],
    ) -> list[str]:
        """The answer to each question.

        Args:
            questions: each about any number of pictures.
            batch_size: questions at once; changes memory and speed only.
            progress: see :data:`Progress`.
            **options: see :class:`Answering`.

        Raises:
            UserError: a picture that cannot be read, a latent that the model does not see, too many pictures, or more
                than the language model reads, the longest answer included.
        """
        how = recipes.validate(Answering, dict(options), "answering")
        chat, answers = self.model.chat, [""] * len(questions)
        stop = (chat.turn_end, chat.image_start)
        rows = [self._row(question, how.max_tokens) for question in questions]

        def reply(places: list[int]) -> Sequence[list[int]]:
            choose: Choose = likeliest
            if how.temperature > 0:
                choose = drawn(how.temperature, how.top_p, [how.seed + place for place in places])
            shown = self._tokens([questions[place] for place in places])
            written = write(
                self.model.conditioner, [rows[place] for place in places], how.max_tokens, shown, stop, choose
            )
            return written.ids

        for places, replies in _each(reply, _batches([len(row) for row in rows], batch_size), progress):
            for place, ids in zip(places, replies, strict=True):
                answers[place] = chat.text(ids).strip()
        return answers

    def refusal(self, question: Question, room: int, answer: str = "") -> str | None:
        """Why a question cannot be asked; None where it can.

        Args:
            question: as for :meth:`ask`.
            room: tokens of the longest answer.
            answer: one that will be scored, which may be longer.
        """
        try:
            self._row(question, max(room, len(self.model.chat.words(answer)) + 1 if answer else 0))
        except UserError as error:
            return str(error)
        return None

    @torch.no_grad()
    def score(
        self,
        questions: Sequence[Question],
        answers: Sequence[str],
        batch_size: int = BATCH_SIZE,
        is_ended: bool = True,
        progress: Progress | None = None,
    ) -> list[Score]:
        """How likely each answer is to its question; nothing is written.

        Args:
            questions: as for :meth:`ask`.
            answers: one for each.
            batch_size: questions at once; changes memory and speed only.
            is_ended: count the token that ends the turn.
            progress: see :data:`Progress`.

        Raises:
            UserError: another number of answers than questions, an empty answer, or as :meth:`ask`.
        """
        if len(answers) != len(questions):
            raise UserError(f"answers: {len(answers)} for {len(questions)} questions; give one for each")
        chat, scores = self.model.chat, [Score(0.0, 0, True)] * len(questions)
        tails = [[*chat.words(answer), *([chat.turn_end] if is_ended else ())] for answer in answers]
        if not all(len(tail) > is_ended for tail in tails):
            raise UserError("answers: one is empty; say what is to be scored")
        rows = [self._row(question, len(tail)) for question, tail in zip(questions, tails, strict=True)]
        lengths = [len(row) + len(tail) for row, tail in zip(rows, tails, strict=True)]

        def weigh(places: list[int]) -> list[Score]:
            shown = self._tokens([questions[place] for place in places])
            return self._weigh([rows[place] for place in places], [tails[place] for place in places], shown)

        for places, found in _each(weigh, _batches(lengths, batch_size), progress):
            for place, score in zip(places, found, strict=True):
                scores[place] = score
        return scores

    def _weigh(self, rows: Sequence[list[int]], tails: Sequence[list[int]], shown: Tensor | None) -> list[Score]:
        """The scores of a batch: every tail is at the end of its row, so all of them end together."""
        conditioner = self.model.conditioner
        whole = [row + tail for row, tail in zip(rows, tails, strict=True)]
        ids, mask = padded(whole, "left", conditioner.queries.device)
        states = Session(conditioner, len(whole)).read(conditioner.embed(ids, shown), mask)
        scores = []
        for row, state, tail in zip(ids, states, tails, strict=True):
            logits = conditioner.logits(state[-len(tail) - 1 : -1])
            targets = row[-len(tail) :]
            loss = F.cross_entropy(logits, targets, reduction="sum")
            scores.append(Score(-float(loss), len(tail), bool((logits.argmax(-1) == targets).all())))
        return scores

    def _row(self, question: Question, room: int) -> list[int]:
        """Ids of a question up to where its answer begins, which may be ``room`` tokens long.

        Raises:
            UserError: nothing is asked, too many pictures, or more than the language model reads.
        """
        number = len(question.pictures)
        check_number(number, self.max_pictures)
        if not question.turns or not question.turns[-1].text.replace(IMAGE, "").strip():
            raise UserError("question: it is empty; ask something")
        row = self.model.chat.prompt(question.turns)
        limit = self.model.conditioner.max_length
        if len(row) + room > limit:
            raise UserError(
                f"question: {len(row)} tokens with its {number} pictures, and up to {room} for the answer, but this "
                f"language model reads {limit}; ask more briefly, about fewer pictures, or for a shorter answer"
            )
        return row

    def _tokens(self, questions: Sequence[Question]) -> Tensor | None:
        """Tokens ``[M,N,D]`` of all pictures of some questions, in order; None without any."""
        shown = [picture for question in questions for picture in question.pictures]
        latents = [picture for picture in shown if isinstance(picture, Latent)]
        images = [picture for picture in shown if not isinstance(picture, Latent)]
        seen = [iter(self._look_at_latents(latents)), iter(self._look_at_images(images))]
        tokens = [next(seen[not isinstance(picture, Latent)]) for picture in shown]
        return torch.stack(tokens) if tokens else None

    def _look_at_images(self, images: Sequence[Picture]) -> Sequence[Tensor]:
        if not images:
            return ()
        eye = self.model.eye
        size = self.model.latent_space.output_size if eye is None else eye.input_size
        try:
            # Stretched, as published, so that nothing is cut off that may be asked about.
            squares = [read_square(image, size, "stretch") for image in images]
        except BadSample as error:
            raise UserError(f"image: {error}; give another picture") from None
        return list(self.model.look(images=torch.stack(squares)))

    def _look_at_latents(self, latents: Sequence[Latent]) -> Sequence[Tensor]:
        if not latents:
            return ()
        if not isinstance(self.model.eye, OwnEye):
            # One that reads only, or that draws with a VAE: it says so itself.
            return list(self.model.look(latents=latents[0].tensor[None]))
        space = self.model.latent_space
        for latent in latents:
            latent.check(space.checksum, space.shape)
        return list(self.model.look(latents=torch.stack([latent.tensor.to(space.device) for latent in latents])))


def check_number(number: int, limit: int) -> None:
    """Refuse a question about more than ``limit`` pictures and latents."""
    if number > limit:
        raise UserError(f"images: {number} in one question, at most {limit}; ask about fewer, or raise max_pictures")


def _batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Places of questions that are read together: such as are about equally long."""
    if batch_size < 1:
        raise UserError(f"batch_size: {batch_size} questions at once; give at least 1")
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]


def _each(
    work: Callable[[list[int]], R], batches: Sequence[list[int]], progress: Progress | None
) -> Iterator[tuple[list[int], R]]:
    """Every batch with its result, shared out where processes share."""
    done = 0
    for places, found in zip(batches, shares.each(work, batches), strict=True):
        yield places, found
        done += len(places)
        if progress is not None:
            progress(done)
