"""What all conditioners that read prompts with a language model share: template, limit, and the model itself.

In: ``B`` prompts. Out: a :class:`~raekit.conditioning.base.Cond`, in two steps, so that the first can be cached:

    prompts --features (language model, slow)--> tensors --connect (a linear map, cheap, always trained)--> Cond

With a frozen model the features of a caption never change and are computed once; :meth:`PromptConditioner.cache_key`
names what they depend on, :meth:`PromptConditioner.pack` gives every caption rows of one shape.

A frozen language model is no part of ``state_dict``: the id is in the config, and the buffer ``fingerprint`` holds a
hash of the weights, so a checkpoint refuses to run on a language model other than the one it was trained with. What
it learned in adapters beside its weights (``adapters.py``) is part of ``state_dict``.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from raekit import config as recipes
from raekit.conditioning.adapters import Adapters, AdaptersConfig, merge
from raekit.conditioning.base import Cond, Conditioner
from raekit.conditioning.language_model import FINGERPRINT_BYTES, fingerprint, language_model_width, load_language_model
from raekit.device import Precision, autocast, pick_device, pick_precision, sent
from raekit.errors import UserError

log = logging.getLogger(__name__)

TEMPLATES = {
    "plain": "{prompt}",
    "chatml": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    ),
}
"""Text around the prompt, by name: ``plain`` for the nano family, ``chatml`` for the published Qwen2.5 models."""

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
MAX_WARNINGS = 20
"""Prompts that a conditioner says it has cut; a training set of long captions would fill the log otherwise."""

ONE_AT_A_TIME = threading.Lock()
"""Tokenizers serve one thread at a time: the one that encodes ahead, or the one that draws a sheet meanwhile."""

Features = Mapping[str, Tensor]
"""What the language model said, tensors ``[B, ...]`` by name."""


class PromptConditioner(Conditioner):
    """A language model, and a linear map out of it.

    Args:
        config: the settings.
        language_model: ``(model, tokenizer)`` that are at hand already; by default the one the config names, loaded
            on first use.

    Attributes:
        hidden: width ``H`` of the language model.
        connector: ``Linear(H -> Z)``, made by the subclass.
        fingerprint: ``[8]`` uint8, of a frozen language model; zero until the model is first used.
        is_adapted: low-rank adapters act beside the frozen language model, so gradients pass through it.
        adapters: those that are part of the condition; None without ``lora``.
    """

    fingerprint: Tensor
    connector: nn.Linear

    class Config(recipes.Config):
        """Settings of every condition that is read from a prompt."""

        name: str
        language_model: str = "smollm2-135m"
        """What reads the prompt: ``smollm2-135m``, a Hugging Face id, or a directory."""
        precision: Precision = "auto"
        """What a frozen language model is held and run in: ``bf16``, ``fp32``, or ``auto`` for what is fast here (a CPU
        without bf16 matrix instructions is three times slower in bf16). One that is trained is held in fp32."""
        width: int | None = Field(None, ge=1)
        """Width Z of the condition; by default the hidden size H of the language model."""
        template: str = "plain"
        """Text around the prompt: ``plain``, ``chatml``, or a text of your own that holds ``{prompt}``."""
        max_prompt_tokens: int = Field(256, ge=1)
        """Longest prompt in tokens, template included; the end of a longer one is left out, with a warning."""
        dropout: float = Field(0.1, ge=0.0, le=1.0)
        """Probability in [0, 1] that a training sample's condition is replaced by the null condition."""
        is_llm_trained: bool = False
        """True trains the language model too; it then is part of the checkpoint."""
        lora: AdaptersConfig | None = None
        """Low-rank adapters beside a frozen language model, trained with all else (at the pace of
        ``language_model_optim``) and stored in the generator; null: none. ``lora`` of stage 2 itself is another thing:
        adapters alone, beside a generator that is finished, in a file of their own."""

        @field_validator("template")
        @classmethod
        def _holds_prompt(cls, value: str) -> str:
            if value not in TEMPLATES and "{prompt}" not in value:
                raise ValueError(f"needs one of {', '.join(sorted(TEMPLATES))}, or a text that holds {{prompt}}")
            return value

        @model_validator(mode="after")
        def _adapts_what_is_frozen(self) -> PromptConditioner.Config:
            if self.lora is not None and self.is_llm_trained:
                raise ValueError("lora: the language model itself is trained; leave lora out or is_llm_trained false")
            return self

    config: Config

    def __init__(self, config: Config, language_model: tuple[Any, Any] | None = None) -> None:
        super().__init__()
        self.config = config
        self.dropout = config.dropout
        self.hidden: int = (
            language_model[0].config.hidden_size if language_model else language_model_width(config.language_model)
        )
        self.width = config.width or self.hidden
        self.num_cut = 0
        self.register_buffer("fingerprint", torch.zeros(FINGERPRINT_BYTES, dtype=torch.uint8))
        self.is_adapted = config.lora is not None
        self._is_checked = False
        # Model, tokenizer and fingerprint in a tuple: torch does not look inside, so nothing of it is trained or saved.
        self._frozen: tuple[Any, Any, Tensor] | None = None
        if config.is_llm_trained:
            model, self.tokenizer = language_model or load_language_model(config.language_model, torch.float32)
            self.language_model = self._reader(model).requires_grad_(True)
        elif language_model:
            self._freeze(*language_model)
        elif config.lora is not None:  # adapters are as wide as the maps beside them, so those have to be here
            self._freeze(*self._as_frozen(pick_device()))
        self.adapters = None if config.lora is None else Adapters(config.lora, self.reader)

    @property
    def is_cacheable(self) -> bool:
        """Whether the features of a prompt stay the same through training."""
        return not self.config.is_llm_trained and not self.is_adapted

    @property
    def reader(self) -> nn.Module:
        """The language model without its vocabulary head, frozen or trained, on the conditioner's device."""
        model: nn.Module = self._loaded()[0]
        return model

    def arithmetic(self) -> AbstractContextManager[object]:
        """How the language model multiplies: a trained one is held in fp32, a frozen one in what it computes in."""
        return autocast(self.precision, self.fingerprint.device) if self.config.is_llm_trained else nullcontext()

    @torch.no_grad()
    def absorb(self, settings: AdaptersConfig, tensors: Mapping[str, Tensor]) -> None:
        """Make what a frozen language model learned beside itself a part of this trained one's weights.

        Args:
            settings: of the adapters.
            tensors: a conditioner's state; of it ``adapters.*`` is read.
        """
        start = "adapters."
        own = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
        merge(settings, self.reader, own)

    def forward(self, prompts: Sequence[str] | Tensor) -> Cond:
        """The condition of ``B`` prompts.

        Raises:
            UserError: as :meth:`features`; or class labels were given.
        """
        if isinstance(prompts, Tensor):
            raise UserError("condition: this model takes text prompts, not class labels")
        with self.arithmetic():
            features = self.features(prompts)
        return self.connect(features)

    def check(self, prompts: Sequence[str]) -> None:
        """Say now of prompts that are read much later what reading them would say: how much of a long one is left out.

        Raises:
            UserError: a prompt is empty, or cannot be read.
        """
        _, tokenizer = self._loaded()
        with ONE_AT_A_TIME:
            for prompt in prompts:
                self._tokenise(tokenizer, prompt)

    @abstractmethod
    def features(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """What the language model says to ``B`` prompts, ``[B, ...]`` by name, floats in the model's precision.

        A prompt's features do not depend on the prompts beside it.

        Raises:
            UserError: a prompt is empty.
        """

    @abstractmethod
    def connect(self, features: Features) -> Cond:
        """Features, fresh or from a cache, to the condition."""

    def connector_inputs(self, features: Features) -> Tensor:
        """What the connector sees of some features, ``[M, N, H]``; its start is computed from their statistics."""
        return features["features"]

    def pack(self, features: Features) -> dict[str, Tensor]:
        """Features of ``B`` prompts as rows ``[B, ...]`` of one shape, whatever the prompts, to be stored."""
        return dict(features)

    def unpack(self, rows: Features) -> dict[str, Tensor]:
        """Stored rows ``[B, ...]``, as they come from the cache, to features of ``B`` prompts."""
        return dict(rows)

    def cache_key(self) -> str:
        """Sixteen hex digits over all that features depend on besides the prompt.

        Those are the language model's weights, its precision, the template, the limit, and what a subclass adds.
        """
        model, _ = self._loaded()
        digest = hashlib.sha256(fingerprint(model))
        digest.update(f"{model.dtype}\0{self._template()}\0{self.config.max_prompt_tokens}\0".encode())
        digest.update(self._other_inputs())
        return digest.hexdigest()[:16]

    def _other_inputs(self) -> bytes:
        """What else features depend on."""
        return b""

    def _template(self) -> str:
        return TEMPLATES.get(self.config.template, self.config.template)

    def _rows(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt in its template."""
        if isinstance(prompts, str):
            raise TypeError("prompts: expected a list of prompts, got one string")
        _, tokenizer = self._loaded()
        with ONE_AT_A_TIME:
            return [self._tokenise(tokenizer, prompt) for prompt in prompts]

    def _tokenise(self, tokenizer: Any, prompt: str) -> list[int]:
        check_prompt(prompt)
        ids, limit = self._framed(tokenizer, prompt), self.config.max_prompt_tokens
        if len(ids) <= limit:
            return ids
        words = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        kept, cut = len(words), ids
        # Cut text may fall into more tokens than were kept of it: go on until the whole fits.
        while len(cut) > limit and kept > 0:
            kept -= len(cut) - limit
            cut = self._framed(tokenizer, tokenizer.decode(words[: max(kept, 0)]))
        if kept <= 0:
            raise UserError(
                f"max_prompt_tokens: {limit} leaves no room for a prompt beside the template, which alone has "
                f"{len(self._framed(tokenizer, ''))} tokens; raise it"
            )
        self._warn(prompt, len(words), kept)
        return cut

    def _framed(self, tokenizer: Any, prompt: str) -> list[int]:
        """Token ids of a prompt in its template."""
        ids: list[int] = tokenizer(self._template().replace("{prompt}", prompt))["input_ids"]
        return ids

    def _warn(self, prompt: str, length: int, kept: int) -> None:
        self.num_cut += 1
        if self.num_cut > MAX_WARNINGS:
            return
        last = "; further prompts are cut without a warning" if self.num_cut == MAX_WARNINGS else ""
        log.warning(
            f"prompt: {prompt[:40]!r}... has {length} tokens and this model reads {self.config.max_prompt_tokens} with "
            f"the template (max_prompt_tokens); the last {length - kept} were left out{last}"
        )

    def _loaded(self) -> tuple[Any, Any]:
        """The decoder of the language model, on the conditioner's device, and the tokenizer."""
        if self.config.is_llm_trained:
            return self.language_model, self.tokenizer
        device = self.fingerprint.device
        if self._frozen is None:
            self._freeze(*self._as_frozen(device))
        assert self._frozen is not None
        model, tokenizer, digest = self._frozen
        if model.device != device:
            model.to(device)
        if self._is_checked:
            return model, tokenizer
        if not self.fingerprint.any():
            self.fingerprint.copy_(digest)
        elif self.fingerprint.tolist() != digest.tolist():
            raise UserError(
                f"condition.language_model: {self.config.language_model!r} has weights {_hex(digest)}, this model was "
                f"trained with {_hex(self.fingerprint)}; give the language model it was trained with"
            )
        self._is_checked = True
        return model, tokenizer

    def _as_frozen(self, device: torch.device) -> tuple[Any, Any]:
        """The language model in what it is held in on a device, and its tokenizer."""
        dtype = DTYPES[pick_precision(self.config.precision, device)]
        return load_language_model(self.config.language_model, dtype)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        """As ever; and the fingerprint that comes with the state has not been compared yet."""
        self._is_checked = False
        super()._load_from_state_dict(*arguments)

    def _reader(self, model: Any) -> Any:
        """The part of a language model that ends in hidden states; of a text encoder, the whole."""
        return model.get_decoder()

    def _freeze(self, model: Any, tokenizer: Any) -> None:
        decoder = self._reader(model).requires_grad_(False).eval()
        self._frozen = (decoder, tokenizer, torch.frombuffer(bytearray(fingerprint(decoder)), dtype=torch.uint8))


def check_prompt(prompt: str) -> None:
    """Refuse, before a language model is there, a prompt that says nothing."""
    if not prompt.strip():
        raise UserError("prompt: it is empty; say what the picture should show")


def padded(rows: Sequence[list[int]], side: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask ``[B, L]`` int64, zeros added on the ``"left"`` or ``"right"`` up to the longest row."""
    longest = max(len(row) for row in rows)
    pads = [[0] * (longest - len(row)) for row in rows]
    ones = [[1] * len(row) for row in rows]
    ids, mask = (
        [pad + part if side == "left" else part + pad for pad, part in zip(pads, parts, strict=True)]
        for parts in (rows, ones)
    )
    return sent(torch.tensor(ids), device), sent(torch.tensor(mask), device)


def attention_of(model: Any, rows: Sequence[list[int]], mask: Tensor) -> Tensor:
    """What to tell a language model of padding: :func:`causal_mask` where there is any, or else it asks a device.

    Args:
        model: the language model.
        rows: the token ids of each prompt.
        mask: ``[B, L]`` int64, of the padded rows and whatever follows them.
    """
    is_even = len({len(row) for row in rows}) == 1
    return mask if is_even and mask.device.type == "cpu" else causal_mask(model, mask)


def causal_mask(model: Any, mask: Tensor) -> Tensor:
    """Which words each word of a padded batch attends to, ``[B, 1, L, L]`` bool: those before it that are no padding.

    transformers would make the same mask, but first ask the device whether there is any padding, and so make the host
    wait for it in every training step. Models with another form of attention, such as text encoders, get ``mask``
    ``[B, L]`` as it is.
    """
    settings = model.config
    kinds = set(getattr(settings, "layer_types", None) or ["full_attention"])
    is_plain = kinds == {"full_attention"} and getattr(settings, "sliding_window", None) is None
    is_plain &= all(getattr(module, "is_causal", True) for module in model.modules())
    if settings._attn_implementation != "sdpa" or not is_plain:
        return mask
    length = mask.shape[1]
    return mask.bool()[:, None, None] & torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()


def _hex(digest: Tensor) -> str:
    return bytes(digest.tolist()).hex()
