"""The best of N: draw candidates, have them judged, keep a few, and render only those (Scale-RAE, section 5.2).

    prompt --> N latents (a seed each) --judge--> scores --> the best k latents --> pictures
                    '-- at ``prune_at``: judge where they are heading, drop the worst half

In: trajectories of all candidates, a judge. Out: a :class:`Selection` for each prompt: which seeds were kept, and what
every candidate scored. A candidate is the picture its seed would have given without any choosing, so whatever is kept
can be drawn again by its seed alone. The latents of all candidates are held at once, on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import torch
from torch import Tensor

from raekit.cost import wait
from raekit.errors import UserError
from raekit.trajectories import Callback, DrawingOptions, Trajectories
from raekit.verifiers.base import Verdict
from raekit.verifiers.judge import VerifierChoice

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

JudgeFn = Callable[[Tensor, Sequence[Any]], Verdict]
"""Latents ``[B,C,h,w]`` and a prompt for each to a verdict: a :class:`~raekit.verifiers.judge.Judge`."""


class ChoosingOptions(TypedDict, total=False):
    """What may be said of a call that keeps the best of several."""

    best_of: int
    """Candidates of each prompt."""
    keep: int
    """How many of them are kept; 1 by default."""
    verifier: VerifierChoice
    """Who judges them."""
    prune_at: float
    """Share of the steps, in (0, 1), after which the worse half is dropped."""


class CallOptions(DrawingOptions, ChoosingOptions, total=False):
    """All that may be said of a call that renders."""


@dataclass(frozen=True)
class Choosing:
    """How many are drawn, and how many of them are left.

    Attributes:
        best_of: candidates of each prompt.
        keep: how many of them are kept.
        prune_at: share of the steps, in (0, 1), after which the worse half is dropped by where it is heading; None =
            all candidates are drawn to the end.

    Raises:
        UserError: numbers that leave nothing to choose.
    """

    best_of: int
    keep: int = 1
    prune_at: float | None = None

    def __post_init__(self) -> None:
        if self.best_of < 1 or self.keep < 1:
            raise UserError(f"best_of, keep: {self.best_of} and {self.keep}; draw and keep at least 1")
        if self.keep > self.best_of:
            raise UserError(f"keep: {self.keep} of {self.best_of} candidates; raise best_of, or keep fewer")
        if self.prune_at is not None and not 0 < self.prune_at < 1:
            raise UserError(f"prune_at: {self.prune_at:g} is no share of the steps in (0, 1); try 0.5")

    @property
    def num_left(self) -> int:
        """Candidates that are drawn to the end."""
        return self.best_of if self.prune_at is None else max(self.keep, -(-self.best_of // 2))

    def pause(self, num_steps: int) -> int | None:
        """The step after which candidates are dropped; None if none are.

        Raises:
            UserError: too few steps to stop between two of them.
        """
        if self.prune_at is None:
            return None
        if num_steps < 2:
            raise UserError(f"prune_at: {num_steps} steps leave nothing to stop between; raise steps")
        return min(max(1, round(self.prune_at * num_steps)), num_steps - 1)


@dataclass(frozen=True)
class Candidate:
    """What became of one seed.

    Attributes:
        seed: of its noise.
        score: of its latent; of one that was dropped on the way, None.
        parts: what the score is made of, and what else the judge measured.
        estimate: score of where it was heading at ``prune_at``; None without pruning.
        rank: 0 for the best; None for one that was dropped on the way.
    """

    seed: int
    score: float | None
    parts: dict[str, float]
    estimate: float | None
    rank: int | None


@dataclass(frozen=True)
class Selection:
    """What was chosen for one prompt.

    Attributes:
        prompt: what was asked for.
        candidates: all, in the order of their seeds.
        kept: indices of those that were kept, the best first.
    """

    prompt: Any
    candidates: list[Candidate]
    kept: list[int]

    def as_json(self) -> dict[str, Any]:
        """All scores."""
        return asdict(self)


@dataclass(frozen=True)
class Choice:
    """What was chosen in a call.

    Attributes:
        latents: of those that were kept, ``[P * keep, C, h, w]``, all of the first prompt first, its best first.
        selections: one a prompt.
        seconds: spent on ``draw`` and on ``verify``, which includes the rendering that a judge of pixels needs.
        verifier: name of who judged.
    """

    latents: Tensor
    selections: list[Selection]
    seconds: dict[str, float]
    verifier: str = ""

    @property
    def verify_share(self) -> float:
        """Share of the time that judging took."""
        return self.seconds["verify"] / sum(self.seconds.values())

    @property
    def winners(self) -> list[tuple[Any, Candidate]]:
        """Prompt and candidate of each of ``latents``."""
        return [(s.prompt, s.candidates[index]) for s in self.selections for index in s.kept]


def remember(pictures: list[Image], choice: Choice | None) -> list[Image]:
    """The same pictures; chosen ones have their ``seed``, ``score`` and the ``verifier`` that gave it in ``info``."""
    if choice is not None:
        for picture, (_, one) in zip(pictures, choice.winners, strict=True):
            picture.info |= {"seed": one.seed, "score": one.score, "verifier": choice.verifier}
    return pictures


def asked_of(options: dict[str, Any], num: int = 1) -> tuple[VerifierChoice, Choosing] | None:
    """Take :class:`ChoosingOptions` out of a call's options: who judges, and how many; None if nothing is chosen.

    Args:
        options: changed; an option that is None was not given.
        num: pictures per prompt that the call asks for besides.

    Raises:
        UserError: candidates without a judge, or the other way round; or ``num`` beside ``keep``.
    """
    found = {name: options.pop(name, None) for name in ChoosingOptions.__annotations__}
    given = {name: value for name, value in found.items() if value is not None}
    if not given:
        return None
    if "best_of" not in given:
        raise UserError(f"{next(iter(given))}: is about candidates, and there are none; give best_of, how many to draw")
    if "verifier" not in given:
        raise UserError(
            f"best_of: {given['best_of']} candidates and nobody to judge them; give a verifier, such as answer_logits "
            "for a unified model or siglip_score for any"
        )
    if num != 1:
        raise UserError(f"num: {num} beside best_of; keep says how many of the candidates are kept")
    return given.pop("verifier"), Choosing(**given)


def choose(
    way: Trajectories, prompts: Sequence[Any], judge: JudgeFn, choosing: Choosing, callback: Callback | None = None
) -> Choice:
    """Draw all candidates, and keep the best of each prompt.

    Args:
        way: ``choosing.best_of`` pictures of each prompt, before their first step.
        prompts: one for each number in ``way.jobs``.
        judge: gives the scores; of equal ones the earlier seed wins.
        choosing: how many, and when.
        callback: see :data:`~raekit.trajectories.Callback`.

    Raises:
        UserError: as the judge; or a sampler that cannot be stopped where it should be.
    """
    clock, jobs = _Clock(way.route.device), list(way.jobs)
    if len(set(jobs)) != choosing.best_of * len(prompts):
        raise UserError(f"seed: {len(jobs)} of {len(prompts)} prompts' candidates; give each of best_of its own")
    estimates: dict[tuple[int, int], float] = {}
    pause = choosing.pause(way.num_steps)
    if pause is not None:
        heading = clock.time("draw", lambda: way.pause(pause, callback))
        verdict = clock.time("verify", lambda: judge(heading, [prompts[row] for row, _ in jobs]))
        estimates = dict(zip(jobs, verdict["score"].tolist(), strict=True))
        way.keep(sorted(index for best in _ranked(jobs, verdict["score"]) for index in best[: choosing.num_left]))
    latents = clock.time("draw", lambda: way.finish(callback))
    verdict = clock.time("verify", lambda: judge(latents, [prompts[row] for row, _ in way.jobs]))
    ranked = _ranked(way.jobs, verdict["score"])
    finished = {}
    for rank, index in ((rank, index) for best in ranked for rank, index in enumerate(best)):
        parts = {name: float(value[index]) for name, value in verdict.items()}
        finished[way.jobs[index]] = (parts.pop("score"), parts, rank)
    selections = []
    for number, prompt in enumerate(prompts):
        own = [job for job in jobs if job[0] == number]
        candidates = [_candidate(job, finished.get(job), estimates.get(job)) for job in own]
        kept = [own.index(way.jobs[index]) for index in ranked[number][: choosing.keep]]
        selections.append(Selection(prompt, candidates, kept))
    winners = [index for best in ranked for index in best[: choosing.keep]]
    return Choice(latents[winners], selections, clock.seconds, getattr(judge, "name", ""))


def _ranked(jobs: Sequence[tuple[int, int]], scores: Tensor) -> list[list[int]]:
    """Indices of each prompt's pictures, the best first."""
    order = torch.argsort(scores, descending=True, stable=True).tolist()
    return [[index for index in order if jobs[index][0] == row] for row in sorted({row for row, _ in jobs})]


def _candidate(
    job: tuple[int, int], found: tuple[float, dict[str, float], int] | None, estimate: float | None
) -> Candidate:
    score, parts, rank = (None, {}, None) if found is None else found
    return Candidate(job[1], score, parts, estimate, rank)


class _Clock:
    """Seconds by name."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = {"draw": 0.0, "verify": 0.0}
        self._device = device

    def time(self, name: str, work: Callable[[], T]) -> T:
        start = perf_counter()
        result = work()
        wait(self._device)
        self.seconds[name] += perf_counter() - start
        return result
