"""A CLIP of a few thousand random weights, with a tokenizer of letters, in the transformers layout."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers.processors import TemplateProcessing
from transformers import CLIPConfig, CLIPModel

import tiny_language_model

TOWER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
IMAGE_SIZE = 24


def build(seed: int = 0) -> CLIPModel:
    text = {**TOWER, "vocab_size": 300, "max_position_embeddings": 16, "eos_token_id": 0, "pad_token_id": 0}
    vision = {**TOWER, "image_size": IMAGE_SIZE, "patch_size": 8}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).eval()
        for parameter in model.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model


def saved(directory: Path) -> Path:
    """``directory``, where model and tokenizer were saved."""
    build().save_pretrained(directory)
    tokenizer = tiny_language_model.build_tokenizer()
    tokenizer.pad_token = "!"
    # CLIP reads a text where it ends.
    ending = TemplateProcessing(single="$A !", special_tokens=[("!", tokenizer.pad_token_id)])
    tokenizer.backend_tokenizer.post_processor = ending
    tokenizer.save_pretrained(directory)
    return directory
