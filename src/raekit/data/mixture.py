"""Several sources interleaved by weight, as a pure function of (seed, position).

In: sources with weights. Out: for every global position, which source and which of its samples, and how many samples of
each source lie before it. Nothing is drawn and nothing is counted along the way, so that position 10 million is found
as fast as position 10, on any rank, and a run that is resumed sees exactly what it would have seen.

The sources take turns by a fixed cycle of :data:`CYCLE` positions, as evenly spread as the weights allow: any stretch
of n positions holds a source's share of n to within about one sample, where drawing at random would stray by sqrt(n).
The k-th visit to a source is its k-th sample: a finite source is gone through in a new random order each epoch, an
endless one in its own order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from raekit.data.fingerprint import fingerprint_of
from raekit.data.sample import PartConfig, Source
from raekit.errors import UserError

CYCLE = 1000
"""Positions after which the order of the sources repeats; weights are rounded to this many parts."""

ORDER_STREAM = 1
"""Keeps the chance of orders apart from that of items, which use the same seed."""


@dataclass(frozen=True)
class Domain:
    """One source of a mixture, under the name that logs and batches give it."""

    name: str
    source: Source
    weight: float


@dataclass(frozen=True)
class Place:
    """What lies at a position: the number of the domain, and the index in its source."""

    domain: int
    index: int


class Mixture:
    """Interleaved sources; see the module's docstring.

    Args:
        domains: at least one.
        seed: of the random orders.
        is_shuffled: false goes through finite sources in their own order, for evaluation.
    """

    def __init__(self, domains: Sequence[Domain], seed: int = 0, is_shuffled: bool = True) -> None:
        if not domains:
            raise UserError("mixture: holds no source; give at least one")
        self.domains = list(domains)
        self.seed = seed
        self.is_shuffled = is_shuffled
        self._schedule = build_schedule([domain.weight for domain in domains])
        self._visits = np.zeros(len(self._schedule), np.int64)
        self._per_cycle = np.bincount(self._schedule, minlength=len(domains))
        turns_taken = np.eye(len(domains), dtype=np.int64)[self._schedule].cumsum(axis=0)
        self._taken = np.concatenate([np.zeros((1, len(domains)), np.int64), turns_taken])
        for number in range(len(domains)):
            turns = self._schedule == number
            self._visits[turns] = np.arange(turns.sum())
        # Two epochs of each source: threads may read on both sides of the end of one.
        self._order = lru_cache(maxsize=2 * len(self.domains) + 2)(self._permutation)

    def locate(self, position: int) -> Place:
        """The domain and index at a global position in ``[0, infinity)``."""
        cycle, turn = divmod(position, len(self._schedule))
        domain = int(self._schedule[turn])
        visit = cycle * int(self._per_cycle[domain]) + int(self._visits[turn])
        source = self.domains[domain].source
        if source.is_endless or not self.is_shuffled:
            return Place(domain, visit % len(source))
        epoch, step = divmod(visit, len(source))
        return Place(domain, int(self._order(domain, epoch)[step]))

    def counts(self, position: int) -> dict[str, int]:
        """Samples of each domain at the positions ``[0, position)``, by name; over all processes of a run."""
        cycles, turn = divmod(position, len(self._schedule))
        counts: dict[str, int] = {}
        for number, domain in enumerate(self.domains):
            count = cycles * int(self._per_cycle[number]) + int(self._taken[turn, number])
            counts[domain.name] = counts.get(domain.name, 0) + count
        return counts

    def fingerprint(self) -> str:
        """Digits that change when positions may lead to other samples than before: a source grew, weights moved."""
        rows = [(domain.name, domain.weight, domain.source.order_fingerprint()) for domain in self.domains]
        return fingerprint_of([self.seed, self.is_shuffled, *rows])

    @property
    def epoch_length(self) -> int | None:
        """Positions after which every finite source has been gone through once; none if all are endless."""
        finite = [(n, d) for n, d in enumerate(self.domains) if not d.source.is_endless]
        shares = [len(d.source) * len(self._schedule) / self._per_cycle[n] for n, d in finite]
        return int(np.ceil(max(shares))) if shares else None

    def _permutation(self, domain: int, epoch: int) -> Sequence[int] | NDArray[np.int64]:
        return self.domains[domain].source.order([ORDER_STREAM, self.seed, domain, epoch])


def build_schedule(weights: Sequence[float], cycle: int = CYCLE) -> NDArray[np.int64]:
    """The order of turns: ``[cycle]`` domain numbers, each as evenly spread as can be.

    A domain with ``n`` turns asks for the times ``(i + 1/2) / n``, and the turns go in the order of the times asked.

    Raises:
        UserError: a weight is too small to get one turn in a cycle.
    """
    if len(weights) == 1:
        return np.zeros(1, np.int64)
    exact = np.asarray(weights, float) / sum(weights) * cycle
    counts = np.floor(exact).astype(int)
    for number in np.argsort(counts - exact, kind="stable")[: cycle - counts.sum()]:
        counts[number] += 1
    if counts.min() < 1:
        raise UserError(f"mixture weight {min(weights)}: below 1/{cycle} of all; raise it or leave the source out")
    times = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    return np.repeat(np.arange(len(weights)), counts)[np.argsort(times, kind="stable")]


def domain_names(mixture: Sequence[PartConfig]) -> list[str]:
    """What logs and batches call each source: its ``domain``, else its name, numbered where that would be ambiguous.

    Raises:
        UserError: two sources are given the same ``domain``.
    """
    given = Counter(source.domain for source in mixture if source.domain)
    if twice := [name for name, count in given.items() if count > 1]:
        raise UserError(f"mixture: domain {twice[0]!r} is given to {given[twice[0]]} sources; name them apart")
    names: list[str] = []
    for source in mixture:
        name, number = source.domain or source.name, 1
        while not source.domain and (name in names or name in given):
            number += 1
            name = f"{source.name}_{number}"
        names.append(name)
    return names
