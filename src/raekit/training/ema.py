"""Averaged weights: what is evaluated, drawn with and exported.

In: live parameters after every optimiser step. Out: their exponential moving average in fp32 (RAE, appendix: decay
0.9978 in stage 1, 0.9995 in stage 2). A run may keep several averages, one for each decay.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from raekit.training.parallel.sharding import fill, piece


class EMA:
    """Averaged copies of named parameters: ``e <- d e + (1 - d) p`` after every optimiser step, in fp32.

    Only parameters that are trained are averaged; frozen ones and buffers are read from the module itself. The average
    of a sharded parameter is cut like it; each process moves its own piece.
    """

    def __init__(self, named_parameters: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self._live = dict(named_parameters)
        self.values = {name: p.detach().float().clone() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self, found_inf: Tensor | None = None) -> None:
        """Move the average one step towards the live weights, or, where ``found_inf`` is 1.0, leave it as it is."""
        if not self.values:
            return
        live = [piece(p.detach()).float() for p in self._live.values()]
        averages = [piece(value) for value in self.values.values()]
        share = 1 - self.decay
        if found_inf is None:
            torch._foreach_lerp_(averages, live, share)
        else:
            torch._foreach_lerp_(averages, live, [share * (1 - found_inf)] * len(averages))

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Restore averages saved from :attr:`values`."""
        fill(self.values, values)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange live and averaged weights; call again to undo (used around evaluation)."""
        for name, parameter in self._live.items():
            live, average = piece(parameter.detach()), piece(self.values[name])
            kept = live.clone()
            live.copy_(average)
            average.copy_(kept)
