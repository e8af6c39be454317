"""How a stage lies on the processes: whole on each of them, or cut into pieces. Applied to finished modules.

In: a stage, its modules built, and ``train.parallel``. Out: the same stage, and a :class:`Placement` through which the
loop takes its turns. Model code knows nothing of it.

**ddp**: every process holds everything; gradients are averaged while they arise (``reducer.py``). **fsdp**: the
weights of every block, their gradients, moments and averages are cut over all processes and gathered block by block
when needed (PyTorch's FSDP2, ``fully_shard``): Rajbhandari et al. 2020 (ZeRO), stage 3. What lies between the blocks, a
few percent, stays whole and goes the way of ddp, and so do the vectors in them, so that norms stay fp32; large tables
of a language model are cut like blocks. **hsdp** cuts within groups of processes, of one machine by default, and
averages between the groups.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
import torch.distributed as dist
from pydantic import Field
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from raekit import distributed
from raekit.config import Config
from raekit.device import pick_precision
from raekit.training.blocks import blocks_of, holders_of
from raekit.training.parallel.layout import Layout, Strategy, choose_layout
from raekit.training.parallel.reducer import Reducer
from raekit.training.parallel.sharding import gathered

if TYPE_CHECKING:
    from raekit.training.stage import Stage

# Nobody writes into what a network returns, which is all that this warns of.
warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")

T = TypeVar("T")

EXACT = MixedPrecisionPolicy(cast_forward_inputs=False)
"""Weights are gathered as they are; so is what enters a network, since bf16 products are autocast's matter."""
SYNCED_ONCE_BELOW = 2_000_000_000
"""Trained weights up to which ``sync: auto`` keeps whole fp32 gradients through a step's micro-batches: 8 GB."""
LARGE_LAYER = 2**24
"""Numbers in a layer between the blocks from which on it is cut too: the vocabulary of a language model."""


class ParallelConfig(Config):
    """How several processes share the work; one process ignores it. Never a result."""

    strategy: Strategy = "auto"
    """``auto``: ``ddp`` below a billion trained weights, ``fsdp`` from there on."""
    shard_size: int | None = Field(None, gt=0)
    """``hsdp``: processes that share one copy of the weights; None = those of one machine."""
    is_resharded: bool = True
    """``fsdp``: free a block's gathered weights after its forward pass and gather them again on the way back; false
    keeps them, which saves a third of the traffic and costs the memory of all weights."""
    sync: Literal["auto", "step", "micro_batch"] = "auto"
    """``fsdp``, ``hsdp``: when gradients are cut and summed: once a ``step``, each process keeping whole ones till
    then, or after every ``micro_batch``; ``auto``: once a step below two billion trained weights. ``hsdp`` averages
    between its groups, and ``ddp`` everything, once a step in any case."""
    frozen: Literal["replicated", "sharded"] = "replicated"
    """Frozen networks (encoder, language model): whole on every process, or their blocks cut and gathered when run."""


class Placement:
    """Where a stage's weights are, and when their gradients meet.

    Args:
        layout: how, and why.
        roots: networks whose blocks are cut.
        is_synced_once: gradients of cut blocks meet once a step.
    """

    def __init__(self, layout: Layout, roots: Sequence[FSDPModule] = (), is_synced_once: bool = True) -> None:
        self.layout, self.roots, self.is_synced_once = layout, roots, is_synced_once
        self._reducer: Reducer | None = None

    @property
    def is_sharded(self) -> bool:
        """Whether a network only runs where all processes run it together."""
        return bool(self.roots)

    def reducer(self, parameters: Iterable[nn.Parameter]) -> Reducer:
        """What averages the gradients of a player's weights; those that are cut see to themselves."""
        return Reducer(p for p in parameters if not isinstance(p, DTensor))

    @contextmanager
    def turn(self, reducer: Reducer) -> Iterator[None]:
        """A player's turn; after it the gradients of its weights are averages over the processes."""
        self._reducer = reducer
        try:
            yield
        finally:
            self._reducer = None
        reducer.finish()

    def accumulate(self, micros: Sequence[T]) -> Iterator[T]:
        """The micro-batches of a turn, each to be sent backward once before the next is asked for.

        Gradients travel during the last one only.
        """
        for number, micro in enumerate(micros, start=1):
            self._sync(number == len(micros))
            yield micro

    def gathered(self, modules: Iterable[nn.Module]) -> AbstractContextManager[None]:
        """Whole weights on the first process meanwhile, to be written; see ``sharding.gathered``."""
        return gathered(modules) if self.is_sharded else nullcontext()

    def _sync(self, is_last: bool) -> None:
        if is_last and self._reducer is not None:
            self._reducer.arm()
        for root in self.roots:
            root.set_requires_gradient_sync(is_last or not self.is_synced_once)
            root.set_requires_all_reduce(is_last)
            root.set_is_last_backward(is_last)


ALONE = choose_layout(0, 1, 1)


def place(stage: Stage) -> Placement:
    """Put a stage's modules onto the processes, in place, and tell it where they are.

    Call it after blocks were wrapped and before optimisers are built: cut weights are other objects.

    Raises:
        UserError: a strategy that the number of processes does not allow.
    """
    if dist.is_initialized():
        train = stage.config.train
        frozen = stage.frozen() if train.parallel.frozen == "sharded" else {}
        is_bf16 = pick_precision(train.precision, stage.device) == "bf16"
        cut = set(stage.blocks())  # a list of anything else, as the heads of a discriminator, stays whole
        modules = {name: module for name, module in stage.modules().items() if not cut.isdisjoint(blocks_of(module))}
        stage.placement = place_modules(modules, train.parallel, stage.device, is_bf16, frozen, stage.fill)
    return stage.placement


def place_modules(
    modules: Mapping[str, nn.Module],
    config: ParallelConfig,
    device: torch.device,
    is_bf16: bool,
    frozen: Mapping[str, nn.Module] | None = None,
    fill: Callable[[], None] = lambda: None,
) -> Placement:
    """Put modules onto the processes of the group, in place.

    Args:
        modules: that are trained, wholly or in part.
        config: how.
        device: of this process.
        is_bf16: blocks that are cut are gathered in bf16; their gradients are summed in fp32 in any case.
        frozen: networks that are cut too, where weights are cut at all, and gathered as they are.
        fill: gives outlines, now cut, their numbers (``deferred.py``).
    """
    trained = sum(p.numel() for module in modules.values() for p in module.parameters() if p.requires_grad)
    layout = layout_of(trained, config)
    roots: list[FSDPModule] = []
    if layout.strategy != "ddp":
        mesh = _mesh(device, layout)
        rounded = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        for module in modules.values():
            roots += shard(module, mesh, rounded if is_bf16 else EXACT, config.is_resharded)
        for module in (frozen or {}).values():
            roots += shard(module, mesh, EXACT, config.is_resharded)
    fill()
    for root in roots:
        _declare_root(root)
    is_synced_once = config.sync == "step" or (config.sync == "auto" and trained < SYNCED_ONCE_BELOW)
    return Placement(layout, roots, is_synced_once)


def may_be_cut(config: ParallelConfig) -> bool:
    """Whether weights may come to lie in pieces, known before they are counted."""
    return distributed.world() > 1 and config.strategy != "ddp"


def layout_of(trained: int, config: ParallelConfig) -> Layout:
    """The layout of so many trained weights on the processes at hand.

    Raises:
        UserError: a strategy that their number does not allow.
    """
    world = distributed.world()
    node_size = config.shard_size or int(os.environ.get("LOCAL_WORLD_SIZE", world))
    return choose_layout(trained, world, node_size, config.strategy)


def shard(
    module: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy, is_resharded: bool = True
) -> list[FSDPModule]:
    """Cut the blocks and large tables of a module, in place; the rest stays whole.

    Args:
        module: of any depth; everything in it that holds a list of blocks becomes a network of its own to FSDP2.
        mesh: of the processes; of two dimensions for ``hsdp``.
        policy: arithmetic of gathered blocks and of the sums of their gradients.
        is_resharded: free gathered weights between the forward and the backward pass.

    Returns:
        Those networks.
    """
    roots: list[FSDPModule] = []
    for holder in holders_of(module):
        if isinstance(holder, FSDPModule):
            continue
        blocks = set(blocks_of(holder))
        for part in parts_to_cut(holder):  # some of the others compute outside autocast, in what their weights are
            own, vectors = policy if part in blocks else EXACT, {p for p in part.parameters() if p.ndim < 2}
            fully_shard(part, mesh=mesh, mp_policy=own, reshard_after_forward=is_resharded, ignored_params=vectors)
        ends = {parameter for parameter in holder.parameters() if not isinstance(parameter, DTensor)}
        roots.append(fully_shard(holder, mesh=mesh, mp_policy=policy, ignored_params=ends))
    return roots


def parts_to_cut(holder: nn.Module) -> list[nn.Module]:
    """What of a network is cut and gathered one at a time: its blocks and large tables."""
    return [*blocks_of(holder), *_large_layers(holder)]


def _declare_root(holder: Any) -> None:
    """Settle, once it is filled, that FSDP2's root is the holder: a table in it may be asked for words ahead of it."""
    holder._get_fsdp_state()._lazy_init()


def _large_layers(holder: nn.Module) -> list[nn.Module]:
    """Large layers of a network outside its blocks, if nobody else shares their weights."""
    if getattr(getattr(holder, "config", None), "tie_word_embeddings", False):
        return []
    in_blocks = {part for block in blocks_of(holder) for part in block.modules()}
    outside = (part for part in holder.modules() if part not in in_blocks)
    layers = [part for part in outside if isinstance(part, nn.Linear | nn.Embedding)]
    return [layer for layer in layers if layer.weight.numel() >= LARGE_LAYER]


def _mesh(device: torch.device, layout: Layout) -> DeviceMesh:
    if layout.strategy == "fsdp":
        return init_device_mesh(device.type, (layout.num_shards,))
    shape = (layout.num_replicas, layout.num_shards)
    return init_device_mesh(device.type, shape, mesh_dim_names=("copies", "pieces"))
