"""A prompt read by a language model through learnable queries: one condition per latent token (Scale-RAE, section 3).

    "a red apple" -> template -> tokens --embed--> [prompt | q_1 .. q_N] --causal LLM--> last N states -> Linear -> cond

In: ``B`` prompts. Out: ``Cond(tokens=[B, N, Z])``. The queries are ``N`` learned vectors that stand after the prompt as
if they were words, one for each latent token in raster order; each attends to the prompt and to the queries before it.
Their hidden states after the model's final RMSNorm, mapped linearly to the width the backbone reads, are the condition.
The absence of a prompt is one learned vector, the same for every token.

With frozen queries and a frozen language model the features of a caption can be cached (``prompt.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from raekit.conditioning.base import Cond
from raekit.conditioning.prompt import Features, PromptConditioner, attention_of, padded
from raekit.errors import UserError

QUERY_SEED = 0
"""The queries start alike in every run, so that runs which leave them untrained can share cached features."""
INITIAL_STD = 0.02
"""Standard deviation of the connector's initial weights, as Qwen2 initialises its own."""


class QueryConditioner(PromptConditioner):
    """Learnable queries into a language model, and a linear connector out of it.

    Args:
        config: the settings.
        num_tokens: latent tokens per image (``h * w``); the number of queries unless the config fixes one.
        language_model: ``(model, tokenizer)`` that are at hand already; by default the one the config names, loaded
            on first use.

    Attributes:
        queries: ``[N, H]``, the learned inputs of the language model.
        connector: ``Linear(H -> Z)`` with bias.
        null_token: ``[Z]``, the learned absence of a prompt, zero at first.
    """

    class Config(PromptConditioner.Config):
        """Settings of the query condition."""

        name: Literal["query"] = "query"
        num_queries: int | None = Field(None, ge=1)
        """Number of queries N; by default one for each latent token."""
        connector: Literal["linear"] = "linear"
        """The map from language model to condition."""
        are_queries_trained: bool = True
        """False keeps the queries at their random start, so that the features of a caption can be cached."""

    config: Config

    def __init__(self, config: Config, *, num_tokens: int, language_model: tuple[Any, Any] | None = None) -> None:
        super().__init__(config, language_model)
        count = config.num_queries or num_tokens
        generator = torch.Generator().manual_seed(QUERY_SEED)
        start = torch.randn(count, self.hidden, generator=generator) / self.hidden**0.5
        self.queries = nn.Parameter(start, requires_grad=config.are_queries_trained)
        self.connector = nn.Linear(self.hidden, self.width)
        nn.init.normal_(self.connector.weight, std=INITIAL_STD)
        nn.init.zeros_(self.connector.bias)
        self.null_token = nn.Parameter(torch.zeros(self.width))

    @property
    def is_cacheable(self) -> bool:
        """Whether the features of a prompt stay the same through training."""
        return super().is_cacheable and not self.queries.requires_grad

    @property
    def form(self) -> str:
        return f"{len(self.queries)} queries x {self.width}"

    def features(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The language model's final states at the queries, ``features`` ``[B, N, H]``.

        Gradients reach the queries through a frozen language model; with frozen queries no graph is built.

        Raises:
            UserError: a prompt is empty, or the language model is a text encoder.
        """
        model, _ = self._loaded()
        # Padded on the left, so that the queries follow each prompt directly.
        rows = self._rows(prompts)
        ids, mask = padded(rows, "left", self.queries.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_cacheable):
            words = self._embedded(ids)
            queries = self.queries.to(words.dtype).expand(len(ids), -1, -1)
            mask = torch.cat([mask, mask.new_ones(queries.shape[:2])], dim=1)
            states: Tensor = model(
                inputs_embeds=torch.cat([words, queries], dim=1),
                attention_mask=attention_of(model, rows, mask),
                position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                use_cache=False,
            ).last_hidden_state
        return {"features": states[:, -queries.shape[1] :]}

    def connect(self, features: Features) -> Cond:
        """``features`` ``[B, N, H]`` to ``Cond(tokens=[B, N, Z])``."""
        weight = self.connector.weight
        return Cond(tokens=self.connector(features["features"].to(weight.device, weight.dtype)))

    def null(self, batch_size: int) -> Cond:
        """The null token at every position, ``[batch_size, N, Z]``."""
        return Cond(tokens=self.null_token.expand(batch_size, len(self.queries), -1))

    def _embedded(self, ids: Tensor) -> Tensor:
        """The language model's words, ``[B, L, H]`` of ids ``[B, L]``."""
        words: Tensor = self._loaded()[0].get_input_embeddings()(ids)
        return words

    def _other_inputs(self) -> bytes:
        values: bytes = self.queries.detach().float().cpu().numpy().tobytes()
        return values

    def _reader(self, model: Any) -> Any:
        if not model.can_generate():
            raise UserError(
                f"condition.language_model: {self.config.language_model!r} is a text encoder, and queries continue a "
                "prompt; give a causal language model, or use the condition text"
            )
        return super()._reader(model)
