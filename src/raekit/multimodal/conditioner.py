"""The unified model's language model: reads prompts through queries, sees pictures through a projector, and speaks.

    ids     --table-----> words   -+
    tokens  --projector-> slots   -+-> [B, L, H] --causal LLM--> states -+- at words ---> logits
    queries ------------> slots   -+                                     +- at queries -> connector -> condition

In: prompts; or sequences that ``chat`` laid out, with the tokens of the pictures shown in them. Out: a
:class:`~raekit.conditioning.base.Cond`; or states and logits. To a generator it is a conditioner like any other: the
query conditioner, except that its template ends where a picture begins, and that its language model keeps its last
layer and knows the two tokens around a picture. Scale-RAE, section 3.1 and appendix B.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raekit.conditioning.adapters import AdaptersConfig
from raekit.conditioning.language_model import load_language_model
from raekit.conditioning.prompt import DTYPES, causal_mask
from raekit.conditioning.query import QueryConditioner
from raekit.config import component
from raekit.device import pick_device, pick_precision, sent
from raekit.encoders import ENCODERS
from raekit.encoders.base import EncoderConfig
from raekit.encoders.projector import Projector, ProjectorKind
from raekit.errors import UserError
from raekit.multimodal.chat import CONTEXT, IMAGE, QUERY, SYSTEM, Chat, Turn, teach_special_tokens
from raekit.multimodal.writing import write

if TYPE_CHECKING:
    EncoderChoice = EncoderConfig
else:
    EncoderChoice = component(ENCODERS)

CHANGED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Settings of language models that change the logits after the last layer, which is not done here."""


class UnifiedConditioner(QueryConditioner):
    """A language model that reads, sees, speaks, and says what to draw.

    Args:
        config: the settings.
        num_tokens: latent tokens per image; the number of queries unless the config fixes one.
        language_model: ``(model, tokenizer)`` that are at hand already, both changed here: they learn the special
            tokens of the chat. By default the one the config names.

    Attributes:
        projector: tokens of a picture ``[M, N, D]`` to the language model's width; None if it cannot see.
        head: the last layer of a language model that is trained and has one of its own; None where it is the table
            of words (Qwen2.5 to 3B, SmolLM2) or is frozen.
        marks: ``[2, H]``, or ``[4, H]`` where the last layer is no table of words: the two tokens around a picture,
            learned beside a language model with ``lora`` (in a frozen table both are alike); else None.
    """

    class Config(QueryConditioner.Config):
        """Settings of the unified model's language model."""

        name: Literal["unified"] = "unified"  # type: ignore[assignment]  # of the base, "query"
        template: Literal["chatml"] = "chatml"
        """Text around the prompt."""
        projector: ProjectorKind = "mlp2x_gelu"
        """The map from a picture's tokens into the language model."""
        vision_shape: tuple[int, int] | None = None
        """Tokens of a picture that is shown, and their channels: ``(N, D)``. No number to be typed: a model that is
        built around a latent space fills it in (``eye.seeing``); None: it reads words alone."""
        tower: EncoderChoice | None = None
        """The encoder that pictures are seen through where the latent space has none of its own (VAE)."""
        reply: str | None = ""
        """What the assistant says before the picture, as it was trained to; None: whatever it writes by itself, word by
        word, until it opens a picture, as the published model draws."""
        max_reply_tokens: int = Field(64, ge=1)
        """Longest reply that it may write by itself."""
        system: str | None = SYSTEM
        """What the system says before every conversation; null: nothing, which saves a dozen tokens each."""

    config: Config

    def __init__(self, config: Config, *, num_tokens: int, language_model: tuple[Any, Any] | None = None) -> None:
        if config.is_llm_trained or config.lora is not None:
            held_in = "fp32" if config.is_llm_trained else pick_precision(config.precision, pick_device())
            language_model = language_model or load_language_model(config.language_model, DTYPES[held_in])
            teach(*language_model)
        super().__init__(config, num_tokens=num_tokens, language_model=language_model)
        self.projector: Projector | None = None
        if config.vision_shape is not None:
            self.projector = Projector(config.projector, config.vision_shape[1], self.hidden)
        self.head: nn.Module | None = None
        if config.is_llm_trained and language_model is not None:
            self.head = own_head(language_model[0])
        self._chat: Chat | None = None
        self.marks = None if config.lora is None else nn.Parameter(self._marks_in_tables())

    @property
    def chat(self) -> Chat:
        """How this model's conversations are laid out."""
        if self._chat is None:
            _, tokenizer = self._loaded()
            num_context = 0 if self.config.vision_shape is None else self.config.vision_shape[0]
            self._chat = Chat(tokenizer, len(self.queries), num_context, self.config.system)
        return self._chat

    @property
    def max_length(self) -> int:
        """Longest sequence that the language model was made for."""
        return int(self._loaded()[0].config.max_position_embeddings)

    def embed(self, ids: Tensor, shown: Tensor | None = None) -> Tensor:
        """What enters the language model, ``[B, L, H]``.

        Args:
            ids: ``[B, L]`` int64, slots included.
            shown: tokens ``[M, N, D]`` of the pictures in the ``CONTEXT`` slots, in the order of the slots.

        Raises:
            ValueError: another number of tokens than slots.
            UserError: pictures, and it cannot see.
        """
        embeds = self._embedded(ids.clamp(min=0))
        if shown is not None and len(shown):
            if self.projector is None:
                raise UserError(
                    f"image: {len(shown)} given, but this model reads words only; build it with a projector"
                )
            weight = next(self.projector.parameters())
            rows = self.projector(shown.to(weight.device, weight.dtype)).flatten(0, 1)
            embeds = _filled(embeds, ids == CONTEXT, rows, is_exact=True)
        return _filled(embeds, ids == QUERY, self.queries)

    def read(self, embeds: Tensor, segments: Tensor | None = None) -> Tensor:
        """Final states ``[B, L, H]`` of whole sequences, which may be filled up at their ends: nothing looks ahead.

        Args:
            embeds: ``[B, L, H]``.
            segments: ``[B, L]`` int64, which of the sequences packed into a row a position belongs to; none of them
                sees another. None: one in each row.

        Raises:
            UserError: packed rows, and a language model whose attention is more than causal.
        """
        packed = self._alone(embeds) if segments is None else self._apart(segments)
        states: Tensor = self.reader(inputs_embeds=embeds, use_cache=False, **packed).last_hidden_state
        return states

    def logits(self, states: Tensor) -> Tensor:
        """Scores of the next word ``[..., V]`` float32, of states ``[..., H]``."""
        head = self.head if self.config.is_llm_trained else self._frozen_head()
        table = self._words().weight
        scores = F.linear(states.to(table.dtype), table) if head is None else head(states)
        if self.marks is not None:
            own = F.linear(states, self.marks[-2:].to(states.dtype)).to(scores.dtype)
            scores = scores.index_copy(-1, self._mark_ids(), own)
        return scores.float()

    @torch.no_grad()
    def absorb(self, settings: AdaptersConfig, tensors: Mapping[str, Tensor]) -> None:
        """Make what a frozen language model learned beside itself a part of this trained one's weights.

        Args:
            settings: of the adapters.
            tensors: a conditioner's state; of it ``adapters.*`` and ``marks`` are read.
        """
        super().absorb(settings, tensors)
        tables = [self._words().weight] + ([] if self.head is None else [self.head.get_parameter("weight")])
        for table, rows in zip(tables, torch.split(tensors["marks"], 2), strict=True):
            table[self._mark_ids()] = rows.to(table)

    def _words(self) -> nn.Embedding:
        """The language model's table of words."""
        table: nn.Embedding = self._loaded()[0].get_input_embeddings()
        return table

    def _embedded(self, ids: Tensor) -> Tensor:
        embeds = super()._embedded(ids)
        for number, mark in enumerate(self._mark_ids() if self.marks is not None else ()):
            assert self.marks is not None
            embeds = torch.where((ids == mark)[..., None], self.marks[number].to(embeds.dtype), embeds)
        return embeds

    def _mark_ids(self) -> Tensor:
        """The two tokens around a picture, ``[2]``."""
        return sent(torch.tensor([self.chat.image_start, self.chat.image_end]), self.queries.device)

    def _marks_in_tables(self) -> Tensor:
        """Rows of the two tokens in the table of words, and in the last layer if that is another, fp32."""
        ids, head = self._mark_ids(), self._frozen_head()
        tables = [self._words().weight] + ([] if head is None else [head.weight])
        return torch.cat([table[ids].detach().float() for table in tables])  # type: ignore[index]

    def _alone(self, embeds: Tensor) -> dict[str, Tensor]:
        """Mask of rows of one sequence each, where the language model would else ask a device about their places."""
        if embeds.device.type == "cpu":
            return {}
        mask = torch.ones(embeds.shape[:2], dtype=torch.int64, device=embeds.device)
        return {"attention_mask": causal_mask(self.reader, mask)}

    def _apart(self, segments: Tensor) -> dict[str, Tensor]:
        """Mask and places of packed rows, as the language model takes them."""
        mask = causal_mask(self.reader, torch.ones_like(segments))
        if mask.ndim != 4:
            raise UserError(
                "data.row_tokens: this language model's attention has windows or runs without SDPA, and cannot keep "
                "packed conversations apart; leave row_tokens out"
            )
        is_same = segments[:, None, :, None] == segments[:, None, None, :]
        return {"attention_mask": mask & is_same, "position_ids": places_in(segments)}

    def _rows(self, prompts: Sequence[str]) -> list[list[int]]:
        """Ids of each prompt, the reply, and the token that opens a picture."""
        rows, start = super()._rows(prompts), self.chat.image_start
        if self.config.reply is not None:
            reply = self.chat.words(self.config.reply)
            return [[*row, *reply, start] for row in rows]
        written = write(self, rows, self.config.max_reply_tokens, stop=(start, self.chat.turn_end))
        for prompt, ids in zip(prompts, written.ids, strict=True):
            if not ids or ids[-1] != start:
                raise UserError(
                    f"prompt: to {prompt[:40]!r} this model answers {self.chat.text(ids)[:80]!r} and draws nothing; "
                    "ask for a picture, as in 'Generate an image of ...', or set condition.reply"
                )
        return [row + ids for row, ids in zip(rows, written.ids, strict=True)]

    def _framed(self, tokenizer: Any, prompt: str) -> list[int]:
        del tokenizer  # the chat has it
        if IMAGE in prompt:
            raise UserError(f"prompt: {IMAGE} stands for a picture, and a prompt is words alone; leave it out")
        return self.chat.prompt([Turn("user", prompt)])

    def _other_inputs(self) -> bytes:
        own = (self.config.reply, self.config.max_reply_tokens, self.config.system)
        return super()._other_inputs() + "\0".join(map(str, ("", *own))).encode()

    def _freeze(self, model: Any, tokenizer: Any) -> None:
        teach(model, tokenizer)
        # In a tuple, like the model itself: neither trained nor saved.
        self._frozen_heads = (own_head(model),)
        super()._freeze(model, tokenizer)

    def _frozen_head(self) -> nn.Module | None:
        device = next(self.reader.parameters()).device
        (head,) = self._frozen_heads
        return None if head is None else head.requires_grad_(False).to(device)


def teach(model: Any, tokenizer: Any) -> None:
    """Add the chat's special tokens to a causal language model and its tokenizer; what they know already stays.

    The tables get as many rows as the tokenizer has tokens (Qwen2.5 pads its own with thousands more), and a token
    that has none yet starts as the mean of all others, in both tables (Scale-RAE's released code).

    Raises:
        UserError: a model whose logits are more than a linear map of its states.
    """
    for name in CHANGED_LOGITS:
        if getattr(model.config, name, None) not in (None, 0, 1):
            raise UserError(
                f"condition.language_model: it has {name} = {getattr(model.config, name)}, and the unified model needs "
                "one whose logits are linear in its states (Qwen2, Llama, SmolLM2, Mistral ...)"
            )
    before = len(tokenizer)
    teach_special_tokens(tokenizer)
    if len(tokenizer) == before:
        return
    num_known = min(before, len(model.get_input_embeddings().weight))
    with torch.random.fork_rng(devices=[]):  # what the new rows are drawn as is overwritten below
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tables = {id(table.weight): table.weight for table in (model.get_input_embeddings(), model.get_output_embeddings())}
    with torch.no_grad():
        for weight in tables.values():
            weight[num_known:] = weight[:num_known].mean(0)


def places_in(segments: Tensor) -> Tensor:
    """How far each position is from where its segment begins, ``[B, L]`` of ``[B, L]``."""
    index = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    is_first = torch.ones_like(segments, dtype=torch.bool)
    is_first[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return index - torch.where(is_first, index, 0).cummax(dim=1).values


def own_head(model: Any) -> nn.Module | None:
    """The last layer of a causal language model; None if it shares the table of words."""
    head: nn.Module = model.get_output_embeddings()
    return None if head.weight is model.get_input_embeddings().weight else head


def _filled(embeds: Tensor, slots: Tensor, rows: Tensor, is_exact: bool = False) -> Tensor:
    """``embeds`` ``[B, L, H]`` with ``rows`` ``[R, H]`` in the ``slots`` ``[B, L]`` (bool), over and over in order."""
    # Looked at on the CPU alone: on an accelerator the answer would have to be waited for at every step.
    if is_exact and slots.device.type == "cpu" and int(slots.sum()) != len(rows):
        raise ValueError(f"embed: {len(rows)} tokens for {int(slots.sum())} slots")
    index = (slots.flatten().cumsum(0) - 1).clamp(min=0) % len(rows)
    values = F.embedding(index.view(slots.shape), rows).to(embeds.dtype)
    return torch.where(slots[..., None], values, embeds)
