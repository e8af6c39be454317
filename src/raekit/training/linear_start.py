"""Data-driven starts: an encoder and its decoder as the best linear code of the patches, a connector that whitens.

In: fresh modules and some of the data they will see. Out: the same modules, computing principal components and their
inverse before the first training step. A small tower trained from noise for a few hundred steps knows little more than
each patch's mean colour; the principal components of 16 x 16 patches reach 28 dB with 128 channels at once, and
training then spends its steps on meaning and on what is not linear (docs/log.md, 2026-11-22).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raekit.autoencoder.decoder import DecoderBlock, ViTDecoder

RIDGE = 1e-3
"""Relative ridge of the least squares, against directions that the pictures hardly use."""
WHITENING_FLOOR = 0.1
"""Share of the mean power that is added to each component's own before dividing, so that noise is not blown up."""


@torch.no_grad()
def start_encoder(vision: Any, image: Tensor) -> None:
    """Principal components of the patches into the patch embedding; every residual branch starts silent.

    Args:
        vision: a ``SiglipVisionTransformer``.
        image: ``[B,3,S,S]`` in [0,1].
    """
    convolution = vision.embeddings.patch_embedding
    width, patch = convolution.out_channels, convolution.kernel_size[0]
    patches = F.unfold(image * 2 - 1, patch, stride=patch).transpose(1, 2).flatten(0, 1)
    mean = patches.mean(dim=0)
    centred = patches - mean
    components = torch.linalg.eigh(centred.T @ centred / len(centred)).eigenvectors.flip(1)[:, :width].T
    scale = (centred @ components.T).square().mean().rsqrt()
    convolution.weight.copy_((components * scale).view_as(convolution.weight))
    convolution.bias.copy_(-(components @ mean) * scale)
    for layer in vision.encoder.layers:
        _silence(layer.self_attn.out_proj)
        _silence(layer.mlp.fc2)


@torch.no_grad()
def start_decoder(decoder: ViTDecoder, tokens: Tensor, pixels: Tensor) -> None:
    """Silent residual branches, an isometric embedding, and the last layer by ridge regression.

    Args:
        decoder: a fresh decoder.
        tokens: ``[B,N,C]``, as the decoder will see them in training.
        pixels: ``[B,3,S,S]``, what they should become, in the encoder's pixel scale.
    """
    nn.init.orthogonal_(decoder.embed.weight)
    nn.init.zeros_(decoder.embed.bias)
    for block in decoder.blocks:
        assert isinstance(block, DecoderBlock)
        _silence(block.attention.proj)
        _silence(block.mlp.fc2)
    hidden = decoder.hidden(tokens).flatten(0, 1)
    target = patchify(pixels, decoder.patch_size).flatten(0, 1)
    design = torch.cat([hidden, torch.ones_like(hidden[:, :1])], dim=1).double()
    gram = design.T @ design
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    solution = torch.linalg.solve(gram + ridge, design.T @ target.double()).float()
    decoder.head.weight.copy_(solution[:-1].T)
    decoder.head.bias.copy_(solution[-1])


@torch.no_grad()
def start_connector(connector: nn.Linear, features: Tensor) -> None:
    """Let the connector start as the leading principal components of the text features, at nearly equal size.

    A language model's states share a large mean and a few loud directions, and what tells one prompt from another is
    a hundred times smaller (docs/log.md, 2026-11-22); from a random start, most of training goes into finding it.

    Args:
        connector: ``Linear(H -> Z)``.
        features: ``[M,N,H]``, of ``M`` captions at ``N`` queries.
    """
    values = features.float()
    within = (values - values.mean(dim=0)).flatten(0, 1)
    power, directions = torch.linalg.eigh(within.T @ within / len(within))
    count = min(connector.out_features, connector.in_features)
    power, directions = power.flip(0)[:count], directions.flip(1)[:, :count]
    weight = directions.T / torch.sqrt(power + WHITENING_FLOOR * power.mean())[:, None]
    nn.init.zeros_(connector.weight)
    connector.weight[:count] = weight.to(connector.weight)
    nn.init.zeros_(connector.bias)
    connector.bias[:count] = -(weight @ values.mean(dim=(0, 1))).to(connector.bias)


def patchify(image: Tensor, patch_size: int) -> Tensor:
    """Image ``[B,3,S,S]`` to flat patches ``[B,N,p^2*3]``, (row, column, channel): the inverse of ``unpatchify``."""
    patches = F.unfold(image, patch_size, stride=patch_size).transpose(1, 2)
    batch, num_patches, _ = patches.shape
    return patches.view(batch, num_patches, 3, patch_size**2).transpose(2, 3).flatten(2)


def _silence(linear: nn.Linear) -> None:
    nn.init.zeros_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
