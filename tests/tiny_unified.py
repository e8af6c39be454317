"""Unified models of a few ten thousand random weights: an RAE or a VAE, a language model of bytes, a small backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2ForCausalLM

import tiny_autoencoders
import tiny_encoders
import tiny_generator
import tiny_language_model
from raekit.autoencoder.base import Autoencoder
from raekit.backbones.dit import DiT
from raekit.multimodal.conditioner import UnifiedConditioner
from raekit.multimodal.eye import seeing
from raekit.multimodal.unified import UnifiedModel
from raekit.transport.objective import FlowMatching

WIDTH = 24


def qwen2(seed: int = 0) -> Qwen2ForCausalLM:
    """A Qwen2 as small as the tiny Llama; its last layer is the table of words, which the Llama's is not."""
    return tiny_language_model.build_qwen2(seed, max_position_embeddings=512, tie_word_embeddings=True)


def conditioner(is_tied: bool = False, num_tokens: int = 16, **settings: Any) -> UnifiedConditioner:
    """A language model that sees pictures of 16 tokens with 32 channels."""
    torch.manual_seed(0)
    model = qwen2() if is_tied else tiny_language_model.build_model()
    base = {"language_model": "tiny", "precision": "fp32", "width": WIDTH, "vision_shape": (16, tiny_encoders.WIDTH)}
    config = UnifiedConditioner.Config.model_validate(base | settings)
    built = UnifiedConditioner(
        config, num_tokens=num_tokens, language_model=(model, tiny_language_model.build_tokenizer())
    )
    return built.eval()


def in_rae(directory: Path, **settings: Any) -> UnifiedModel:
    """A model that sees what it draws: 16 tokens of 32 channels."""
    return _around(tiny_generator.latent_space(directory / "autoencoder"), settings)


def in_vae(directory: Path, **settings: Any) -> UnifiedModel:
    """A model that draws in a VAE's latent space and sees through a tower."""
    tower = {"name": "nano", "path": str(tiny_encoders.save("nano", directory / "tower"))}
    return _around(tiny_autoencoders.build("kl_vae", directory, posterior="sample"), {"tower": tower} | settings)


def _around(latent_space: Autoencoder, settings: dict[str, Any]) -> UnifiedModel:
    _, height, width = latent_space.shape
    backbone_settings = settings.pop("backbone", {})
    named = UnifiedConditioner.Config.model_validate(settings)
    shape = seeing(named, latent_space).vision_shape
    told_by = conditioner(num_tokens=height * width, **{"is_llm_trained": True, "vision_shape": shape} | settings)
    config = DiT.Config(size="nano", width=tiny_encoders.WIDTH + 8, depth=2, heads=2, **backbone_settings)
    backbone = DiT(config, latent_space.shape, WIDTH)
    with torch.no_grad():
        for parameter in backbone.parameters():
            # A fresh backbone says zero whatever it is told; this one reacts.
            parameter.add_(0.1 * torch.randn_like(parameter))
    return UnifiedModel(told_by, backbone, FlowMatching(FlowMatching.Config(), latent_space.dim), latent_space)
