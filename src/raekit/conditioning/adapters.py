"""Low-rank adapters that are part of a condition: what its frozen language model learned beside what it knew.

    y = W x + alpha / rank * B A x

In: a frozen language model. Out: the same, each chosen linear map followed by a pair of thin matrices that are trained,
saved and loaded with the generator, so that its file names the language model for all but a few megabytes. (LoRA of
Hu et al. 2021. Adapters that come and go beside any finished generator are another matter: ``lora.py``.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raekit import config
from raekit.errors import UserError

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear maps of a block, as Llama, Qwen2 and their kin name them."""


class AdaptersConfig(config.Config):
    """Which linear maps of the language model are adapted, and how much an adapter can say.

    They learn together with all else that the recipe trains, are averaged with it, and are stored in the generator.
    ``lora`` of stage 2 (``lora.py``) is for afterwards: adapters and nothing else learn beside a finished generator,
    and become a file of their own, which is loaded, scaled and left out at will.
    """

    rank: int = Field(16, ge=1)
    """Inner width of an adapter."""
    alpha: float = Field(16.0, gt=0)
    """An adapter's output is multiplied by ``alpha / rank``."""
    targets: tuple[str, ...] = Field(TARGETS, min_length=1)
    """Last names of the linear maps in the blocks."""
    num_blocks: int | None = Field(None, ge=1)
    """Only the last so many blocks; None = all."""


class Adapter(nn.Module):
    """``B A x``, scaled; says nothing at first, as ``B`` is zero.

    Args:
        in_width: of ``x``.
        out_width: of the result.
        settings: rank and scale.
    """

    def __init__(self, in_width: int, out_width: int, settings: AdaptersConfig) -> None:
        super().__init__()
        self.scale = settings.alpha / settings.rank
        self.down = nn.Linear(in_width, settings.rank, bias=False)
        self.up = nn.Linear(settings.rank, out_width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in_width]`` to ``[..., out_width]``, in the type of ``x`` (which may be a frozen model's bf16)."""
        inner = F.linear(x, self.down.weight.to(x.dtype))
        return self.scale * F.linear(inner, self.up.weight.to(x.dtype))


class Adapters(nn.ModuleDict):
    """One adapter for each chosen linear map of a language model, by its name with underscores.

    Args:
        settings: which and how large.
        model: frozen; from now on its linear maps say what the adapters say, too.

    Raises:
        UserError: it has none of the linear maps, or fewer blocks.
    """

    def __init__(self, settings: AdaptersConfig, model: Any) -> None:
        super().__init__()
        for name, linear in _chosen(settings, model):
            self[name] = adapter = Adapter(linear.in_features, linear.out_features, settings)
            linear.register_forward_hook(partial(_also, adapter))
        if not len(self):
            found = {name.rpartition(".")[2] for block in _blocks(model) for name, _ in _linears(block)}
            raise UserError(
                f"condition.lora.targets: no linear map of the language model is called {', '.join(settings.targets)}; "
                f"those in its blocks are {', '.join(sorted(found))}"
            )


@torch.no_grad()
def merge(settings: AdaptersConfig, model: Any, tensors: Mapping[str, Tensor]) -> None:
    """Add what adapters say to the weights of their language model, for good.

    Args:
        settings: which and how large.
        model: without adapters; changed in place.
        tensors: the state of its :class:`Adapters`.
    """
    for name, linear in _chosen(settings, model):
        down, up = (tensors[f"{name}.{part}.weight"].to(linear.weight) for part in ("down", "up"))
        linear.weight += settings.alpha / settings.rank * up @ down


def _chosen(settings: AdaptersConfig, model: Any) -> Iterator[tuple[str, nn.Linear]]:
    """The linear maps that are adapted, by their adapters' names."""
    blocks = _blocks(model)
    first = 0 if settings.num_blocks is None else len(blocks) - settings.num_blocks
    if first < 0:
        raise UserError(f"condition.lora.num_blocks: {settings.num_blocks}, the language model has {len(blocks)}")
    for number in range(first, len(blocks)):
        for name, linear in _linears(blocks[number]):
            if name.rpartition(".")[2] in settings.targets:
                yield f"layers_{number}_{name.replace('.', '_')}", linear


def _blocks(model: nn.Module) -> nn.ModuleList:
    """The blocks of a language model, whatever it calls them: ``layers`` of a decoder, ``encoder.block`` of a T5."""
    return next(module for module in model.modules() if isinstance(module, nn.ModuleList))


def _linears(block: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    return ((name, module) for name, module in block.named_modules() if isinstance(module, nn.Linear))


def _also(adapter: Adapter, linear: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    """The hook behind a linear map."""
    del linear
    said: Tensor = adapter(inputs[0])
    return output + said.to(output.dtype)
