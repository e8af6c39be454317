"""Muon that can be told on the device to leave everything as it is.

In: matrices with gradients, and ``found_inf``, a flag that lies beside them. Out: one step of ``torch.optim.Muon``, or
nothing at all where the flag is set; the host never learns which. PyTorch's fused AdamW has the same attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from raekit.training.parallel.sharding import cut_like, piece


class Muon(torch.optim.Muon):
    """``torch.optim.Muon`` with AdamW's ``found_inf``.

    Each matrix, fused ones (``qkv``, ``w12``, ``modulation``) as a whole, is moved by an orthogonalised momentum scaled
    to the root mean square that AdamW's updates have (Liu et al. 2025, arXiv 2502.16982), so that learning rate and
    decoupled weight decay mean the same for both.

    A sharded matrix (FSDP2) is moved piece by piece by the processes that hold them.

    A step that must not count is taken on the momentum instead of the gradient, which leaves the momentum as it is, and
    its update is thrown away. That keeps a second copy of one matrix at a time.

    Attributes:
        found_inf: 1.0 leaves weights and momentum as they are, 0.0 is an ordinary step; None is one as well.
    """

    found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure`` as in every optimiser."""
        loss = None if closure is None else closure()
        found_inf, groups = self.found_inf, self.param_groups
        for group in groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                is_bad = torch.zeros((), device=parameter.device) > 0 if found_inf is None else found_inf > 0
                weight, kept = piece(parameter), piece(parameter).clone()
                momentum = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter.grad))
                gradient = torch.where(is_bad, piece(momentum), piece(parameter.grad))
                if isinstance(parameter, DTensor):
                    self._move_piece(parameter, gradient, piece(momentum), group)
                else:
                    parameter.grad = gradient
                    self._move(parameter, group)
                weight.copy_(torch.where(is_bad, kept, weight))
        self.param_groups = groups
        return loss

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        """The step of PyTorch's Muon for one whole matrix."""
        self.param_groups = [{**group, "params": [parameter]}]
        super().step()  # type: ignore[no-untyped-call]

    def _move_piece(self, parameter: DTensor, gradient: Tensor, momentum: Tensor, group: dict[str, Any]) -> None:
        """The same for this process's rows of a sharded one: the momentum is gathered, and made orthogonal as a whole.

        Every process does so for every matrix, which costs arithmetic and saves sending the result.
        """
        momentum.lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
        shape = parameter.shape
        cut = DTensor.from_local(update, parameter.device_mesh, parameter.placements, shape=shape, stride=(shape[1], 1))
        change = nn.Parameter(torch.zeros(shape, device=update.device, dtype=update.dtype))
        change.grad = cut.full_tensor()
        self._move(change, {**group, "momentum": 0.0, "weight_decay": 0.0})
        del self.state[change]
        piece(parameter).mul_(1 - group["lr"] * group["weight_decay"]).add_(piece(cut_like(change.detach(), parameter)))
