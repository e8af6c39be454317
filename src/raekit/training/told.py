"""What a batch of stage 2 says to a generator: latents of its pictures, and the condition of its captions or labels.

    pictures --encoder (frozen)----------> latent    -+
    captions --language model (frozen)---> features  -+-> Told --connector--> Cond
    labels -------------------------------------------+

In: a micro-batch, from the data or a cache. Out, in two steps: what no gradient passes through, which may be computed
ahead of the step (``encoders/ahead.py``); and what one does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raekit.conditioning.base import Cond
from raekit.conditioning.prompt import PromptConditioner
from raekit.data.loader import Batch
from raekit.data.transforms import to_float
from raekit.device import sent
from raekit.errors import UserError
from raekit.generate import ImageGenerator, TextToImage
from raekit.training.cached import CachedBatch
from raekit.training.draws import Draws


@dataclass(frozen=True)
class Told:
    """A batch after the frozen networks.

    Attributes:
        batch: as the data or the cache gave it.
        latent: ``[B,C,h,w]``.
        features: what a language model said that stays as it is; None where it learns, or classes tell.
    """

    batch: Any
    latent: Tensor
    features: Mapping[str, Tensor] | None = None


class Teller:
    """Takes batches through the networks of a generator.

    Args:
        generator: that learns from them.
    """

    def __init__(self, generator: ImageGenerator) -> None:
        self.generator = generator

    def tell(self, batch: CachedBatch | Batch, draws: Draws) -> Told:
        """A batch through the frozen networks."""
        return Told(batch, self.latents(batch, draws), self.features(batch))

    @torch.no_grad()
    def latents(self, batch: CachedBatch | Batch, draws: Draws) -> Tensor:
        """``[B,C,h,w]``, from the cache or of the pictures."""
        if isinstance(batch, CachedBatch):
            return sent(batch.latent, self.generator.device)
        pictures = to_float(sent(batch.image, self.generator.device))
        latent: Tensor = self.generator.latent_space.encode_sample(pictures, draws)
        return latent

    def features(self, batch: CachedBatch | Batch) -> dict[str, Tensor] | None:
        """What a language model that stays as it is says to the captions; None of any other condition."""
        if isinstance(batch, CachedBatch):
            return batch.features or None
        conditioner = self.generator.conditioner
        if not (isinstance(conditioner, PromptConditioner) and conditioner.is_cacheable):
            return None
        return conditioner.features(batch.captions)

    def condition(self, told: Told) -> Cond:
        """What gradients pass through: the connector and the null condition, and whatever ahead of them learns.

        Raises:
            UserError: classes tell what to draw, and the pictures carry none.
        """
        conditioner, batch = self.generator.conditioner, told.batch
        if told.features is not None and isinstance(conditioner, PromptConditioner):
            return conditioner.connect(told.features)
        is_worded = isinstance(self.generator, TextToImage)
        if not is_worded and batch.labels is None:
            raise UserError(
                "data: the pictures carry no class labels, which this condition needs; use class folders, or say with "
                "data.labels which field of the metadata is the class"
            )
        cond: Cond = conditioner(batch.captions if is_worded else batch.labels)
        return cond
