"""A prompt read by a language model through learnable queries: one condition per latent token (Scale-RAE, section 3).

    "a red apple" -> template -> tokens --embed--> [prompt | q_1 .. q_N] --causal LLM--> last N states -> Linear -> cond

In: ``B`` prompts. Out: ``Cond(tokens=[B, N, Z])``. The queries are ``N`` learned vectors that stand after the prompt as
if they were words, one for each latent token in raster order; each attends to the prompt and to the queries before it.
Their hidden states after the model's final RMSNorm, mapped linearly to the width the backbone reads, are the condition.
The absence of a prompt is one learned vector, the same for every token.

The work is split in two, so that it can be cached: :meth:`QueryConditioner.features` runs the language model (slow),
:meth:`QueryConditioner.connect` the linear map (cheap, always trained). With frozen queries the features of a caption
never change and are computed once; :meth:`QueryConditioner.cache_key` names what they depend on.

A frozen language model is no part of ``state_dict``: the id is in the config, and the buffer ``fingerprint`` holds a
hash of the weights, so a checkpoint refuses to run on a language model other than the one it was trained with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from raekit import config as recipes
from raekit.conditioning.base import Cond, Conditioner
from raekit.conditioning.language_model import FINGERPRINT_BYTES, fingerprint, language_model_width, load_language_model
from raekit.device import Precision, pick_precision
from raekit.errors import UserError

TEMPLATES = {
    "plain": "{prompt}",
    "chatml": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    ),
}
"""Text around the prompt, by name: ``plain`` for the nano family, ``chatml`` for the published Qwen2.5 models."""

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
QUERY_SEED = 0
"""The queries start alike in every run, so that runs which leave them untrained can share cached features."""
INITIAL_STD = 0.02
"""Standard deviation of the connector's initial weights, as Qwen2 initialises its own."""


class QueryConditioner(Conditioner):
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
        fingerprint: ``[8]`` uint8, of a frozen language model; zero until the model is first used.
    """

    fingerprint: Tensor

    class Config(recipes.Config):
        """Settings of the query condition."""

        name: Literal["query"] = "query"
        language_model: str = "smollm2-135m"
        """Causal LM that reads the prompt: ``smollm2-135m``, a Hugging Face id, or a directory."""
        precision: Precision = "auto"
        """What a frozen language model is held and run in: ``bf16``, ``fp32``, or ``auto`` for what is fast here (a CPU
        without bf16 matrix instructions is three times slower in bf16). One that is trained is held in fp32."""
        num_queries: int | None = Field(None, ge=1)
        """Number of queries N; by default one for each latent token."""
        width: int | None = Field(None, ge=1)
        """Width Z of the condition; by default the hidden size H of the language model."""
        template: str = "plain"
        """Text around the prompt: ``plain``, ``chatml``, or a text of your own that holds ``{prompt}``."""
        max_prompt_tokens: int = Field(256, ge=1)
        """Longest prompt in tokens, template included; a longer one is an error, never cut."""
        dropout: float = Field(0.1, ge=0.0, le=1.0)
        """Probability in [0, 1] that a training sample's condition is replaced by the null condition."""
        connector: Literal["linear"] = "linear"
        """The map from language model to condition."""
        are_queries_trained: bool = True
        """False keeps the queries at their random start, so that the features of a caption can be cached."""
        is_llm_trained: bool = False
        """True trains the language model too; it then is part of the checkpoint."""

        @field_validator("template")
        @classmethod
        def _holds_prompt(cls, value: str) -> str:
            if value not in TEMPLATES and "{prompt}" not in value:
                raise ValueError(f"needs one of {', '.join(sorted(TEMPLATES))}, or a text that holds {{prompt}}")
            return value

    def __init__(self, config: Config, *, num_tokens: int, language_model: tuple[Any, Any] | None = None) -> None:
        super().__init__()
        self.config = config
        self.dropout = config.dropout
        hidden = language_model[0].config.hidden_size if language_model else language_model_width(config.language_model)
        self.width = config.width or hidden
        count = config.num_queries or num_tokens
        start = torch.randn(count, hidden, generator=torch.Generator().manual_seed(QUERY_SEED)) / hidden**0.5
        self.queries = nn.Parameter(start, requires_grad=config.are_queries_trained)
        self.connector = nn.Linear(hidden, self.width)
        nn.init.normal_(self.connector.weight, std=INITIAL_STD)
        nn.init.zeros_(self.connector.bias)
        self.null_token = nn.Parameter(torch.zeros(self.width))
        self.register_buffer("fingerprint", torch.zeros(FINGERPRINT_BYTES, dtype=torch.uint8))
        # Model, tokenizer and fingerprint in a tuple: torch does not look inside, so nothing of it is trained or saved.
        self._frozen: tuple[Any, Any, Tensor] | None = None
        if config.is_llm_trained:
            model, self.tokenizer = language_model or load_language_model(config.language_model, torch.float32)
            self.language_model = model.get_decoder().requires_grad_(True)
        elif language_model:
            self._freeze(*language_model)

    @property
    def is_cacheable(self) -> bool:
        """Whether the features of a prompt stay the same through training."""
        return not (self.queries.requires_grad or self.config.is_llm_trained)

    def forward(self, prompts: Sequence[str] | Tensor) -> Cond:
        """``Cond(tokens=[B, N, Z])`` of ``B`` prompts.

        Raises:
            UserError: as :meth:`features`; or class labels were given.
        """
        if isinstance(prompts, Tensor):
            raise UserError("condition: this model takes text prompts, not class labels")
        return self.connect(self.features(prompts))

    def features(self, prompts: Sequence[str]) -> Tensor:
        """The language model's final states at the queries, ``[B, N, H]`` in the language model's precision.

        A prompt's features do not depend on the prompts beside it. Gradients reach the queries through a frozen
        language model; with frozen queries no graph is built.

        Raises:
            UserError: a prompt is empty or longer than ``max_prompt_tokens``.
        """
        model, tokenizer = self._loaded()
        ids, mask = self._padded(tokenizer, prompts)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_cacheable):
            words = model.get_input_embeddings()(ids)
            queries = self.queries.to(words.dtype).expand(len(ids), -1, -1)
            mask = torch.cat([mask, mask.new_ones(queries.shape[:2])], dim=1)
            states: Tensor = model(
                inputs_embeds=torch.cat([words, queries], dim=1),
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                use_cache=False,
            ).last_hidden_state
        return states[:, -queries.shape[1] :]

    def connect(self, features: Tensor) -> Cond:
        """Features ``[B, N, H]``, fresh or from a cache, to ``Cond(tokens=[B, N, Z])``."""
        weight = self.connector.weight
        return Cond(tokens=self.connector(features.to(weight.device, weight.dtype)))

    def null(self, batch_size: int) -> Cond:
        """The null token at every position, ``[batch_size, N, Z]``."""
        return Cond(tokens=self.null_token.expand(batch_size, len(self.queries), -1))

    def cache_key(self) -> str:
        """Sixteen hex digits over all that features depend on besides the prompt.

        Those are the language model's weights, its precision, the template, and the values of the queries.
        """
        model, _ = self._loaded()
        digest = hashlib.sha256(fingerprint(model))
        digest.update(f"{model.dtype}\0{self._template()}\0".encode())
        digest.update(self.queries.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _template(self) -> str:
        return TEMPLATES.get(self.config.template, self.config.template)

    def _padded(self, tokenizer: Any, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask ``[B, L]``, padded on the left so that the queries follow each prompt directly."""
        if isinstance(prompts, str):
            raise TypeError("prompts: expected a list of prompts, got one string")
        rows = [self._tokenise(tokenizer, prompt) for prompt in prompts]
        longest = max(len(row) for row in rows)
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=self.queries.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self.queries.device)
        return ids, mask

    def _tokenise(self, tokenizer: Any, prompt: str) -> list[int]:
        if not prompt.strip():
            raise UserError("prompt: it is empty; say what the picture should show")
        ids: list[int] = tokenizer(self._template().replace("{prompt}", prompt))["input_ids"]
        limit = self.config.max_prompt_tokens
        if len(ids) > limit:
            raise UserError(
                f"prompt: {prompt[:40]!r}... has {len(ids)} tokens with its template and this model reads at most "
                f"{limit} (max_prompt_tokens); shorten it"
            )
        return ids

    def _loaded(self) -> tuple[Any, Any]:
        """The decoder of the language model, on the queries' device, and the tokenizer."""
        if self.config.is_llm_trained:
            return self.language_model, self.tokenizer
        if self._frozen is None:
            dtype = DTYPES[pick_precision(self.config.precision, self.queries.device)]
            self._freeze(*load_language_model(self.config.language_model, dtype))
        assert self._frozen is not None
        model, tokenizer, digest = self._frozen
        if model.device != self.queries.device:
            model.to(self.queries.device)
        if not self.fingerprint.any():
            self.fingerprint.copy_(digest)
        elif self.fingerprint.tolist() != digest.tolist():
            raise UserError(
                f"condition.language_model: {self.config.language_model!r} has weights {_hex(digest)}, this model was "
                f"trained with {_hex(self.fingerprint)}; give the language model it was trained with"
            )
        return model, tokenizer

    def _freeze(self, model: Any, tokenizer: Any) -> None:
        decoder = model.get_decoder().requires_grad_(False).eval()
        self._frozen = (decoder, tokenizer, torch.frombuffer(bytearray(fingerprint(decoder)), dtype=torch.uint8))


def _hex(digest: Tensor) -> str:
    return bytes(digest.tolist()).hex()
