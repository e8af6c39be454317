"""What a verifier is: candidates and prompts to scores.

In: what was drawn, and a prompt for each or one for all. Out: scores ``[B]``, higher is better. Candidates are judged
together. There are two kinds: a :class:`LatentVerifier` sees latents ``[B,C,h,w]`` as a generator gives them, through
the eyes of a unified model, by default the one that drew them; a :class:`PixelVerifier` sees rendered pictures and
needs no such model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from raekit import config as recipes
from raekit import shares
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
    """Judges candidates; subclass one of the two below."""

    Config: type[VerifierConfig]
    config: VerifierConfig

    def __call__(self, candidates: Tensor, prompts: str | Sequence[str]) -> Tensor:
        """Scores ``[B]``; arguments and errors as for :meth:`judge`."""
        return self.judge(candidates, prompts)["score"]

    @torch.no_grad()
    def judge(self, candidates: Tensor, prompts: str | Sequence[str]) -> Verdict:
        """Scores, and what they were made of, by name.

        Args:
            candidates: ``[B,...]``, on any device: latents of the model's own latent space, or images ``[B,3,H,W]`` in
                [0, 1], as the kind of verifier says.
            prompts: what each should show; one for all, or one for each.

        Raises:
            UserError: another number of prompts than candidates, an empty one, or latents of another latent space.
        """
        asked = [prompts] * len(candidates) if isinstance(prompts, str) else list(prompts)
        if len(asked) != len(candidates) or not asked:
            raise UserError(f"verifier: {len(asked)} prompts for {len(candidates)} pictures; give one, or one for each")
        self.check(asked)
        size = self.config.batch_size

        def judge(first: int) -> Verdict:
            part = slice(first, first + size)
            return self.weigh(self.look(candidates[part]), asked[part])

        parts = list(shares.each(judge, range(0, len(asked), size)))
        return {name: torch.cat([part[name].double().cpu() for part in parts]) for name in parts[0]}

    def check(self, prompts: Sequence[Any]) -> None:
        """Refuse prompts that candidates could not be judged by, before there are any.

        Raises:
            UserError: one is no text, empty, or longer than the verifier reads.
        """
        if not all(isinstance(prompt, str) for prompt in prompts):
            raise UserError(f"verifier: {self.config.name} reads text, and this model takes labels; give a callable")
        if not all(prompt.strip() for prompt in prompts):
            raise UserError("verifier: a prompt is empty; say what the picture should show")

    @abstractmethod
    def look(self, candidates: Tensor) -> Tensor:
        """Candidates as :meth:`weigh` takes them."""

    @abstractmethod
    def weigh(self, tokens: Tensor, prompts: Sequence[str]) -> Verdict:
        """The verdict on ``B`` candidates, on any device and in any dtype."""


class LatentVerifierConfig(VerifierConfig):
    """What every verifier of latents has in its settings."""

    path: str | None = None
    """Directory or hub id of the unified model that judges, in the latent space of the model that draws; None = the
    model that draws, which then must be unified itself."""


class LatentVerifier(Verifier):
    """Judges latents without rendering them; ``weigh`` gets their tokens ``[B,N,D]``.

    Args:
        config: the settings.
        model: who judges.

    Raises:
        UserError: the model cannot see latents.
    """

    def __init__(self, config: VerifierConfig, model: UnifiedModel) -> None:
        self.config, self.model = config, model
        # A model that cannot see latents is known by a blank one, before anything is drawn.
        model.look(latents=torch.zeros(1, *model.latent_space.shape))

    def check(self, prompts: Sequence[Any]) -> None:
        super().check(prompts)
        limit = self.model.conditioner.max_length
        for prompt in dict.fromkeys(prompts):
            if (length := self.length(prompt)) > limit:
                raise UserError(
                    f"verifier {self.config.name}: with picture and question {prompt[:40]!r} is {length} tokens long, "
                    f"and the model that judges reads {limit}; say it more briefly"
                )

    def look(self, candidates: Tensor) -> Tensor:
        return self.model.look(latents=candidates)

    def length(self, prompt: str) -> int:
        """Tokens that the model reads and writes to judge by a prompt, at most; 0 of a verifier that does not say."""
        del prompt
        return 0


class PixelVerifier(Verifier):
    """Judges rendered pictures; ``weigh`` gets them as float ``[B,3,H,W]`` in [0, 1].

    Args:
        config: the settings.
        device: where it runs.
    """

    def __init__(self, config: VerifierConfig, device: torch.device | str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)

    def look(self, candidates: Tensor) -> Tensor:
        return candidates.to(self.device, torch.float32)
