"""Verifiers of pixels: how near picture and prompt lie in the space of a model that was trained to match them.

In: images ``[B,3,H,W]`` in [0, 1], prompts. Out: a score for each. They stand beside the verifiers of latents for
comparison, need no unified model, and cost what those save: every candidate is rendered. ``clip_score`` is the CLIP
score (Hessel et al. 2021); ``siglip_score`` is what a SigLIP model says of the pair, by default the small one that
ships with the package, which has seen emoji and their names and little else.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from raekit.conditioning.prompt import MAX_WARNINGS
from raekit.encoders.source import quiet
from raekit.errors import UserError
from raekit.hub import local_model
from raekit.verifiers.base import PixelVerifier, Verdict, VerifierConfig

log = logging.getLogger(__name__)

BUNDLED = "models/nano/encoder"
"""The SigLIP model inside the package: the encoder of the nano latent space, with its text tower."""


class ContrastiveConfig(VerifierConfig):
    """Which image-text model."""

    path: str
    """Directory in the transformers layout, with its tokenizer, or hub id."""
    revision: str | None = None
    """Branch, tag or commit of a hub repository."""


class ContrastiveVerifier(PixelVerifier):
    """Picture and prompt as two unit vectors of one space.

    Args:
        config: the settings.
        device: where it runs.

    Raises:
        UserError: no such model, or one of another kind.
    """

    model_type: ClassVar[str]
    """As transformers calls it."""
    image_mean: ClassVar[tuple[float, float, float]]
    image_std: ClassVar[tuple[float, float, float]]

    config: ContrastiveConfig

    def __init__(self, config: ContrastiveConfig, device: torch.device | str = "cpu") -> None:
        super().__init__(config, device)
        self.tokenizer, self.model = _loaded(config, self.model_type)
        self.model.requires_grad_(False).eval().to(self.device)
        self.image_size = int(self.model.config.vision_config.image_size)
        self.max_length = int(self.model.config.text_config.max_position_embeddings)
        self._told: set[str] = set()

    def embed(self, image: Tensor, prompts: Sequence[str]) -> Tensor:
        """Cosines ``[B]`` of images ``[B,3,H,W]`` in [0, 1] and their prompts."""
        mean, std = (
            torch.tensor(value, device=self.device)[:, None, None] for value in (self.image_mean, self.image_std)
        )
        size = (self.image_size, self.image_size)
        if image.shape[-2:] != size:
            image = F.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)
        texts = list(dict.fromkeys(prompts))
        found = self.model(pixel_values=(image - mean) / std, **self.read(texts))
        rows = [texts.index(prompt) for prompt in prompts]
        image_embeds, text_embeds = (F.normalize(e.float(), dim=-1) for e in (found.image_embeds, found.text_embeds))
        cosines: Tensor = (image_embeds * text_embeds[rows]).sum(-1)
        return cosines

    def check(self, prompts: Sequence[Any]) -> None:
        """As ever; and say, once of each, which prompts are longer than the text tower reads."""
        super().check(prompts)
        for prompt in (prompt for prompt in dict.fromkeys(prompts) if prompt not in self._told):
            if len(self._told) == MAX_WARNINGS:
                return
            if (length := len(self.tokenizer(prompt.lower(), verbose=False)["input_ids"])) > self.max_length:
                self._told.add(prompt)
                last = "; further prompts are cut without a warning" if len(self._told) == MAX_WARNINGS else ""
                log.warning(
                    f"verifier {self.config.name}: {prompt[:40]!r}... has {length} tokens and this model reads "
                    f"{self.max_length}; the last {length - self.max_length} are left out{last}"
                )

    def read(self, texts: list[str]) -> dict[str, Tensor]:
        """Token ids as the text tower was trained on them; what it cannot hold is cut off."""
        ids = self.tokenizer(texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
        return {name: ids[name].to(self.device) for name in ("input_ids", "attention_mask")}


class CLIPScore(ContrastiveVerifier):
    """The CLIP score: 100 times the cosine of picture and prompt, through transformers."""

    class Config(ContrastiveConfig):
        """Which CLIP."""

        name: Literal["clip_score"] = "clip_score"
        path: str = "openai/clip-vit-large-patch14"
        """Directory in the transformers layout, or hub id."""

    model_type = "clip"
    image_mean = (0.48145466, 0.4578275, 0.40821073)
    image_std = (0.26862954, 0.26130258, 0.27577711)

    def weigh(self, tokens: Tensor, prompts: Sequence[str]) -> Verdict:
        """``score``."""
        return {"score": 100 * self.embed(tokens, prompts)}


class SigLIPScore(ContrastiveVerifier):
    """The log-odds that picture and prompt match, by a SigLIP model; a small one ships with the package."""

    class Config(ContrastiveConfig):
        """Which SigLIP."""

        name: Literal["siglip_score"] = "siglip_score"
        path: str = BUNDLED
        """Directory in the transformers layout (also inside the package), or hub id."""

    model_type = "siglip"
    image_mean = image_std = (0.5, 0.5, 0.5)

    def weigh(self, tokens: Tensor, prompts: Sequence[str]) -> Verdict:
        """``score``, and the ``cosine`` it is made of."""
        cosine = self.embed(tokens, prompts)
        return {"score": cosine * self.model.logit_scale.exp() + self.model.logit_bias, "cosine": cosine}

    def read(self, texts: list[str]) -> dict[str, Tensor]:
        """Lower-cased and filled up to the full length, which the text tower reads without a mask (SigLIP)."""
        lowered = [text.lower() for text in texts]
        ids = self.tokenizer(
            lowered, padding="max_length", truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        return {"input_ids": ids["input_ids"].to(self.device)}


def _loaded(config: ContrastiveConfig, model_type: str) -> tuple[Any, Any]:
    """Tokenizer and model of ``config.path``."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    source = local_model(config.path, config.revision)
    where = f"verifier {config.name}: {config.path!r}"
    if not source.is_dir():
        raise UserError(f"{where} is no directory; give one in the transformers layout, or a hub id")
    try:
        with quiet():
            found = AutoConfig.from_pretrained(source)
            if found.model_type != model_type:
                raise UserError(f"{where} is a {found.model_type!r}, not a {model_type!r}; name a model of that kind")
            model, info = AutoModel.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
            tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split(". ")[0].split())[:200]
        raise UserError(
            f"{where} cannot be read ({reason}); give one saved by save_pretrained, with its tokenizer"
        ) from None
    wrong = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if wrong:
        raise UserError(f"{where}: {len(wrong)} weights are missing or of another shape, such as {wrong[0]}")
    return tokenizer, model
