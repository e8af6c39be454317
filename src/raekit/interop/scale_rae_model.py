"""Whole Scale-RAE models: a language model, queries, a connector and a diffusion head in one checkpoint.

In: the released directory (``config.json``, safetensors in shards, the tokenizer's files) and our artefact of the
latent space it draws in. Out: one directory, every key of the checkpoint accounted for:

    generator/        ours: diffusion head, queries, connector, null token, projector; `raekit generate` runs it
    language_model/   the trained Qwen2, as transformers reads it; the generator names it and knows its fingerprint

It draws as released: unguided, on the released grid, with the released reply before each picture. It sees too: with a
projector in the checkpoint it becomes the unified conditioner, which also answers questions about pictures and latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from raekit.autoencoder.base import Autoencoder
from raekit.autoencoder.latent import to_grid
from raekit.autoencoder.rae import RAE
from raekit.conditioning import CONDITIONERS
from raekit.conditioning.language_model import fingerprint, load_language_model
from raekit.conditioning.prompt import TEMPLATES
from raekit.errors import UserError
from raekit.files import atomic_directory
from raekit.generate import ImageGenerator
from raekit.interop.decoder import CONFIG_FILE
from raekit.interop.dit import SCALE_RAE_PREFIX, Generator
from raekit.interop.format import ConvertConfig, Format, Source
from raekit.interop.generator import generator_rows, sampling_row, stated_latent_space, write_generator
from raekit.interop.ledger import Rows
from raekit.interop.scale_rae_head import QUERIES, take_condition, take_head
from raekit.interop.scale_rae_language import (
    EMBEDDING,
    PICTURE_TOKEN,
    Reply,
    check_tokenizer,
    reply_of,
    take_language_model,
    write_language_model,
)
from raekit.interop.scale_rae_sight import Sight, take_sight
from raekit.interop.statistics import is_identity
from raekit.samplers.settings import Sampling
from raekit.transport.objective import FlowMatching
from raekit.transport.timesteps import BASE_DIM

GENERATOR, LANGUAGE_MODEL = "generator", "language_model"
AUXILIARY = "aux_vision_head."
AUXILIARY_UNUSED = "the head of a training loss; neither drawing nor seeing needs it"

AS_PUBLISHED = Sampling(steps=50, sampler="scale_rae_published", time_grid="scale_rae_published", guidance_scale=1.0)
"""How the released code draws (Scale-RAE memo, section 5); its guidance never acts (section 0)."""

STATISTICS_TOLERANCE = 1e-5
DEFAULT_MAX_LENGTH = 512
"""Longest training sequence of stage 1, queries included, in tokens."""
DEFAULT_DROPOUT = 0.1
"""Probability that a condition was dropped in the released training."""

KNOWN = {
    "vision_loss": ("diffusion-loss", "ddt-loss"),
    "vision_loss_mode": ("query",),
    "dit_cls": ("DiT",),
}
"""Settings that change what the weights mean, and the values that are understood; the first is that of the release."""


class ScaleRAEModel(Format):
    """Whole models of Scale-RAE: language model, queries, connector and diffusion head."""

    READS = frozenset({"autoencoder", "reply"})

    class Config(ConvertConfig):
        """Options of this layout."""

        name: Literal["scale_rae_model"] = "scale_rae_model"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """A diffusion head beside the queries of a language model."""
        return QUERIES in source.keys and any(key.startswith(SCALE_RAE_PREFIX) for key in source.keys)

    def read(self, source: Source, target: Path) -> Rows:
        """A released model to ours."""
        ledger, settings = source.ledger, source.settings
        _check_settings(settings, source)
        published, frequencies = take_head(ledger, settings)
        state, connector = take_condition(ledger, published)
        language = take_language_model(ledger, settings)
        autoencoder, latent_space = stated_latent_space(self.config, published)
        check_statistics(latent_space, published, ledger.source)
        sight = take_sight(ledger, settings, latent_space)
        state |= {} if sight is None else sight.state
        ledger.leave_out(AUXILIARY, AUXILIARY_UNUSED)
        report = ledger.rows()
        folder_of = source.path if source.path.is_dir() else source.path.parent
        with atomic_directory(target) as folder:
            write_language_model(language, settings, folder_of, folder / LANGUAGE_MODEL)
            state["fingerprint"], reply = self._read_language_model(folder / LANGUAGE_MODEL, language, ledger.source)
            told_by = {
                "language_model": f"../{LANGUAGE_MODEL}",
                "precision": "fp32" if language[EMBEDDING].dtype == torch.float32 else "bf16",
                **_condition(published, state, settings),
                **(_reading(reply) if sight is None else _seeing(reply, sight)),
            }
            made = _settings(published, told_by, settings)
            latent = (autoencoder, latent_space.checksum)
            checksum = write_generator(folder / GENERATOR, made, published, state, latent)
        return [
            *report,
            *generator_rows(published),
            ("time frequencies", frequencies),
            ("queries", f"{len(state['queries'])} x {state['queries'].shape[1]}, {connector}"),
            ("language model", f"{len(language)} tensors, {language[EMBEDDING].shape[0]} tokens, in {LANGUAGE_MODEL}/"),
            ("reply", reply.note),
            ("sight", "none: no projector in the checkpoint" if sight is None else sight.note),
            sampling_row(AS_PUBLISHED),
            ("checksum", checksum[:12]),
        ]

    def _read_language_model(self, directory: Path, tensors: Mapping[str, Tensor], source: str) -> tuple[Tensor, Reply]:
        """Load the language model that was written: its fingerprint, and what it says before a picture."""
        model, tokenizer = load_language_model(directory, tensors[EMBEDDING].dtype)
        check_tokenizer(tokenizer, tensors[EMBEDDING].shape[0], source)
        digest = torch.frombuffer(bytearray(fingerprint(model.get_decoder())), dtype=torch.uint8)
        if self.config.reply is not None:
            return digest, Reply((self.config.reply,), is_stated=True)
        return digest, reply_of(model, tokenizer)


def check_statistics(latent_space: Autoencoder, published: Generator, source: str) -> None:
    """Raise UserError unless the latent space normalises as the model was trained: not at all, or as it stores."""
    if not isinstance(latent_space, RAE):
        if published.statistics:
            raise UserError(f"{source}: it holds latent statistics, and this latent space has its own; name a rae")
        return
    own = latent_space.statistics
    if not published.statistics:
        if not is_identity(own):
            raise UserError(
                f"{source}: it was trained on tokens as they are, but its latent space normalises them; convert the "
                "decoder again with --statistics none"
            )
        return
    shape = latent_space.shape
    wanted = {"data_mean": own.mean, "data_std": (own.var + own.eps).sqrt()}
    for key, value in wanted.items():
        stored = published.statistics[key]
        stored = to_grid(stored[None]).squeeze(0) if stored.ndim == 2 and len(stored) > 1 else stored.reshape(-1, 1, 1)
        if not torch.allclose(stored.expand(shape).float(), value.expand(shape), atol=STATISTICS_TOLERANCE):
            raise UserError(
                f"{source}: its {key} is not that of the latent space; convert the decoder again with the model's own "
                "--statistics"
            )


def _check_settings(settings: Mapping[str, Any], source: Source) -> None:
    """Raise UserError without a ``config.json``, or for one that means something else than is understood."""
    if "hidden_size" not in settings:
        raise UserError(
            f"convert: {str(source.path)!r} has no {CONFIG_FILE} of a Scale-RAE model beside its weights; name the "
            "directory of the release"
        )
    for key, known in KNOWN.items():
        value = settings.get(key, known[0])
        if value not in known:
            raise UserError(
                f"convert: {key} is {value!r} in {str(source.path)!r}; only {', '.join(known)} is published"
            )


def _condition(published: Generator, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that every conditioner of prompts has; without a null token there is no absence of a prompt."""
    longest = settings.get("tokenizer_model_max_length") or DEFAULT_MAX_LENGTH
    dropout = settings.get("diffusion_class_dropout_prob") or DEFAULT_DROPOUT
    return {
        "width": state["connector.weight"].shape[0],
        "max_prompt_tokens": max(longest - len(state["queries"]), 1),
        "dropout": 0.0 if published.condition is None else dropout,
    }


def _reading(reply: Reply) -> dict[str, Any]:
    """Of a conditioner that only reads: its template ends where a picture begins."""
    return {"name": "query", "template": TEMPLATES["chatml"] + (reply.text or "") + PICTURE_TOKEN}


def _seeing(reply: Reply, sight: Sight) -> dict[str, Any]:
    """Of one that also sees and speaks: it knows where a picture begins, and may write its own reply."""
    return {"name": "unified", "template": "chatml", "reply": reply.own, **sight.settings}


def _settings(published: Generator, condition: Mapping[str, Any], settings: Mapping[str, Any]) -> ImageGenerator.Config:
    """Settings of the generator."""
    return ImageGenerator.Config(
        backbone=published.backbone.config,
        condition=CONDITIONERS[condition["name"]].Config(**condition),
        transport=FlowMatching.Config(base_dim=settings.get("diffusion_base_dim") or BASE_DIM),
        sampling=AS_PUBLISHED,
    )
