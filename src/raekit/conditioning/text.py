"""A prompt's words in context: the states of a language model stand beside the latent tokens (RAEv2's text mode).

    "a red apple" -> template -> tokens --LLM or text encoder--> states [B, L, H] -> RMSNorm -> Linear -> context

In: ``B`` prompts. Out: ``Cond(context=[B, L, Z], mask=[B, L])``. The backbone's attention runs over words and latent
tokens together, so every token may look at every word, where a query (``query.py``) has to have gathered beforehand all
that its token will need. The absence of a prompt is one learned word. With ``has_pooled_vector`` the mean of the states
also modulates, beside the time.

States are normalised word by word, because models differ in their scale. ``Z`` must be the backbone's width: words and
latent tokens go through the same blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raekit.conditioning.base import Cond
from raekit.conditioning.prompt import Features, PromptConditioner, attention_of, padded
from raekit.layers.feedforward import RMSNorm

INITIAL_STD = 0.02
"""Standard deviation of the initial weights of the linear maps."""


class TextConditioner(PromptConditioner):
    """The words of a prompt as a language model understands them, one vector each.

    Args:
        config: the settings.
        num_tokens: latent tokens per image; part of every conditioner's signature, though words need none of it.
        language_model: ``(model, tokenizer)`` that are at hand already; by default the one the config names, loaded
            on first use.

    Attributes:
        norm: of the states, over ``H``.
        connector: ``Linear(H -> Z)`` with bias.
        null_token: ``[1, Z]``, the one word that stands for no prompt.
        pooled: ``Linear(H -> Z)`` of the mean state, or None.
        null_vector: ``[Z]``, its null, or None.
    """

    class Config(PromptConditioner.Config):
        """Settings of the text condition."""

        name: Literal["text"] = "text"
        has_pooled_vector: bool = False
        """Also add the mean of the words to the time embedding, as one vector per image."""

    config: Config

    def __init__(
        self, config: Config, *, num_tokens: int | None = None, language_model: tuple[Any, Any] | None = None
    ) -> None:
        super().__init__(config, language_model)
        self.norm = RMSNorm(self.hidden)
        self.connector = _linear(self.hidden, self.width)
        # As large as the words are at first: the norm of a word of zeros would have a gradient of 1 / sqrt(eps).
        self.null_token = nn.Parameter(INITIAL_STD * self.hidden**0.5 * torch.randn(1, self.width))
        self.pooled = _linear(self.hidden, self.width) if config.has_pooled_vector else None
        self.null_vector = nn.Parameter(torch.zeros(self.width)) if config.has_pooled_vector else None

    @property
    def form(self) -> str:
        vector = ", and one vector" if self.config.has_pooled_vector else ""
        return f"up to {self.config.max_prompt_tokens} words in context x {self.width}{vector}"

    def features(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The language model's last states ``features`` ``[B, L, H]`` and their ``mask`` ``[B, L]`` bool.

        ``L`` is the length of the longest prompt; shorter ones are padded on the right.

        Raises:
            UserError: a prompt is empty.
        """
        model, _ = self._loaded()
        rows = self._rows(prompts)
        ids, mask = padded(rows, "right", self.fingerprint.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_cacheable):
            states: Tensor = model(input_ids=ids, attention_mask=attention_of(model, rows, mask)).last_hidden_state
        return {"features": states, "mask": mask.bool()}

    def connect(self, features: Features) -> Cond:
        """Features to ``Cond(context=[B, L, Z], mask=[B, L])``, and its vector ``[B, Z]`` if there is one."""
        weight = self.connector.weight
        states = features["features"].to(weight.device, weight.dtype)
        mask = features["mask"].to(weight.device)
        normalised = self.norm(states)
        vector = None
        if self.pooled is not None:
            share = mask / mask.sum(1, keepdim=True)
            vector = self.pooled((normalised * share[..., None].to(weight.dtype)).sum(1))
        return Cond(vector=vector, context=self.connector(normalised), mask=mask)

    def null(self, batch_size: int) -> Cond:
        """The null word ``[batch_size, 1, Z]``, and the null vector ``[batch_size, Z]`` if there is one."""
        mask = torch.ones(batch_size, 1, dtype=torch.bool, device=self.null_token.device)
        vector = None if self.null_vector is None else self.null_vector.expand(batch_size, -1)
        return Cond(vector=vector, context=self.null_token.expand(batch_size, 1, -1), mask=mask)

    def connector_inputs(self, features: Features) -> Tensor:
        """The normalised states of all words, ``[M, 1, H]``."""
        states: Tensor = self.norm(features["features"][features["mask"]].to(self.norm.weight))
        return states[:, None]

    def pack(self, features: Features) -> dict[str, Tensor]:
        """Features padded to ``max_prompt_tokens``, zeros where there is no word."""
        mask = features["mask"]
        missing = self.config.max_prompt_tokens - mask.shape[1]
        states = features["features"] * mask[..., None]
        return {"features": F.pad(states, (0, 0, 0, missing)), "mask": F.pad(mask, (0, missing))}

    def unpack(self, rows: Features) -> dict[str, Tensor]:
        """Stored rows without the words that none of them has; looks at the mask, so do it on the CPU."""
        longest = int(rows["mask"].sum(1).max())
        return {name: value[:, :longest] for name, value in rows.items()}


def _linear(hidden: int, width: int) -> nn.Linear:
    linear = nn.Linear(hidden, width)
    nn.init.normal_(linear.weight, std=INITIAL_STD)
    nn.init.zeros_(linear.bias)
    return linear
