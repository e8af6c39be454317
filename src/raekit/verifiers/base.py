"""What a verifier is: latents and prompts to scores.

In: latents ``[B,C,h,w]`` as a generator gives them, and a prompt for each or one for all. Out: scores ``[B]``, higher
is better. Candidates are judged together; what their questions begin with is read once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from raekit import config as recipes
from raekit.errors import UserError
from raekit.multimodal.unified import UnifiedModel

Verdict = dict[str, Tensor]
"""``score`` and whatever it was made of, each ``[B]``, float64 on the CPU."""


class VerifierConfig(recipes.Config):
    """What every verifier's settings have."""

    name: str
    """Which verifier: a row of :data:`raekit.verifiers.VERIFIERS`."""
    batch_size: int = Field(16, ge=1)
    """Candidates judged at once; changes memory and speed only."""


class Verifier(ABC):
    """Judges candidates by their latents.

    Args:
        config: the settings.
        model: who judges.

    Raises:
        UserError: the model cannot see latents.
    """

    Config: type[VerifierConfig]

    def __init__(self, config: VerifierConfig, model: UnifiedModel) -> None:
        self.config, self.model = config, model
        # A model that cannot see latents is known by a blank one, before anything is drawn.
        model.look(latents=torch.zeros(1, *model.latent_space.shape))

    def __call__(self, latents: Tensor, prompts: str | Sequence[str]) -> Tensor:
        """Scores ``[B]`` of latents ``[B,C,h,w]``; arguments and errors as for :meth:`judge`."""
        return self.judge(latents, prompts)["score"]

    @torch.no_grad()
    def judge(self, latents: Tensor, prompts: str | Sequence[str]) -> Verdict:
        """Scores, and what they were made of, by name.

        Args:
            latents: ``[B,C,h,w]`` of the model's own latent space, on any device.
            prompts: what each should show; one for all, or one for each.

        Raises:
            UserError: another number of prompts than latents, an empty one, or latents of another latent space.
        """
        asked = [prompts] * len(latents) if isinstance(prompts, str) else list(prompts)
        if len(asked) != len(latents) or not asked:
            raise UserError(f"verifier: {len(asked)} prompts for {len(latents)} latents; give one, or one for each")
        if not all(prompt.strip() for prompt in asked):
            raise UserError("verifier: a prompt is empty; say what the picture should show")
        size = self.config.batch_size
        parts = []
        for first in range(0, len(asked), size):
            part = slice(first, first + size)
            tokens = self.model.look(latents=latents[part])
            parts.append(self.weigh(tokens, asked[part]))
        return {name: torch.cat([part[name].double().cpu() for part in parts]) for name in parts[0]}

    @abstractmethod
    def weigh(self, tokens: Tensor, prompts: Sequence[str]) -> Verdict:
        """The verdict on ``B`` candidates, seen as tokens ``[B,N,D]``, on any device and in any dtype."""
