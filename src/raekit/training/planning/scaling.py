"""The tables of ``docs/scaling.md``: what the published sizes would take on 8 to 512 GPUs, by ``raekit explain``.

In: the page, and the recipes of Scale-RAE's pretraining (table 8: DiT of 2.4 B to 9.8 B). Out: the page with its tables
renewed. For each number of GPUs the fastest plan that fits is taken: over layouts, pictures at once and ways to keep
activations. Nothing is run. ``python scripts/write_scaling.py`` writes the page, and a test holds it to that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from raekit.training.parallel.layout import Strategy
from raekit.training.planning.budget import Budget, plan_budget
from raekit.training.planning.machines import Machine
from raekit.training.planning.memory import MODES, checkpoint_bytes, trained_weights
from raekit.training.planning.work import Part
from raekit.training.recipe import load_recipe
from raekit.training.stage import TrainConfig

MODELS = {
    "2.4B": "t2i_pretrain_2.4b",
    "3.1B": "t2i_pretrain_3.1b",
    "5.5B": "t2i_pretrain_5.5b",
    "9.8B": "t2i_pretrain_9.8b",
}
"""Size of the DiT, and its recipe."""
GPU = "h100"
COUNTS = (8, 16, 32, 64, 128, 256, 512)
STRATEGIES: tuple[Strategy, ...] = ("ddp", "fsdp", "hsdp")
MOST_AT_ONCE = 64
"""Pictures of one GPU in one pass; more fill it no better."""
COLUMNS = (
    "GPUs",
    "layout",
    "passes x at once",
    "again",
    "GB a GPU",
    "pictures/s",
    "hours",
    "arithmetic, s",
    "messages, s",
    "bound by",
)

TABLE = re.compile(r"(<!-- (?P<size>\S+): .*? -->\n).*?(?=<!-- end -->)", re.DOTALL)
"""A table in the page, between two comments; the first names the size."""


def renewed(text: str, recipes: Path, sizes: Sequence[str] = tuple(MODELS)) -> str:
    """The page with its tables written anew, and everything else as it is.

    Args:
        text: of the page.
        recipes: the folder ``recipes/stage2``.
        sizes: those whose tables are written.
    """

    def table(found: re.Match[str]) -> str:
        size = found["size"]
        return found[1] + section(recipes, size) if size in sizes else found[0]

    return TABLE.sub(table, text)


def section(recipes: Path, size: str) -> str:
    """Title and table of one model.

    Args:
        recipes: the folder ``recipes/stage2``.
        size: of the DiT, a name of :data:`MODELS`.
    """
    recipe = load_recipe(recipes / f"{MODELS[size]}.yaml")
    parts, train = recipe.parts(), recipe.train
    count, stored = trained_weights(parts), sum(checkpoint_bytes(parts, train).values())
    title = f"**DiT of {size}**: {count / 1e9:.2f} B trained weights, a checkpoint of {stored / 1e9:.0f} GB"
    lines = [title, "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([*lines, *(_line(parts, train, number) for number in COUNTS)]) + "\n"


def fastest(parts: Sequence[Part], train: TrainConfig, machine: Machine) -> Budget | None:
    """The plan of the shortest step that fits; of equals the one that keeps more and passes less. None = none fits."""
    fitting = [plan for plan in plans(parts, train, machine) if plan.bytes_held <= machine.bytes_to_fill]
    return min(fitting, key=lambda plan: (plan.step_seconds, -plan.batch), default=None)


def plans(parts: Sequence[Part], train: TrainConfig, machine: Machine) -> Iterator[Budget]:
    """Every layout, number of pictures at once and way to keep activations."""
    share = train.batch_size // machine.num_gpus
    at_once = [number for number in range(1, min(share, MOST_AT_ONCE) + 1) if share % number == 0]
    for number in at_once:
        for mode in MODES:
            settings = {"micro_batch_size": number * machine.num_gpus, "checkpoint_activations": mode}
            for strategy in STRATEGIES:
                yield plan_budget(parts, train.model_copy(update=settings), machine, strategy)


def _line(parts: Sequence[Part], train: TrainConfig, num_gpus: int) -> str:
    machine = Machine(GPU, num_gpus)
    plan = fastest(parts, train, machine)
    if plan is None:
        return f"| {num_gpus} | none fits {'| ' * (len(COLUMNS) - 3)}| memory |"
    states = sum(s.weights + s.gradients + s.moments + s.averages for s in plan.held if s.gradients)
    activations = plan.batch * sum(share.activations for share in plan.held)
    memory = (states, plan.bytes_held - states - activations, activations)
    layout = plan.layout.strategy.upper() + (f" / {plan.layout.num_shards}" if plan.layout.is_sharded else "")
    passes = train.batch_size // (plan.batch * num_gpus)
    hours = train.steps * plan.step_seconds / 3600
    cells = [
        str(num_gpus),
        layout,
        f"{passes} x {plan.batch}",
        plan.checkpointing,
        " + ".join(f"{part / 1e9:.0f}" for part in memory),
        f"{train.batch_size / plan.step_seconds:,.0f}",
        f"{hours:,.1f}",
        f"{plan.compute_seconds:.2f}",
        f"{plan.traffic.seconds:.2f}",
        "messages" if plan.traffic.seconds > plan.compute_seconds else "arithmetic",
    ]
    return f"| {' | '.join(cells)} |"
