"""The best of N as a table and a plot, with the paper's numbers beside.

In: what every candidate scored, and which are right. Out: :class:`~raekit.studies.report.StudyReport`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from raekit.best_of import Choosing
from raekit.evaluate.figures import Mean
from raekit.evaluate.page import Row
from raekit.studies.plot import Panel, draw_panels
from raekit.studies.report import StudyReport
from raekit.studies.scaling import Timing, best_share, cost, over_tasks, random_share

TITLE = "Test-time scaling: the best of N"

RANDOM, ORACLE, CEILING = "chosen by chance", "chosen by the oracle", "true pictures, decoded"
PRUNED = "worse half dropped on the way"

PAPER_TITLE = "the paper's: GenEval, LLM 1.5B + DiT 5.5B, best 4 of N (Scale-RAE, table 5)"
PAPER: dict[str, dict[int, float]] = {
    "no verifier": {1: 0.532},
    "prompt confidence": {8: 0.567, 16: 0.575, 32: 0.600},
    "answer logits": {8: 0.596, 16: 0.625, 32: 0.643},
}

NOTES = (
    "ours: share of right pictures among those kept, mean over tasks; errors are over prompts, and the errors of a "
    "table's rows go together, for they share candidates and prompts",
    "scenes of emoji, judged by our checkers: comparable with no published score",
    f"{ORACLE}: the checker of the table, which knows the answer: nobody chooses better",
    f"{CEILING}: true pictures of the prompts, through the latent space: what the checker recognises at all",
    "seconds were measured while the candidates were drawn and judged in batches; judging pixels includes rendering",
)


@dataclass(frozen=True)
class Judged:
    """What one verifier says of ``P`` prompts' ``M`` candidates.

    Attributes:
        scores: ``[P, M]``, of the latents.
        estimates: ``[P, M]``, of where they were heading.
        seconds: of judging one.
    """

    scores: Tensor
    estimates: Tensor
    seconds: float


@dataclass(frozen=True)
class Findings:
    """Everything that was measured.

    Attributes:
        tasks: of each prompt.
        sizes: of the choice, N.
        keeps: how many are kept.
        right: by checker, ``[P, M]`` bool.
        ceiling: by checker, ``[P]`` bool, of true pictures.
        judged: by verifier.
        timing: of drawing and rendering one picture.
        walked: share of the steps after which the worse half may be dropped.
        settings: for the report.
    """

    tasks: list[str]
    sizes: list[int]
    keeps: list[int]
    right: dict[str, Tensor]
    ceiling: dict[str, Tensor]
    judged: dict[str, Judged]
    timing: Timing
    walked: float
    settings: dict[str, Any]


Line = list[Mean | None]
"""A value for each N; None where there is none."""


def report_of(found: Findings) -> StudyReport:
    """The report on what was measured."""
    columns = [f"N = {size}" for size in found.sizes]
    shares = {(checker, keep): dict(_shares(found, checker, keep)) for checker in found.right for keep in found.keeps}
    groups = [
        (f"right in the eyes of {checker}, best {keep} of N", [(name, _cells(line)) for name, line in lines.items()])
        for (checker, keep), lines in shares.items()
    ]
    costs = {keep: _costs(found, keep) for keep in found.keeps}
    for number, title in enumerate(("seconds for each picture kept", "share of them that verification takes")):
        for keep, rows in costs.items():
            cells = [(name, [_cost_cell(pair, number) for pair in pairs]) for name, pairs in rows.items()]
            groups.append((f"{title}, best {keep} of N", cells))
    groups.append((PAPER_TITLE, [_paper_row(name, values, found.sizes) for name, values in PAPER.items()]))
    return StudyReport(
        title=TITLE,
        settings=found.settings,
        columns=columns,
        groups=groups,
        figures=_figures(found, shares, costs),
        notes=list(NOTES),
        plot=draw_panels(list(_panels(found, shares))),
    )


def _shares(found: Findings, checker: str, keep: int) -> Iterator[tuple[str, Line]]:
    """Who chooses, and the share of right pictures for each N."""
    right = found.right[checker]
    yield RANDOM, [over_tasks(random_share(right), found.tasks)] * len(found.sizes)
    yield ORACLE, [_mean(found, best_share(right.double(), right, n, keep)) if n >= keep else None for n in found.sizes]
    for name, judged in found.judged.items():
        line: Line = [None] * len(found.sizes)
        pruned: Line = [None] * len(found.sizes)
        for index, num in enumerate(found.sizes):
            if num < keep:
                continue
            line[index] = _mean(found, best_share(judged.scores, right, num, keep))
            left = Choosing(num, keep, found.walked).num_left
            if left < num:
                pruned[index] = _mean(found, best_share(judged.scores, right, num, keep, judged.estimates, left))
        yield name, line
        yield f"{name}, {PRUNED}", pruned
    yield CEILING, [over_tasks(found.ceiling[checker].double(), found.tasks), *[None] * (len(found.sizes) - 1)]


def _mean(found: Findings, values: Tensor) -> Mean:
    return over_tasks(values, found.tasks)


def _costs(found: Findings, keep: int) -> dict[str, list[tuple[float, float] | None]]:
    """Who chooses; for each N the seconds for a picture kept, and the share of verification."""
    alone = cost(found.timing, keep, keep)
    rows: dict[str, list[tuple[float, float] | None]] = {RANDOM: [alone if n >= keep else None for n in found.sizes]}
    for name, judged in found.judged.items():
        timing = Timing(found.timing.draw, judged.seconds, found.timing.decode)
        rows[name] = [cost(timing, num, keep) if num >= keep else None for num in found.sizes]
        pruned: list[tuple[float, float] | None] = []
        for num in found.sizes:
            left = Choosing(num, keep, found.walked).num_left if num >= keep else num
            pruned.append(cost(timing, num, keep, left, found.walked) if left < num else None)
        rows[f"{name}, {PRUNED}"] = pruned
    return rows


def _cells(line: Line) -> list[str]:
    return ["-" if mean is None else f"{mean.value:.3f} ± {mean.standard_error:.3f}" for mean in line]


def _cost_cell(pair: tuple[float, float] | None, number: int) -> str:
    if pair is None:
        return "-"
    return f"{pair[0]:.3g}" if number == 0 else f"{pair[1]:.1%}"


def _paper_row(name: str, values: dict[int, float], sizes: list[int]) -> Row:
    return name, [f"{values[size]:.3f}" if size in values else "-" for size in sizes]


def _figures(
    found: Findings,
    shares: dict[tuple[str, int], dict[str, Line]],
    costs: dict[int, dict[str, list[tuple[float, float] | None]]],
) -> dict[str, Any]:
    """The table, unrounded."""
    return {
        "sizes": found.sizes,
        "prompts": len(found.tasks),
        "right": [
            {"checker": checker, "keep": keep, "by": name, "shares": [None if m is None else asdict(m) for m in line]}
            for (checker, keep), lines in shares.items()
            for name, line in lines.items()
        ],
        "cost": [
            {"keep": keep, "by": name, "seconds_and_verify_share": pairs}
            for keep, rows in costs.items()
            for name, pairs in rows.items()
        ],
        "seconds": {**asdict(found.timing), "verify": {name: judged.seconds for name, judged in found.judged.items()}},
        "paper": PAPER,
    }


def _panels(found: Findings, shares: dict[tuple[str, int], dict[str, Line]]) -> Iterator[Panel]:
    """A panel for each checker and number kept, and the paper's."""
    places = [str(size) for size in found.sizes]
    for (checker, keep), lines in shares.items():
        shown = {name: line for name, line in lines.items() if name != CEILING and any(line)}
        yield Panel(f"share right ({checker}), best {keep} of N", places, shown, "N")
    sizes = sorted({size for values in PAPER.values() for size in values})
    paper: dict[str, Line] = {
        name: [Mean(values[size], 0.0) if size in values else None for size in sizes] for name, values in PAPER.items()
    }
    yield Panel("the paper's GenEval, best 4 of N", [str(size) for size in sizes], paper, "N")
