"""Muon that can be told on the device to leave everything as it is.

In: matrices with gradients, and ``found_inf``, a flag that lies beside them. Out: one step of ``torch.optim.Muon``, or
nothing at all where the flag is set; the host never learns which. PyTorch's fused AdamW has the same attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Muon):
    """``torch.optim.Muon`` with AdamW's ``found_inf``.

    Each matrix, fused ones (``qkv``, ``w12``, ``modulation``) as a whole, is moved by an orthogonalised momentum scaled
    to the root mean square that AdamW's updates have (Liu et al. 2025, arXiv 2502.16982), so that learning rate and
    decoupled weight decay mean the same for both.

    A step that must not count is taken on the momentum instead of the gradient, which leaves the momentum as it is, and
    its update is thrown away. That keeps a second copy of one matrix at a time.

    Attributes:
        found_inf: 1.0 leaves weights and momentum as they are, 0.0 is an ordinary step; None is one as well.
    """

    found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure`` as in every optimiser."""
        if self.found_inf is None:
            return super().step(closure)  # type: ignore[no-untyped-call]
        loss = None if closure is None else closure()
        is_bad, groups = self.found_inf > 0, self.param_groups
        for group in groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                kept = parameter.clone()
                state = self.state[parameter]
                momentum = state.setdefault("momentum_buffer", torch.zeros_like(parameter.grad))
                parameter.grad = torch.where(is_bad, momentum, parameter.grad)
                self.param_groups = [{**group, "params": [parameter]}]
                super().step()  # type: ignore[no-untyped-call]
                parameter.copy_(torch.where(is_bad, kept, parameter))
        self.param_groups = groups
        return loss
