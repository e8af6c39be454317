"""How well a unified model answers questions whose answers are known.

In: held-out questions, each with its picture and its answer: a recipe's ``held_out`` conversations, a file of LLaVA's
kind, or shards of emoji or scenes, about which questions are made from what is known of them. Out: a report: by kind of
question the share of answers that are exactly right and the loss of the true answer, beside what guessing gives, and
what the same model says when it is shown another question's picture. A model that may draw too is also asked about its
own latents: it draws what the picture's caption says, and nothing is decoded (Scale-RAE, section 5.2).

**Exactly right** is the same words, but for case, a full stop at the end, and an article at the beginning.
**Loss** is the cross entropy of the true answer and of the token that ends it, in nats per token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from raekit import shipped
from raekit.config import read_recipe, validate
from raekit.data.conversations.base import IMAGE, Turn
from raekit.data.conversations.dataset import ConversationData, ConversationDataConfig
from raekit.data.conversations.facts import KINDS, Facts, ask
from raekit.data.conversations.questions import Questions
from raekit.data.sample import BadSample
from raekit.errors import UserError
from raekit.evaluate.understanding_report import DRAWN, OTHER, TRUE, Judged, UnderstandingReport, is_exact
from raekit.generate import ImageGenerator
from raekit.latent_file import Latent
from raekit.seeds import image_seeds
from raekit.understand import BATCH_SIZE, Question, Score, Understander

ASKING_STREAM = 6
"""Keeps the chance of these questions apart from that of other things made with the same seed."""
LONGEST = 1 << 20
"""Tokens of a conversation in a file: what the language model does not read is left out when it is asked."""

Progress = Callable[[int], None]
"""Told how many questions are done, over all sets of pictures."""


@dataclass(frozen=True)
class Item:
    """A question with its answer.

    Attributes:
        question: what is asked, and of what.
        answer: the true one.
        kind: of question; figures are told apart by it.
        prompt: a caption that is true of the picture, so that what is drawn from it has the same answer; empty if none.
        key: of the conversation or sample that it comes from.
    """

    question: Question
    answer: str
    kind: str
    prompt: str = ""
    key: str = ""


@dataclass(frozen=True)
class Items:
    """Questions, and what was left out.

    Attributes:
        items: kind by kind.
        origin: where they are from, in words.
        left_out: why each conversation was left out that could not be used.
    """

    items: list[Item]
    origin: str
    left_out: list[str] = field(default_factory=list)


def find_questions(place: str) -> Path:
    """Where questions lie, here or inside the package.

    Raises:
        UserError: nowhere.
    """
    path = shipped.find(place)
    if not path.exists():
        raise UserError(f"data {place!r}: no such recipe, file or folder; name questions to ask")
    return path


def open_items(place: str, understander: Understander, num: int, seed: int = 0, split: str | None = None) -> Items:
    """Questions as a user names them.

    Args:
        place: a recipe (its ``held_out`` conversations; also one that ships), a ``.jsonl`` of LLaVA's kind, or shards
            of emoji or scenes.
        understander: who will be asked; conversations are laid out its way.
        num: most conversations of each source.
        seed: of what is left to chance in questions that are made.
        split: of shards.

    Raises:
        UserError: no such data, or none of it asks anything.
    """
    if num < 1:
        raise UserError(f"num: {num} conversations of each source; ask for at least 1")
    path = find_questions(place)
    items, left_out = list[Item](), list[str]()
    if path.suffix in (".yaml", ".yml", ".jsonl"):
        settings = settings_of(path, understander.max_pictures)
        for source in settings.mixture:
            alone = settings.model_copy(update={"mixture": (source,), "shuffle": False})
            found, bad = _read(ConversationData(alone, understander.model.chat.conversation, seed), num)
            items, left_out = items + found, left_out + bad
    else:
        config = Questions.Config.model_validate({"source": {"name": "shards", "path": path, "split": split}})
        items, left_out = _made(Questions(config), num, seed)
    if not items:
        reason = f"{len(left_out)} left out, the first: {left_out[0]}" if left_out else "they only ask for pictures"
        raise UserError(f"data {place!r}: no conversation there has an answer in words; {reason}")
    return Items(items, place, left_out)


def settings_of(path: Path, max_images: int) -> ConversationDataConfig:
    """The conversations of a recipe or of a file; the domains of a recipe are the kinds of question.

    Raises:
        UserError: a recipe without any.
    """
    block: Mapping[str, Any] = {
        "mixture": [{"name": "llava", "path": path, "domain": path.stem}],
        "max_images": max_images,
        "max_tokens": LONGEST,
    }
    if path.suffix != ".jsonl":
        recipe = read_recipe(path)
        block = recipe.get("held_out") or {}
        if recipe.get("stage") != "unified" or not block:
            raise UserError(f"recipe {str(path)!r}: has no held_out conversations; give one of stage unified")
    settings: ConversationDataConfig = validate(ConversationDataConfig, block, f"{path}, held_out")
    return settings


def evaluate_understanding(
    understander: Understander,
    asked: Items,
    generator: ImageGenerator | None = None,
    seed: int = 0,
    max_tokens: int = 32,
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
) -> UnderstandingReport:
    """Ask all questions, greedily; those that the model cannot be asked are left out, counted and named.

    Args:
        understander: who is asked.
        asked: the questions.
        generator: the same model, or another of its latent space, whose drawings are asked about as well; None: true
            pictures only.
        seed: of the first picture that is drawn; the next have ``seed + 1``, ...
        max_tokens: longest answer.
        batch_size: questions, or pictures to be drawn, at once; changes memory and speed only.
        progress: see :data:`Progress`.

    Raises:
        UserError: nothing to draw from, nothing that can be asked, or as :meth:`~raekit.understand.Understander.ask`.
    """
    items, left_out = _askable(understander, asked, max_tokens)
    done = 0
    sets: dict[str, Sequence[Item | None]] = {TRUE: items, OTHER: shifted(items)}
    if generator is not None:
        sets[DRAWN] = drawn(generator, items, seed, batch_size)
    judged = {}
    for name, shown in sets.items():
        places = [place for place, item in enumerate(shown) if item is not None]
        usable = [item for item in shown if item is not None]
        questions, expected = [item.question for item in usable], [item.answer for item in usable]
        answers = understander.ask(questions, batch_size, max_tokens=max_tokens)
        scores = understander.score(questions, expected, batch_size)
        judged[name] = _spread(len(items), places, answers, expected, scores)
        done += len(asked.items)
        if progress is not None:
            progress(done)
    settings = {
        "model": understander.checksum,
        "latent_space": understander.model.latent_space.checksum,
        "questions": asked.origin,
        "max_tokens": max_tokens,
        "seed": seed,
        "drawn by": None if generator is None else generator.checksum,
    }
    texts = [(item.kind, item.question.turns[-1].text.replace(IMAGE, "").strip(), item.answer) for item in items]
    return UnderstandingReport(settings, texts, judged, left_out)


def _askable(understander: Understander, asked: Items, max_tokens: int) -> tuple[list[Item], list[str]]:
    """The questions that the model can be asked, and why each of the others, and whatever else, was left out.

    Raises:
        UserError: none can.
    """
    items, left_out = list[Item](), list(asked.left_out)
    for item in asked.items:
        reason = understander.refusal(item.question, max_tokens, item.answer)
        if reason is None:
            items.append(item)
        else:
            left_out.append(f"{item.key or item.kind}: {reason}")
    if not items:
        raise UserError(f"data {asked.origin!r}: none of its questions can be asked; the last: {left_out[-1]}")
    return items, left_out


def shifted(items: Sequence[Item]) -> list[Item | None]:
    """Each question with the pictures of the next of its kind, the last with the first's; None where there is no other.

    What is right of these answers is right without looking.
    """
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        groups[item.kind, len(item.question.pictures)].append(place)
    result: list[Item | None] = [None] * len(items)
    for (_, number), places in groups.items():
        if number == 0 or len(places) < 2:
            continue
        for place, other in zip(places, [*places[1:], places[0]], strict=True):
            pictures = items[other].question.pictures
            result[place] = replace(items[place], question=replace(items[place].question, pictures=pictures))
    return result


def drawn(generator: ImageGenerator, items: Sequence[Item], seed: int, batch_size: int) -> list[Item | None]:
    """Each question about a latent that was drawn from what is true of its picture; None where nothing is known of it.

    Raises:
        UserError: nothing is known of any of them.
    """
    places = [place for place, item in enumerate(items) if item.prompt and len(item.question.pictures) == 1]
    if not places:
        raise UserError(
            "data: no question comes with a caption to draw from; ask about emoji or scene shards, or leave --drawn out"
        )
    seeds = image_seeds(len(places), seed)
    prompts = [items[place].prompt for place in places]
    latents = generator.sample(prompts, prompt_seeds=seeds, batch_size=batch_size)
    result: list[Item | None] = [None] * len(items)
    for place, latent in zip(places, latents, strict=True):
        shown = (Latent(latent, generator.latent_space.checksum),)
        result[place] = replace(items[place], question=replace(items[place].question, pictures=shown))
    return result


def _spread(
    total: int, places: Sequence[int], answers: Sequence[str], expected: Sequence[str], scores: Sequence[Score]
) -> Judged:
    """What was said of the questions at ``places``, as a list over all."""
    said: list[str | None] = [None] * total
    right: list[bool | None] = [None] * total
    spread: list[Score | None] = [None] * total
    for place, answer, truth, score in zip(places, answers, expected, scores, strict=True):
        said[place], right[place], spread[place] = answer, is_exact(answer, truth), score
    return Judged(said, right, spread)


def _read(data: ConversationData, num: int) -> tuple[list[Item], list[str]]:
    """The questions of one source, and why conversations were left out."""
    (source,), items, left_out = data.sources, list[Item](), list[str]()
    for position in range(min(num, len(source))):
        talk = data[position]
        if talk.skipped:
            # What is here in its place has a position of its own.
            left_out.append(str(talk.skipped[0]))
            continue
        prompt = ""
        if isinstance(source, Questions):
            prompt = _caption(source, data.mixture.locate(position).index)
        images = () if talk.images is None else tuple(talk.images)
        items += items_of(talk.turns, images, talk.domain, prompt, talk.key)
    return items, left_out


def _made(source: Questions, num: int, seed: int) -> tuple[list[Item], list[str]]:
    """Questions of every kind about samples that are spread evenly over a source, kind by kind."""
    items: dict[str, list[Item]] = {kind: [] for kind in KINDS}
    left_out = []
    for index in np.unique(np.linspace(0, len(source) - 1, min(num, len(source))).astype(int)):
        try:
            sample = source.source[int(index)]
        except BadSample as error:
            left_out.append(str(error))
            continue
        facts = Facts.of(sample)
        for number, kind in enumerate(KINDS if facts is not None else ()):
            assert facts is not None
            asked = ask(kind, facts, source.untrue, np.random.default_rng([ASKING_STREAM, seed, int(index), number]))
            if asked is not None:
                question = Question.of(asked.question, [sample.image])
                items[kind].append(Item(question, asked.answer, kind, sample.caption, sample.key))
    return [item for each in items.values() for item in each], left_out


def _caption(source: Questions, index: int) -> str:
    try:
        return source.source[index].caption
    except BadSample:
        return ""


def items_of(turns: Sequence[Turn], images: Sequence[Any], kind: str, prompt: str = "", key: str = "") -> list[Item]:
    """The questions of a conversation: one for each answer in words, all that was said before it included.

    Args:
        turns: of the conversation.
        images: in the order of their places.
        kind: of question.
        prompt: see :class:`Item`.
        key: likewise.
    """
    items, num_shown = [], 0
    for place, turn in enumerate(turns):
        if turn.role == "assistant" and IMAGE in turn.text:
            break  # after a picture that was to be drawn, what is said is about that
        if turn.role == "assistant" and place:
            question = Question(tuple(turns[:place]), tuple(images[:num_shown]))
            items.append(Item(question, turn.text.strip(), kind, prompt, key))
        num_shown += turn.text.count(IMAGE)
    return items
