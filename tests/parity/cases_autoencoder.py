"""Parity of encoders, decoder, latent statistics and the whole autoencoder with RAE and Scale-RAE."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from parity.case import Case, Compute
from raekit.autoencoder.decoder import ViTDecoder, unpatchify
from raekit.autoencoder.latent import (
    LatentStatistics,
    StreamingStatistics,
    add_noise,
    noise_sigma,
    resize_tokens,
    to_grid,
    to_tokens,
)
from raekit.autoencoder.rae import RAE
from raekit.encoders import ENCODERS
from raekit.encoders.base import RepresentationEncoder
from raekit.encoders.projector import Projector
from raekit.interop.decoder import decoder_from
from raekit.layers.attention import rotate
from raekit.layers.embeddings import rope_2d, sincos_2d

ENCODER_NAMES = {"Dinov2withNorm": "dinov2", "SigLIP2wNorm": "siglip2", "MAEwNorm": "mae"}

MOMENTUM = 0.1
"""Of the published moving averages of a latent space's mean and variance."""


def position_tables(case: Case) -> dict[str, Tensor]:
    width, grid = case.config["dim"], case.config["grid"]
    cos, sin = rope_2d(case.config["head_dim"], grid)
    return {
        "sincos_2d": sincos_2d(width, grid),
        "sincos_2d_with_cls": sincos_2d(width, grid, cls_token=True),
        "rope_cos": cos,
        "rope_sin": sin,
        "rope_output": rotate(case.inputs["rope_input"], cos, sin),
    }


@torch.no_grad()
def vit_decoder(case: Case) -> dict[str, Tensor]:
    decoder = official_decoder(case, case.config["vit_mae_config"])
    tokens, with_cls = case.inputs["tokens"], case.inputs["tokens_with_cls"]
    hidden: list[Tensor] = []
    for block in (decoder.blocks[0], decoder.blocks[-1]):
        block.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0]))
    decoder.blocks[-1].register_forward_hook(lambda _, inputs, output: hidden.append(output))
    outputs = {"logits": decoder.patches(tokens), "hidden_first": hidden[0], "hidden_last": hidden[2]}
    resampled = decoder.patches(case.inputs["tokens_other_grid"])
    return outputs | {
        "image": decoder(tokens),
        "logits_resampled": resampled,
        "image_resampled": unpatchify(resampled, decoder.patch_size),
        "logits_dropcls": decoder.patches(with_cls[:, 1:]),
    }


@torch.no_grad()
def autoencoder(case: Case) -> dict[str, Tensor]:
    settings, inputs = case.config["rae_kwargs"], case.inputs
    name = ENCODER_NAMES[settings["encoder_cls"]]
    encoder = hf_encoder(case, case.config["encoder_hf_config"], name, input_size=settings["encoder_input_size"])
    decoder = official_decoder(case, case.config["decoder_vit_mae_config"])
    statistics = LatentStatistics(inputs["latent_mean"], inputs["latent_var"], settings["eps"])
    config = RAE.Config(encoder=encoder.config, decoder=decoder.config, tau=settings["noise_tau"])
    rae = RAE(config, encoder=encoder, decoder=decoder, statistics=statistics)
    plain = RAE(config, encoder=encoder, decoder=decoder)
    sigma = noise_sigma(config.noise_law, config.tau, inputs["noise_u"].flatten())
    noised = to_grid(add_noise(rae.encode_tokens(inputs["image"]), sigma, inputs["noise_n"]))
    return {
        "latent": rae.encode(inputs["image"]),
        "latent_unnormalised": plain.encode(inputs["image"]),
        "latent_noised": statistics.normalise(noised),
        "latent_noised_unnormalised": noised,
        "decoded": rae.decode(inputs["latent_to_decode"]),
        "reconstruction": rae(inputs["image"]),
        "encoder_pixel_values": encoder.preprocess(inputs["image"]),
    }


def latent_statistics(case: Case) -> dict[str, Tensor]:
    """The part of rae_09 that concerns latents: the published moving averages, of each batch as ours sees it."""
    batches = case.inputs["stat_batches"]
    mean, var = torch.zeros_like(batches[0, 0]), torch.ones_like(batches[0, 0])
    means, variances = [], []
    for batch in batches:
        of_batch = StreamingStatistics()
        of_batch.update(batch)
        found = of_batch.finish()
        mean, var = mean.lerp(found.mean.float(), MOMENTUM), var.lerp(found.var.float(), MOMENTUM)
        means.append(mean)
        variances.append(var)
    return {"stat_running_mean": torch.stack(means), "stat_running_var": torch.stack(variances)}


@torch.no_grad()
def projector(case: Case) -> dict[str, Tensor]:
    def run(kind: Any, weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
        # The published linear kind is a bare layer, ours a sequence of one.
        weights = {key if "." in key else f"0.{key}": value for key, value in weights.items()}
        out_width, in_width = weights["0.weight"].shape
        module = Projector(kind, in_width, out_width)
        module.load_state_dict(weights)
        return module(tokens)

    connector = case.group("weights/diff_head_projector.")
    weights = {key: value for key, value in case.weights.items() if not key.startswith("diff_head_projector.")}
    return {
        "projected": run(case.config["type"], weights, case.inputs["features"]),
        "condition": run("linear", connector, case.inputs["hidden"]),
    }


@torch.no_grad()
def dino_tower(case: Case) -> dict[str, Tensor]:
    encoder = hf_encoder(case, case.config["hf_config"], "webssl")
    features = encoder.normalise(encoder.hidden(case.inputs["pixel_values"]))
    grid = round(case.config["interp_tokens"] ** 0.5)
    return {"features_native": features, "features_interp": resize_tokens(features, grid)}


@torch.no_grad()
def siglip_tower(case: Case) -> dict[str, Tensor]:
    encoder = hf_encoder(case, case.config["hf_config"], "siglip2")
    hidden = encoder.hidden(case.inputs["pixel_values"])
    affine = hf_encoder(case, case.config["hf_config"], "siglip2", norm="affine")
    return {
        "features": encoder.normalise(hidden),
        "encoder_last_hidden_before_post_layernorm": hidden,
        "after_affine_post_layernorm": affine.normalise(hidden),
    }


@torch.no_grad()
def scale_rae_decoder(case: Case) -> dict[str, Tensor]:
    decoder = official_decoder(case, case.config["vit_mae_config"])
    mean, std = (torch.tensor(case.config[f"image_{name}"]).view(1, 3, 1, 1) for name in ("mean", "std"))
    tokens, other = case.inputs["tokens_with_dummy_cls"][:, 1:], case.inputs["tokens_other_grid"][:, 1:]
    image = decoder(tokens) * std + mean
    return {
        "image": image,
        "image_other_grid": decoder(other) * std + mean,
        "logits": decoder.patches(tokens),
        "image_uint8": (image.clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1),
    }


def vae_tokens(case: Case) -> dict[str, Tensor]:
    """A VAE's scale and shift are per-channel statistics: (z - shift) scale = (z - mean) / std."""
    latents, patch = case.inputs["latents"], case.config["patch"]
    mean = torch.full((latents.shape[1], 1, 1), case.config["shift_factor"])
    var = torch.full_like(mean, case.config["scaling_factor"] ** -2)
    statistics = LatentStatistics(mean, var, eps=0.0)
    scaled = statistics.normalise(latents)
    tokens = to_tokens(scaled, patch)
    return {
        "tokens": tokens,
        "latents_back": statistics.denormalise(to_grid(tokens, patch)),
        "tokens_patch1": to_tokens(scaled),
    }


CASES: dict[str, Compute] = {
    "rae_00_position_tables": position_tables,
    "rae_01_vit_decoder": vit_decoder,
    "rae_02_rae_dinov2r": autoencoder,
    "rae_02_rae_mae": autoencoder,
    "rae_02_rae_siglip": autoencoder,
    "rae_09_ema_lr_stats": latent_statistics,
    "srae_12_projector_linear": projector,
    "srae_12_projector_mlp2x_gelu": projector,
    "srae_12_projector_mlp3x_gelu": projector,
    "srae_13_dino_tower": dino_tower,
    "srae_13_siglip_tower": siglip_tower,
    "srae_14_decoder": scale_rae_decoder,
    "srae_17_vae_latent_tokens": vae_tokens,
}


def official_decoder(case: Case, settings: dict[str, Any]) -> ViTDecoder:
    """The case's decoder, with its published habit of resizing other token grids."""
    decoder = decoder_from(case.weights, settings["decoder_num_attention_heads"], case.name)
    decoder.config = decoder.config.model_copy(update={"resize_grid": True})
    return decoder


def hf_encoder(case: Case, settings: dict[str, Any], name: str, **options: Any) -> RepresentationEncoder:
    """The case's encoder, read from a checkpoint directory as a published one is."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "config.json").write_text(json.dumps(settings), encoding="utf-8")
        save_file(case.group("hf/"), Path(directory, "model.safetensors"), metadata={"format": "pt"})
        config = ENCODERS[name].Config(path=directory, **options)
        encoder: RepresentationEncoder = ENCODERS.build(config)
    return encoder
