"""What a run costs on given GPUs: memory of each, pictures a second, hours. For ``raekit explain RECIPE --gpu h100``.

In: the parts of a recipe with their work, its batch and steps, a machine. Out: rows to print. Nothing is measured: the
arithmetic is counted (``work.py``), memory is summed (``memory.py``), messages are counted (``traffic.py``), and speeds
are the vendor's peaks (``machines.py``) times the share of them that the caller believes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from raekit.errors import UserError
from raekit.training.parallel.layout import Layout, Strategy, choose_layout
from raekit.training.planning.machines import LINK_SHARE, RESERVE, Machine
from raekit.training.planning.memory import (
    MODES,
    Share,
    arithmetic_of,
    asked_checkpointing,
    checkpoint_bytes,
    fitting_batch,
    fitting_checkpointing,
    micro_batch_of_a_rank,
    shares,
    total,
    trained_weights,
)
from raekit.training.planning.traffic import Traffic, traffic
from raekit.training.planning.work import Checkpointing, Part, Rows
from raekit.training.stage import TrainConfig

GIGA = 1e9


@dataclass(frozen=True)
class Budget:
    """A run on a machine, in numbers.

    Attributes:
        layout: how weights lie.
        checkpointing: which blocks are run again.
        fitting: the fastest way of it that fits; None = none does.
        held: what a process holds, by part.
        batch: pictures that a process takes at once.
        traffic: what it sends at a step.
        compute_seconds: arithmetic of a step.
    """

    layout: Layout
    checkpointing: Checkpointing
    fitting: Checkpointing | None
    held: list[Share]
    batch: int
    traffic: Traffic
    compute_seconds: float

    @property
    def step_seconds(self) -> float:
        """Of a step, where messages travel behind the arithmetic."""
        return max(self.compute_seconds, self.traffic.seconds)

    @property
    def bytes_held(self) -> int:
        """Of one process."""
        return total(self.held, self.batch)


def plan_budget(parts: Sequence[Part], train: TrainConfig, machine: Machine, strategy: Strategy = "auto") -> Budget:
    """Memory, messages and seconds of a recipe.

    Raises:
        UserError: the stage counts no parts, or the strategy does not fit the machine.
    """
    if not parts:
        raise UserError("--gpu: what this recipe trains is not counted; leave it out, or ask of another recipe")
    group = train.parallel.shard_size or machine.gpus_of_a_node
    layout = choose_layout(trained_weights(parts), machine.num_gpus, group, strategy)
    fitting = fitting_checkpointing(parts, train, layout, machine.bytes_to_fill)
    checkpointing = asked_checkpointing(train) or fitting or "full"
    operations = sum(part.operations(checkpointing) for part in parts)
    speed = machine.peak(arithmetic_of(train)) * machine.mfu * machine.num_gpus
    return Budget(
        layout,
        checkpointing,
        fitting,
        shares(parts, train, layout, checkpointing),
        micro_batch_of_a_rank(train, layout),
        traffic(parts, train, machine, layout),
        operations * train.batch_size / speed,
    )


def budget(parts: Sequence[Part], train: TrainConfig, machine: Machine, strategy: Strategy = "auto") -> Rows:
    """The rows of ``raekit explain --gpu``; errors as of :func:`plan_budget`."""
    plan = plan_budget(parts, train, machine, strategy)
    return [
        ("strategy", _strategy(plan.layout)),
        ("operations a picture", _operations(parts, plan.checkpointing)),
        ("memory a GPU, GB", _table(plan.held)),
        ("activations", _activations(parts, train, plan)),
        ("together", _verdict(plan, train, machine)),
        ("speed", _speed(plan, train, machine)),
        ("communication", _communication(plan)),
        ("time", _time(plan, train)),
        ("checkpoint", _checkpoint(parts, train)),
        ("assumed", _assumed(machine)),
    ]


def _strategy(layout: Layout) -> str:
    copies = f"{layout.num_replicas} {'copy' if layout.num_replicas == 1 else 'copies'}"
    how = {
        "ddp": "everything on each GPU",
        "fsdp": f"one shard in {layout.num_shards} on each GPU",
        "hsdp": f"one shard in {layout.num_shards} on each GPU, in {copies}",
    }
    return f"{layout.strategy.upper()}, {how[layout.strategy]} ({layout.reason})"


def _operations(parts: Sequence[Part], checkpointing: Checkpointing) -> str:
    counts = {part.name: part.operations(checkpointing) for part in parts}
    each = ", ".join(f"{name} {count / GIGA:,.0f} G" for name, count in counts.items() if count)
    return f"{each}; in all {sum(counts.values()) / 1e12:.3g} T (a multiply-add is two)"


def _table(held: Sequence[Share]) -> str:
    """A line for each part, and their sum; activations are of one picture."""
    names = [field.name for field in fields(Share)][1:]
    rows = [(share.name, [getattr(share, name) for name in names]) for share in held]
    rows.append(("in all", [sum(column) for column in zip(*(values for _, values in rows), strict=True)]))
    width = max(len(name) for name, _ in rows)
    lines = [f"{'':<{width}}  {'  '.join(names)}  (of a picture)"]
    for name, values in rows:
        cells = (f"{value / GIGA:>{len(title)}.2f}" for value, title in zip(values, names, strict=True))
        lines.append(f"{name:<{width}}  {'  '.join(cells)}")
    return "\n".join(lines)


def _activations(parts: Sequence[Part], train: TrainConfig, plan: Budget) -> str:
    """What each way of keeping them comes to, and which is the fastest that fits."""
    kept = {mode: sum(s.activations for s in shares(parts, train, plan.layout, mode)) for mode in MODES}
    sizes = ", ".join(f"{mode} {size / GIGA:.2f}" for mode, size in kept.items())
    advice = "no checkpointing fits" if plan.fitting is None else f"{plan.fitting} is the fastest that fits"
    return f"GB of a picture by checkpointing: {sizes}; counted here: {plan.checkpointing}; {advice}"


def _usable(most: int, batch_size: int, num_gpus: int) -> int | None:
    """The largest micro-batch of at most ``most`` pictures a GPU that a recipe may state; None: there is none."""
    fair = (size for size in range(most * num_gpus, 0, -1) if batch_size % size == 0 and size % num_gpus == 0)
    return next(fair, None)


def _verdict(plan: Budget, train: TrainConfig, machine: Machine) -> str:
    most = fitting_batch(plan.held, machine.bytes_to_fill)
    if plan.batch <= most:
        verdict = f"fits; up to {most} would"
    elif most:
        fitting = _usable(most, train.batch_size, machine.num_gpus)
        advice = "" if fitting is None else f": train.micro_batch_size {fitting}"
        verdict = f"does not fit; {most} would{advice}"
    elif plan.layout.is_sharded:
        verdict = "does not fit whatever the batch; more GPUs have to share it"
    else:
        verdict = "does not fit whatever the batch; it has to be sharded: --strategy fsdp"
    if train.micro_batch % machine.num_gpus:
        verdict += f"; train.micro_batch_size {train.micro_batch} must be a multiple of the GPUs"
    return f"{plan.bytes_held / GIGA:.0f} of {machine.board.gigabytes:g} GB with {plan.batch} at once: {verdict}"


def _speed(plan: Budget, train: TrainConfig, machine: Machine) -> str:
    arithmetic = arithmetic_of(train)
    words = {"bf16": "bf16", "tf32": "fp32 as TF32", "fp32": "fp32 (train.float32_matmul_precision: high is TF32)"}
    peak = f"{machine.mfu:.0%} of {machine.peak(arithmetic) / 1e12:g} TFLOP/s"
    pace = f"{train.batch_size / plan.step_seconds:,.0f} pictures/s, {plan.step_seconds:.2g} s a step"
    return f"{machine.num_gpus} {machine.gpu} at {peak} each, {words[arithmetic]}: {pace}"


def _communication(plan: Budget) -> str:
    sent = plan.traffic
    if not sent.total:
        return "none"
    kinds = {"weights gathered": sent.gathered, "gradients scattered": sent.scattered, "gradients summed": sent.summed}
    each = ", ".join(f"{name} {size / GIGA:.1f}" for name, size in kinds.items() if size)
    times = f"{sent.seconds:.2g} s beside {plan.compute_seconds:.2g} s of arithmetic"
    verdict = "hidden behind it, at best" if sent.seconds <= plan.compute_seconds else "it sets the pace"
    return f"GB a step and GPU: {each}; {times}: {verdict}"


def _time(plan: Budget, train: TrainConfig) -> str:
    hours = train.steps * plan.step_seconds / 3600
    return f"{hours:,.1f} hours for {train.steps * train.batch_size:,} pictures, if the data keeps up"


def _checkpoint(parts: Sequence[Part], train: TrainConfig) -> str:
    sizes = checkpoint_bytes(parts, train)
    each = ", ".join(f"{name} {size / GIGA:.1f}" for name, size in sizes.items())
    return f"{sum(sizes.values()) / GIGA:.1f} GB: {each}; {train.keep_last} are kept"


def _assumed(machine: Machine) -> str:
    board, links = machine.board, []
    if machine.num_gpus > 1:
        links.append(f"{board.link:g} GB/s one way within nodes of {machine.gpus_of_a_node}")
    if machine.num_nodes > 1:
        links.append(f"{board.network:g} Gbit/s a GPU between them")
    reached = f"; {', '.join(links)}, {LINK_SHARE:.0%} of it reached" if links else ""
    return f"{board.gigabytes:g} GB, of which {RESERVE:.0%} for tensors{reached}"
