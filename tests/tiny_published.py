"""Synthetic checkpoints of the published systems: their key tables at a tiny size, every number drawn at random.

In: sizes. Out: tensors by the names that the authors' files have, and the directories they come in. Written from the
published key tables, not from the exporters, so that these are tested against something else.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from torch import Tensor

import tiny_encoders

HEADS, WIDTH, DEPTH, MLP_WIDTH, PATCH = 2, 16, 2, 24, 3
GRID = 4
CHANNELS = tiny_encoders.WIDTH
LATENT = (CHANNELS, GRID, GRID)

VIT_MAE = (
    "attention.attention.query",
    "attention.attention.key",
    "attention.attention.value",
    "attention.output.dense",
)
DIFFUSERS = ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0")

ENCODER_WIDTH = 64
"""Of diffusers' encoders: one head."""


def decoder(channels: int = CHANNELS, attention: tuple[str, ...] = VIT_MAE, prefix: str = "") -> dict[str, Tensor]:
    """A decoder's ``model.pt`` (RAE memo, section 3); the position table is drawn like everything else."""
    shapes: dict[str, tuple[int, ...]] = {
        "decoder_pos_embed": (1, GRID**2 + 1, WIDTH),
        "trainable_cls_token": (1, 1, WIDTH),
        **_linear("decoder_embed", WIDTH, channels),
        **_linear("decoder_norm", WIDTH),
        **_linear("decoder_pred", 3 * PATCH**2, WIDTH),
    }
    for i in range(DEPTH):
        layer = f"decoder_layers.{i}"
        for name in attention:
            shapes |= _linear(f"{layer}.{name}", WIDTH, WIDTH)
        shapes |= _linear(f"{layer}.intermediate.dense", MLP_WIDTH, WIDTH)
        shapes |= _linear(f"{layer}.output.dense", WIDTH, MLP_WIDTH)
        shapes |= _linear(f"{layer}.layernorm_before", WIDTH) | _linear(f"{layer}.layernorm_after", WIDTH)
    return {prefix + key: value for key, value in draw(shapes, seed=1).items()}


def statistics() -> dict[str, Tensor]:
    """RAE's ``stat.pt``."""
    mean, var = torch.randn(2, *LATENT, generator=torch.Generator().manual_seed(2)).unbind()
    return {"mean": mean, "var": var.square() + 0.1}


def decoder_config() -> dict[str, Any]:
    """The fields of Scale-RAE's ``config.json`` that say what weights do not."""
    return {
        "decoder_hidden_size": WIDTH,
        "decoder_num_hidden_layers": DEPTH,
        "decoder_num_attention_heads": HEADS,
        "decoder_intermediate_size": MLP_WIDTH,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "qkv_bias": True,
        "patch_size": PATCH,
        "num_channels": 3,
        "image_size": GRID * PATCH,
    }


def save_decoder(directory: Path, with_config: bool = True, with_statistics: bool = True) -> Path:
    """A decoder's directory."""
    directory.mkdir(parents=True)
    torch.save(decoder(), directory / "model.pt")
    if with_config:
        (directory / "config.json").write_text(json.dumps(decoder_config()), encoding="utf-8")
    if with_statistics:
        torch.save(statistics(), directory / "stat.pt")
    return directory


def diffusers_encoder(kind: str) -> dict[str, Tensor]:
    """An encoder as diffusers builds it, by its names in memory and without the final norm's weight and bias."""
    torch.manual_seed(3)
    sizes: dict[str, Any] = {"hidden_size": ENCODER_WIDTH, "num_hidden_layers": 2, "num_attention_heads": 1}
    models = {
        "dinov2": (transformers.Dinov2WithRegistersConfig, transformers.Dinov2WithRegistersModel, 518, 14),
        "mae": (transformers.ViTMAEConfig, transformers.ViTMAEModel, 224, 16),
        "siglip2": (transformers.SiglipVisionConfig, transformers.SiglipVisionModel, 256, 16),
    }
    config, model, image_size, patch_size = models[kind]
    state = model(config(**sizes, image_size=image_size, patch_size=patch_size)).state_dict()
    kept = {key: value for key, value in state.items() if not key.startswith(("layernorm.", "post_layernorm."))}
    return {key: torch.randn_like(value) * 0.05 if "bias" in key else value for key, value in kept.items()}


@cache
def diffusers_tensors(kind: str) -> dict[str, Tensor]:
    """``diffusion_pytorch_model.safetensors`` of an AutoencoderRAE; drawn once, to be copied before a change."""
    mean = [0.485, 0.456, 0.406] if kind != "siglip2" else [0.5] * 3
    std = [0.229, 0.224, 0.225] if kind != "siglip2" else [0.5] * 3
    latents = draw({"mean": (ENCODER_WIDTH, GRID, GRID), "std": (ENCODER_WIDTH, GRID, GRID)}, seed=4)
    decoded = decoder(ENCODER_WIDTH, DIFFUSERS, "decoder.")
    del decoded["decoder.decoder_pos_embed"]
    return {
        "encoder_mean": torch.tensor(mean).view(1, 3, 1, 1),
        "encoder_std": torch.tensor(std).view(1, 3, 1, 1),
        "_latents_mean": latents["mean"],
        "_latents_std": latents["std"].abs() + 0.1,
        **{f"encoder.{key}": value for key, value in diffusers_encoder(kind).items()},
        **decoded,
    }


def diffusers_config(kind: str, **changes: Any) -> dict[str, Any]:
    """``config.json`` of an AutoencoderRAE; the statistics are those of :func:`diffusers_tensors`."""
    patch_size = 14 if kind == "dinov2" else 16
    tensors = diffusers_tensors(kind)
    return {
        "_class_name": "AutoencoderRAE",
        "_diffusers_version": "0.42.1",
        "encoder_type": kind,
        "encoder_hidden_size": ENCODER_WIDTH,
        "encoder_patch_size": patch_size,
        "encoder_num_hidden_layers": 2,
        "encoder_input_size": GRID * patch_size,
        "encoder_norm_mean": tensors["encoder_mean"].flatten().tolist(),
        "encoder_norm_std": tensors["encoder_std"].flatten().tolist(),
        "decoder_hidden_size": WIDTH,
        "decoder_num_hidden_layers": DEPTH,
        "decoder_num_attention_heads": HEADS,
        "decoder_intermediate_size": MLP_WIDTH,
        "patch_size": PATCH,
        "image_size": GRID * PATCH,
        "num_channels": 3,
        "latents_mean": tensors["_latents_mean"].tolist(),
        "latents_std": tensors["_latents_std"].tolist(),
        "noise_tau": 0.8,
        "reshape_to_2d": True,
        "use_encoder_loss": False,
        "scaling_factor": 1.0,
        **changes,
    }


def save_diffusers(directory: Path, kind: str, tensors: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    """An AutoencoderRAE directory; ``changes`` to its settings, ``tensors`` in place of its own."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(diffusers_config(kind, **changes)), encoding="utf-8")
    save_file(tensors or diffusers_tensors(kind), directory / "diffusion_pytorch_model.safetensors")
    return directory


LM_WIDTH, LM_DEPTH, LM_MLP = 24, 2, 32
"""Of the language model in a Scale-RAE checkpoint: four heads, two of them with keys and values."""
HEAD_WIDTH, HEAD_DEPTH, HEAD_MLP, COND_WIDTH = 40, 2, 106, 16
"""Of its diffusion head: two heads, which denoises latents of :data:`LATENT`."""
SPECIALS = {"<|im_end|>": 278, "<|endoftext|>": 279, "<|im_start|>": 280, "<im_start>": 281, "<im_end>": 282}
MERGES = "y e,ye s,Y e,Ye s,Y E,YE S,n o,N o,N O,Ġ yes,Ġ Yes,Ġ YES,Ġ no,Ġ No,Ġ NO,a n,i m,im a,ima g,imag e,r e,re d"
"""Of the tokenizer that the golden vectors of the whole model were made with."""


def scale_rae_model(seed: int = 5) -> dict[str, Tensor]:
    """A whole Scale-RAE model (Scale-RAE memo, section 1.3)."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (len(SPECIALS) + 278, LM_WIDTH),
        "model.norm.weight": (LM_WIDTH,),
        "model.latent_queries": (GRID**2, LM_WIDTH),
        **_linear("model.mm_projector.0", LM_WIDTH, CHANNELS),
        **_linear("model.mm_projector.2", LM_WIDTH, LM_WIDTH),
        **_linear("diff_head_projector", COND_WIDTH, LM_WIDTH),
    }
    for i in range(LM_DEPTH):
        layer = f"model.layers.{i}"
        shapes |= _linear(f"{layer}.self_attn.q_proj", LM_WIDTH, LM_WIDTH)
        for part in "kv":
            shapes |= _linear(f"{layer}.self_attn.{part}_proj", LM_WIDTH // 2, LM_WIDTH)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (LM_WIDTH, LM_WIDTH)
        shapes |= {f"{layer}.mlp.{part}_proj.weight": (LM_MLP, LM_WIDTH) for part in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (LM_WIDTH, LM_MLP)
        shapes |= {f"{layer}.{norm}_layernorm.weight": (LM_WIDTH,) for norm in ("input", "post_attention")}
    drawn = draw(shapes | _diffusion_head(), seed)
    return {key: 0.2 * value for key, value in drawn.items()}


def _diffusion_head() -> dict[str, tuple[int, ...]]:
    head = "diff_head.model"
    shapes: dict[str, tuple[int, ...]] = {
        f"{head}.pos_embed": (1, GRID**2, HEAD_WIDTH),
        f"{head}.x_embedder.proj.weight": (HEAD_WIDTH, CHANNELS, 1, 1),
        f"{head}.x_embedder.proj.bias": (HEAD_WIDTH,),
        **_linear(f"{head}.t_embedder.mlp.0", COND_WIDTH, 512),
        **_linear(f"{head}.t_embedder.mlp.2", COND_WIDTH, COND_WIDTH),
        f"{head}.y_embedder.dropout_embedding": (COND_WIDTH,),
        **{f"{head}.feat_rope.freqs_{part}": (GRID**2, HEAD_WIDTH // 2) for part in ("cos", "sin")},
        f"{head}.final_layer.norm_final.weight": (HEAD_WIDTH,),
        **_linear(f"{head}.final_layer.linear", CHANNELS, HEAD_WIDTH),
        **_linear(f"{head}.final_layer.adaLN_modulation.1", 2 * HEAD_WIDTH, COND_WIDTH),
    }
    for i in range(HEAD_DEPTH):
        block = f"{head}.dit_blocks.{i}"
        shapes |= {f"{block}.norm{k}.weight": (HEAD_WIDTH,) for k in (1, 2)}
        shapes |= _linear(f"{block}.attn.qkv", 3 * HEAD_WIDTH, HEAD_WIDTH)
        shapes |= _linear(f"{block}.attn.proj", HEAD_WIDTH, HEAD_WIDTH)
        shapes |= _linear(f"{block}.mlp.w12", 2 * HEAD_MLP, HEAD_WIDTH)
        shapes |= _linear(f"{block}.mlp.w3", HEAD_WIDTH, HEAD_MLP)
        shapes |= _linear(f"{block}.adaLN_modulation.1", 6 * HEAD_WIDTH, COND_WIDTH)
    return shapes


def scale_rae_config(**changes: Any) -> dict[str, Any]:
    """The fields of a Scale-RAE model's ``config.json`` that say what its weights are."""
    return {
        "model_type": "cambrian_qwen",
        "vocab_size": len(SPECIALS) + 278,
        "hidden_size": LM_WIDTH,
        "intermediate_size": LM_MLP,
        "num_hidden_layers": LM_DEPTH,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_act": "silu",
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "tokenizer_model_max_length": 160,
        "vision_loss": "diffusion-loss",
        "vision_loss_mode": "query",
        "diffusion_model_hidden_size": HEAD_WIDTH,
        "diffusion_model_depth": HEAD_DEPTH,
        "diffusion_model_heads": 2,
        "diffusion_model_z_channels": COND_WIDTH,
        "diffusion_model_channels": CHANNELS,
        "diffusion_class_dropout_prob": 0.4,
        "diffusion_base_dim": 64,
        "ddt_encoder_depth": 2,
        "generation_alignment_tower": None,
        **changes,
    }


def save_scale_rae(directory: Path, tensors: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    """A Scale-RAE model's directory: config, two shards and their index, tokenizer; ``changes`` to the config."""
    directory.mkdir(parents=True)
    tensors = tensors or scale_rae_model()
    (directory / "config.json").write_text(json.dumps(scale_rae_config(**changes)), encoding="utf-8")
    save_shards(tensors, directory)
    vocabulary = list(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = sorted(vocabulary, key=lambda letter: (ord(letter) > 255, ord(letter)))
    vocabulary += [merge.replace(" ", "") for merge in MERGES.split(",")]
    words = {word: index for index, word in enumerate(vocabulary)}
    (directory / "vocab.json").write_text(json.dumps(words), encoding="utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\n" + MERGES.replace(",", "\n") + "\n", encoding="utf-8")
    (directory / "added_tokens.json").write_text(json.dumps(SPECIALS), encoding="utf-8")
    added = {str(index): {"content": word, "special": True} for word, index in SPECIALS.items()}
    tokenizer = {"tokenizer_class": "Qwen2Tokenizer", "pad_token": "<|endoftext|>", "added_tokens_decoder": added}
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return directory


def save_shards(tensors: dict[str, Tensor], directory: Path, num: int = 2) -> Path:
    """The tensors in ``num`` safetensors files; the path of their index."""
    names = [f"model-{i + 1:05d}-of-{num:05d}.safetensors" for i in range(num)]
    placed = {key: names[number % num] for number, key in enumerate(sorted(tensors))}
    for name in names:
        save_file({key: tensors[key].contiguous() for key, shard in placed.items() if shard == name}, directory / name)
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": placed}), encoding="utf-8")
    return index


def draw(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Standard normal tensors of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two sets of tensors agree in every key and every bit."""
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def _linear(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
