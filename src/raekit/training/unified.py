"""Unified training: one model learns to draw, to see and to say, from conversations (Scale-RAE, sections 3 to 5).

In: conversations (requests to draw, questions about pictures), a latent-space artefact, perhaps a finished generator to
start from. Out: a generator directory, which ``raekit generate`` loads and ``UnifiedModel.of`` can ask.

    loss = cross entropy of all words of a step / their number + 2 x diffusion loss of all its pictures / their number

Both terms are averaged over the whole step, whatever micro-batches, processes and packed rows it is cut into: a
micro-batch of long answers weighs what its words weigh. The encoder is frozen. The language model is trained
(``condition.is_llm_trained``), adapted (``condition.lora``) or frozen; projector, queries, connector and backbone learn
unless ``frozen`` says otherwise. What belongs to the language model goes at its own pace (``language_model_optim``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from raekit import distributed, generator_files
from raekit.data.conversations.base import IMAGE, Turn
from raekit.data.conversations.dataset import ConversationData, ConversationDataConfig, Talk
from raekit.data.conversations.loader import ConversationLoader
from raekit.multimodal.batch import Conversations, Counts, Seen, Spoken, collate
from raekit.multimodal.chat import IGNORE, QUERY
from raekit.multimodal.conditioner import UnifiedConditioner
from raekit.multimodal.unified import DIFFUSION_WEIGHT, UnifiedModel
from raekit.training.draws import Draws
from raekit.training.held_out import collected, dealt
from raekit.training.linear_start import start_connector
from raekit.training.planning import unified_plan
from raekit.training.planning.machines import Machine
from raekit.training.planning.work import Part
from raekit.training.stage import Micro, Terms, add_terms
from raekit.training.stage2 import EVALUATION_SEED, ONLY_BACKBONE, Stage2

log = logging.getLogger(__name__)

OF_QUERIES = ("queries", "connector.", "null_token")
"""What a generator that reads prompts through queries has in common with a unified model."""
NUM_START_TALKS = 512
"""Conversations among which requests are looked for, to compute the connector's start from."""
ONLY_QUERIES = "init_generator: its condition is %r, this run's %r: backbone, queries and connector are taken"
TALKS_TOGETHER = 32
"""Held-out conversations looked at together."""


class Unified(Stage2):
    """A language model and a backbone learn together to draw, to see and to say."""

    class Config(Stage2.Config):
        """Settings of the unified stage: those of stage 2, on conversations."""

        stage: Literal["unified"] = "unified"  # type: ignore[assignment]
        data: ConversationDataConfig  # type: ignore[assignment]
        """Conversations to train on."""
        held_out: ConversationDataConfig  # type: ignore[assignment]
        """Conversations that are never trained on; with each kind of question a domain, answers are judged by kind."""
        condition: UnifiedConditioner.Config
        """The language model with projector and queries."""
        frozen: tuple[Literal["backbone", "conditioner", "language_model", "queries", "projector"], ...] = ()  # type: ignore[assignment]
        """Parts that keep their weights although the condition trains them."""
        is_linear_start: bool = False
        """The connector starts as the principal components of what a frozen language model says at the queries of the
        first requests to draw (``linear_start.py``): for small trainings, which else spend themselves on finding the
        prompt. Not where ``init_generator`` has a connector for queries."""
        diffusion_weight: float = Field(DIFFUSION_WEIGHT, ge=0)
        """Weight of the diffusion loss beside the cross entropy (Scale-RAE: 2)."""
        lora: None = None
        """Adapters here are part of the model: ``condition.lora``."""
        cache: None = None
        """Pictures are encoded at every step: the language model learns, so little else could be kept."""

        @model_validator(mode="after")
        def _starts_from_what_is_read(self) -> Unified.Config:
            if self.is_linear_start and self.condition.is_llm_trained:
                raise ValueError("is_linear_start: it asks a frozen language model; leave out it or is_llm_trained")
            return self

        @model_validator(mode="before")
        @classmethod
        def _as_wide_as_the_generator(cls, values: Any) -> Any:
            """The width of the condition follows from the backbone that the run starts from."""
            own = values.get("condition") if isinstance(values, Mapping) else None
            if (
                not isinstance(own, Mapping)
                or "width" in own
                or "backbone" in values
                or not values.get("init_generator")
            ):
                return values
            theirs = generator_files.read_settings(str(values["init_generator"]))[0]["condition"]
            return {**values, "condition": {**own, "width": theirs.get("width")}}

    config: Config

    def _open_data(self, config: Stage2.Config) -> None:
        assert isinstance(config, Unified.Config)
        self.model = UnifiedModel.of(self.generator)
        self.model.diffusion_weight, self.model.times_per_picture = config.diffusion_weight, config.times_per_picture
        self.cached, self._lock = None, threading.Lock()
        self.talks = ConversationData(config.data, self._lay_out, config.seed)
        self.held_out_talks = ConversationData(config.held_out, self._lay_out)
        if config.is_linear_start and not self._has_connector:
            self._start_connector()

    @torch.no_grad()
    def _start_connector(self) -> None:
        """By what the language model, as it is, says at the queries of the first requests to draw."""
        talks = (self.talks[position] for position in range(NUM_START_TALKS))
        requests = [talk for talk in talks if talk.layout.pictures == (QUERY,)]
        if not requests:  # nothing is drawn
            return
        batch, conditioner = self._collated(requests, self.config.data.row_tokens), self.model.conditioner
        said, at_queries = self.model.states(Seen(batch, None, None)), (batch.ids == QUERY).to(self.device)
        start_connector(conditioner.connector, said[at_queries].view(-1, len(conditioner.queries), said.shape[-1]))

    def batches(self, position: int, size: int) -> Iterator[Conversations]:  # type: ignore[override]
        """Micro-batches of conversations, packed if the recipe says so."""
        rank, world = distributed.rank(), distributed.world()
        loader = ConversationLoader(self.talks, size, rank, world, start_position=position)
        loader.quarantine = self.quarantine
        self.quarantine.add(self.talks.left_out)
        for talks in loader:
            yield self._collated(talks, self.config.data.row_tokens)

    def counts(self, position: int) -> dict[str, int]:
        return self.talks.mixture.counts(position)

    def data_fingerprint(self) -> str:
        return self.talks.mixture.fingerprint()

    def prepare(self, batch: Conversations) -> Seen:  # type: ignore[override]
        """A micro-batch through the frozen networks."""
        with self.autocast():
            return self.model.see(batch, Draws(self.config.seed, batch.positions, self.device), self.are_frozen_cut)

    def loss(self, prepared: Seen, draws: Draws) -> dict[str, Tensor]:  # type: ignore[override]
        """Terms of a micro-batch by itself."""
        return self.model.loss(prepared, draws)

    def descend(self, micros: Sequence[Micro], step: int) -> Terms:
        """Gradients of the loss of the whole step; the terms that are logged are those of the whole step too."""
        del step
        counts, total = self._counts(micros), Terms()
        for micro in self.placement.accumulate(micros):
            with self.autocast():
                states = self.model.states(micro.prepared)
                terms = self.model.terms(micro.prepared, states, micro.draws, counts)
                is_idle = self.placement.is_sharded and micro.prepared.latents is None
                loss = terms["loss"] + self.model.idle(states) if is_idle else terms["loss"]
            loss.backward()  # type: ignore[no-untyped-call]
            add_terms(total, terms, 1.0)
        if "flow" not in total and self.generator.backbone.early is not None:
            total |= {name: torch.zeros_like(total["loss"]) for name in ("flow", "self")}
        distributed.average(total[name] for name in sorted(total))
        return total

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Both losses on held-out conversations, and by domain the share of last answers that are exactly right.

        Exactly right is what greedy writing would give word for word: every word of the answer, its end included, is
        the likeliest after those before it.
        """
        own = dict(self._held_out_micros())
        counts = _sum_of(collected({positions: micro.batch.counts for positions, (micro, _) in own.items()}))
        found = {positions: self._judged(micro, talks, counts) for positions, (micro, talks) in own.items()}
        total, right = Terms(), dict[str, list[bool]]()
        for terms, answers in collected(found):
            add_terms(total, terms, 1.0)
            for domain, is_right in answers:
                right.setdefault(domain, []).append(is_right)
        exact = {f"exact/{domain}": sum(found) / len(found) for domain, found in sorted(right.items())}
        return {**{name: float(value) for name, value in total.items()}, **exact}

    @classmethod
    def describe(cls, config: Any, machine: Machine | None = None) -> list[tuple[str, str]]:
        del machine  # nothing told here depends on it
        return unified_plan.describe(config)

    @classmethod
    def parts(cls, config: Any) -> tuple[Part, ...]:
        return unified_plan.parts(config)

    def _take_over(self, files: generator_files.GeneratorFiles) -> None:
        """All of a unified model; of one that only reads prompts the backbone, and what it has to do with queries."""
        kind = files.settings["condition"]["name"]
        for group, module in self.generator.modules.items():
            theirs, may_miss = files.of(group), set[str]()
            if group == "conditioner":
                if kind != self.config.condition.name:
                    log.warning(ONLY_QUERIES if kind == "query" else ONLY_BACKBONE, kind, self.config.condition.name)
                    theirs = {k: v for k, v in theirs.items() if kind == "query" and k.startswith(OF_QUERIES)}
                self._has_connector = bool(theirs)
                own = module.state_dict().keys()
                may_miss = {k for k in own if not (theirs and k.startswith(OF_QUERIES))}
            self.outlines.give(module, theirs, files.name_of(group), frozenset(may_miss))

    def _lay_out(self, turns: Sequence[Turn]) -> Any:
        with self._lock:  # of reading threads and this one, tokenizers serve one at a time
            return self.model.chat.conversation(turns)

    def _collated(self, talks: Sequence[Talk], row_tokens: int | None) -> Conversations:
        spoken = [
            Spoken(talk.layout, None if talk.images is None else torch.from_numpy(talk.images), talk.position)
            for talk in talks
        ]
        return collate(spoken, self.model.chat.padding, row_tokens=row_tokens)

    def _counts(self, micros: Sequence[Micro]) -> Counts:
        """What the step's losses are averaged over: words and pictures of all micro-batches, a process's share."""
        counts = _sum_of([micro.batch.counts for micro in micros])
        if distributed.world() == 1:
            return counts
        both = torch.tensor(list(counts), device=self.device)
        distributed.average([both])
        return Counts(both[0], both[1])

    def _held_out_micros(self) -> Iterator[tuple[range, tuple[Micro, list[Talk]]]]:
        """This process's part of the held-out conversations."""
        own = dealt(self.config.num_held_out, TALKS_TOGETHER, self.placement.is_sharded)
        for positions, talks in ConversationLoader(self.held_out_talks, TALKS_TOGETHER).at(own):
            batch = self._collated(talks, None)
            yield positions, (Micro(batch, None, Draws(EVALUATION_SEED, batch.positions, self.device)), talks)

    def _judged(self, micro: Micro, talks: Sequence[Talk], counts: Counts) -> tuple[Terms, list[tuple[str, bool]]]:
        """A micro-batch's share of both losses; and of each answer its domain, and whether it is exactly right."""
        seen = self.model.see(micro.batch, micro.draws, self.are_frozen_cut)
        states = self.model.states(seen)
        terms = self.model.terms(seen, states, micro.draws, counts, is_training=False)
        if self.placement.is_sharded and seen.latents is None:
            self.model.idle(states)
        is_likeliest = self._is_likeliest(states, micro.batch.labels.to(states.device)).cpu()
        answers = []
        for row, talk in enumerate(talks):
            if length := self._answer_length(talk.turns[-1]):
                end = len(talk.layout) - 1  # the newline after the turn
                answers.append((talk.domain, bool(is_likeliest[row, end - length : end].all())))
        return {name: value.cpu() for name, value in terms.items()}, answers

    def _is_likeliest(self, states: Tensor, labels: Tensor) -> Tensor:
        """``[R, L]`` bool: what stands at a position is what the state before it finds likeliest; of learned words."""
        found = torch.zeros_like(labels, dtype=torch.bool)
        is_learned = labels[:, 1:] != IGNORE
        best = self.model.conditioner.logits(states[:, :-1][is_learned]).argmax(-1)
        found[:, 1:][is_learned] = best == labels[:, 1:][is_learned]
        return found

    def _answer_length(self, turn: Turn) -> int:
        """Tokens of an answer in words, with its end; 0 of any other turn."""
        if turn.role != "assistant" or IMAGE in turn.text:
            return 0
        with self._lock:
            return len(self.model.chat.words(f"assistant\n{turn.text}")) - len(self.model.chat.words("assistant\n")) + 1


def _sum_of(counts: Sequence[Counts]) -> Counts:
    return Counts(sum(float(c.words) for c in counts), sum(float(c.pictures) for c in counts))
