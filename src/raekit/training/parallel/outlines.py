"""A generator's large networks as outlines until they are cut: a process only ever holds the pieces that are its own.

In: how a generator is built, and perhaps weights that it starts from. Out: what builds its networks, as outlines where
they will be cut (``deferred.py``, ``unread.py``), and, once they are cut, the numbers in them: drawn, read from the
language model's files, or given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from raekit.backbones import BACKBONES
from raekit.backbones.base import Backbone
from raekit.checkpoint import check_fit, load_strict
from raekit.conditioning import CONDITIONERS
from raekit.conditioning.base import Conditioner
from raekit.conditioning.prompt import PromptConditioner
from raekit.training.parallel.deferred import Deferred
from raekit.training.parallel.sharding import fill
from raekit.training.parallel.unread import Unread

Builders = tuple[Callable[..., Backbone], Callable[..., Conditioner]]


class Outlines:
    """Networks of one generator.

    Args:
        condition: settings of its conditioner; a language model that learns is outlined, one that is frozen never is.
        is_used: false: everything is built and loaded at once, as on a single process.
    """

    def __init__(self, condition: Any, is_used: bool) -> None:
        self._deferred = Deferred[Backbone](lambda backbone: backbone.initialise())
        self._given: dict[nn.Module, Mapping[str, Tensor]] = {}
        is_llm_trained = isinstance(condition, PromptConditioner.Config) and condition.is_llm_trained
        self.unread = Unread.of(condition.language_model) if is_used and is_llm_trained else None
        self.is_used = is_used

    @property
    def builders(self) -> Builders:
        """What builds backbone and conditioner."""
        if not self.is_used:
            return BACKBONES.build, CONDITIONERS.build
        if self.unread is None:
            return self._outlined, CONDITIONERS.build
        language_model = self.unread.model, self.unread.tokenizer
        return self._outlined, partial(CONDITIONERS.build, language_model=language_model)

    def give(
        self, module: nn.Module, tensors: Mapping[str, Tensor], source: str, optional: frozenset[str] = frozenset()
    ) -> None:
        """Weights for a network: loaded at once, or, where it is an outline, when it is filled.

        Args:
            module: of the generator.
            tensors: by key of its state.
            source: where they are from, to begin a sentence with.
            optional: keys that may be missing, which keep what they start with.

        Raises:
            UserError: they do not fit.
        """
        if not _is_outline(module):
            return load_strict(module, tensors, source, optional)
        check_fit(module, tensors, source, optional)
        self._given[module] = tensors

    @torch.no_grad()
    def fill(self, backbone: Backbone, conditioner: Conditioner, device: torch.device) -> None:
        """Give what was outlined, now cut, its numbers, on a device."""
        if _is_outline(backbone):
            self._deferred.fill(backbone, device, is_drawn=backbone not in self._given)
        if self.unread is not None:
            self.unread.read(device)
            conditioner.to(device)
        for module, tensors in self._given.items():
            own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            fill({name: own[name].detach() for name in tensors}, tensors)
        self._given = {}

    def _outlined(self, settings: Any, **shape: Any) -> Backbone:
        return self._deferred.build(lambda: BACKBONES.build(settings, **shape))


def _is_outline(module: nn.Module) -> bool:
    return any(parameter.is_meta for parameter in module.parameters())
