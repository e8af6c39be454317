"""The networks of a stage-2 recipe at full depth, on the meta device: every tensor has its shape and none has memory.

In: a resolved recipe. Out: its modules, as each process of a run builds them before any weight is read, and what they
come to: numbers, tensors, the pieces that sharding cuts and the largest of them. Where ``plan.py`` counts blocks on
shallow copies, here nothing is extrapolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import torch
from torch import nn

from raekit.conditioning.prompt import PromptConditioner
from raekit.cost import peak_bytes
from raekit.errors import UserError
from raekit.training.blocks import holders_of
from raekit.training.parallel.placement import parts_to_cut
from raekit.training.planning.latent_outline import latent_of
from raekit.training.planning.pieces import count
from raekit.training.planning.plan import outline_backbone, outline_condition, outline_reader
from raekit.training.planning.work import Rows


def assemble(config: Any) -> dict[str, nn.Module]:
    """Every network of a recipe, by the name of its part.

    Raises:
        UserError: the recipe is not one of stage 2.
    """
    if not hasattr(config, "latent_space"):
        raise UserError(f"--build: a recipe of stage {config.stage} has no generator to build; leave it out")
    latent = latent_of(config)
    conditioner = outline_condition(config, latent.shape).to("meta")
    modules = {"backbone": outline_backbone(config.backbone, latent.shape, conditioner.width), "condition": conditioner}
    if isinstance(conditioner, PromptConditioner):
        modules["language model"] = outline_reader(conditioner.config.language_model)
    return modules if latent.encoder is None else {**modules, "encoder": latent.encoder}


def describe_assembly(config: Any) -> Rows:
    """Rows of ``raekit explain --build``: each network, and what building them took of this process."""
    start = perf_counter()
    modules = assemble(config)
    seconds = perf_counter() - start
    memory = peak_bytes(torch.device("cpu")) / 1e9
    return [*sizes(modules), ("built in", f"{seconds:.1f} s; this process never held more than {memory:.2f} GB")]


def sizes(modules: Mapping[str, nn.Module]) -> Rows:
    """A row for each network."""
    rows = []
    for name, module in modules.items():
        pieces = [count(part) for holder in holders_of(module) for part in parts_to_cut(holder)]
        tensors = len(list(module.parameters()))
        cut = f"; {len(pieces)} pieces to cut, the largest of {max(pieces):,}" if pieces else "; stays whole"
        rows.append((name, f"{count(module):,} weights in {tensors} tensors{cut}"))
    return rows
