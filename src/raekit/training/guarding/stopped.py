"""The report that a run leaves when it stops itself: ``stopped.md`` in the run directory.

In: the guards, and the row of bad steps that ended the run. Out: what happened, the numbers of the last steps, and what
to try, for somebody who comes back in the morning.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from raekit.files import write_atomically
from raekit.training.guarding.bad_steps import Row
from raekit.training.guarding.guards import GOOD, NOT_FINITE, SPIKE, WORDS, Guards, Turns

REPORT = "stopped.md"
SHOWN_TURNS = 40
"""Most turns of each player in the report's table."""

ADVICE = {
    NOT_FINITE: (
        "Compute in full precision: `--set train.precision=fp32`. If that helps, something overflows in bf16.",
        "Look at the pictures of the first bad step: its samples are named by position below.",
    ),
    SPIKE: (
        "Warm up for longer, or clip harder: `optim.schedule.warmup_steps`, `optim.clip_norm`.",
        "If the loss is meant to jump here: `--set train.guards.loss_spike=null`; for gradient norms, "
        "`--set train.guards.gradient_spike=null`.",
    ),
}
"""What to try, by verdict."""


def kinds(guards: Guards, row: Row) -> str:
    """The verdicts on the row's turns in words: ``18 not finite, 2 spikes``."""
    steps = range(row.first_step, row.first_step + row.length)
    found = Counter(kind for turns in guards.players.values() for step, kind, _ in turns.rows() if step in steps)
    parts = [f"{found[NOT_FINITE]} not finite"] if found[NOT_FINITE] else []
    parts += [f"{found[SPIKE]} spike{'s' * (found[SPIKE] > 1)}"] if found[SPIKE] else []
    return ", ".join(parts) or "longer ago than the report remembers"


def past(guards: Guards) -> str:
    """Why a run that may not go back may not, in a sentence."""
    if guards.went_back_from is None:
        return "It did not go back to a checkpoint: `train.guards.goes_back` is off."
    factor = guards.config.lr_factor
    return (
        f"It had gone back to a checkpoint from step {guards.went_back_from} before, and went on with {factor:g} times "
        "the learning rate; that did not help."
    )


def write_report(run: Path, guards: Guards, row: Row, samples: range, why: str) -> Path:
    """Write the report of a run that stopped.

    Args:
        run: the run directory.
        guards: what was seen.
        row: the bad steps in a row.
        samples: positions in the data stream that the first bad step used.
        why: it stopped instead of going back, in a sentence.

    Returns:
        Where it lies.
    """
    first, length = row.first_step, row.length
    lines = [
        f"# Training stopped: {length} bad steps in a row from step {first}",
        "",
        f"They were not taken ({kinds(guards, row)}): weights, optimiser and averages are as they were before them.",
        f"The limit is `train.max_bad_steps = {guards.max_bad_steps}`.",
        why,
        "",
        "## What to try",
        "",
        *(f"- {line}" for line in _advice(guards, row)),
        "",
        "Then go on from the newest checkpoint: `raekit train RECIPE --set ... --resume`.",
        "",
        "## The last steps",
        "",
        f"Step {first} used the samples at positions {samples.start} to {samples.stop - 1} of the data stream.",
        "Losses are averages over all processes; gradient norms are those before clipping.",
    ]
    for name, turns in guards.players.items():
        lines += ["", *_table(name, turns)]
    path = run / REPORT
    write_atomically(path, ("\n".join(lines) + "\n").encode())
    return path


def _advice(guards: Guards, row: Row) -> list[str]:
    steps = range(row.first_step, row.first_step + row.length)
    found = {kind for turns in guards.players.values() for step, kind, _ in turns.rows() if step in steps}
    lines = ["Lower the learning rate: `--set optim.lr=...` (and that of the other groups, if they have their own)."]
    return lines + [line for kind, advice in ADVICE.items() if kind in found for line in advice]


def _table(name: str, turns: Turns) -> list[str]:
    names = turns.window.names
    rows = list(turns.rows())[-SHOWN_TURNS:]
    usual = turns.window.usual()
    return [
        f"### {name or 'model'}",
        "",
        f"| step | {' | '.join(names)} | verdict |",
        f"|---|{'---|' * len(names)}---|",
        *(f"| {step} | {_numbers(values)} | {'' if kind == GOOD else WORDS[kind]} |" for step, kind, values in rows),
        f"| usual | {_numbers(usual)} | median of the accepted steps |",
    ]


def _numbers(values: dict[str, float]) -> str:
    return " | ".join(f"{value:.4g}" for value in values.values())
