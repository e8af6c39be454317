"""The reconstruction loss of stage 1: a weighted sum of what a redrawn picture is compared by.

In: reconstruction and target ``[B,3,H,W]`` in [0,1], and the step of the run. Out: the weighted terms by name. Pixels
(L1, L1 of neighbour differences), a perceptual network (LPIPS and Gram on VGG16), and the run's own encoder, which
stands in for VGG16 where its weights are not at hand (RAE, appendix C.2; Scale-RAE, appendix A). A term of weight 0
costs nothing; the features that two terms share are computed once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field, model_validator
from torch import Tensor

from raekit.config import Config
from raekit.durations import Steps
from raekit.encoders.base import RepresentationEncoder
from raekit.errors import UserError
from raekit.losses.gram import gram_distance
from raekit.losses.perceptual import LPIPS, EncoderFeatures
from raekit.losses.pixels import gradient_l1, l1

NO_ENCODER = "losses: gram and encoder look through an encoder; set loss_encoder, or set their weights to 0"


class ReconstructionLoss:
    """Terms of stage 1 other than the adversarial one.

    Args:
        config: weights, starts and weight files.
        encoder: frozen; for the terms that look through an encoder.
        device: where the perceptual network goes.
    """

    class Config(Config):
        """Weights of the terms; a weight of 0 leaves the term out."""

        l1: float = Field(1.0, ge=0)
        """Absolute difference of the pixels."""
        gradient: float = Field(0.0, ge=0)
        """Absolute difference of neighbour differences: sharper edges without a discriminator."""
        encoder: float = Field(0.0, ge=0)
        """Squared distance of the encoder's tokens."""
        lpips: float = Field(0.0, ge=0)
        """LPIPS on VGG16 features; needs both weight files."""
        lpips_vgg: str | None = None
        """VGG16 weights: safetensors file, its directory, or a hub id such as ``timm/vgg16.tv_in1k``."""
        lpips_heads: str | None = None
        """The LPIPS heads (``lin0`` to ``lin4``), likewise; ``raekit convert vgg.pth DIR`` makes them."""
        lpips_start_steps: Steps = Field(0, ge=0)
        """Step at which LPIPS sets in."""
        gram: float = Field(0.0, ge=0)
        """Distance of the features' Gram matrices: of VGG16 when its weights are given, else of the encoder."""
        gram_layers: tuple[int, ...] = (1, -1)
        """Blocks of the encoder whose tokens the Gram matrices are made of, where there is no VGG16."""
        gram_start_steps: Steps = Field(0, ge=0)
        """Step at which the Gram term sets in."""
        kl: float = Field(1e-6, ge=0)
        """Divergence of a variational autoencoder's posterior from a standard normal; other latent spaces have none."""

        @model_validator(mode="after")
        def _check_files(self) -> ReconstructionLoss.Config:
            if self.lpips and not (self.lpips_vgg and self.lpips_heads):
                raise ValueError("lpips: give lpips_vgg and lpips_heads, or set the weight to 0")
            return self

    def __init__(self, config: Config, encoder: RepresentationEncoder | None, device: torch.device) -> None:
        self.config = config
        self.encoder = encoder
        self.encoder_features = None if encoder is None else EncoderFeatures(encoder, config.gram_layers)
        self.perceptual = None
        if config.lpips_vgg and config.lpips_heads and (config.lpips or config.gram):
            self.perceptual = LPIPS.from_files(config.lpips_vgg, config.lpips_heads).to(device)

    def terms(self, image: Tensor, target: Tensor, step: int, target_tokens: Tensor | None = None) -> dict[str, Tensor]:
        """Each term times its weight; those that rest at ``step`` are left out.

        Args:
            image: reconstruction, with gradients.
            target: what it should be.
            step: of the run.
            target_tokens: the encoder's tokens of the target, where they are known already.
        """
        weights = self.config
        terms = {"l1": weights.l1 * l1(image, target)} if weights.l1 else {}
        if weights.gradient:
            terms["gradient"] = weights.gradient * gradient_l1(image, target)
        if weights.encoder:
            if self.encoder is None or self.encoder_features is None:
                raise UserError(NO_ENCODER)
            tokens = self.encoder(target) if target_tokens is None else target_tokens
            terms["encoder"] = weights.encoder * self.encoder_features(image, tokens)
        return terms | self._perceptual_terms(image, target, step)

    def own_terms(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The latent space's own terms times their weights."""
        return {name: getattr(self.config, name) * value for name, value in terms.items()}

    def _perceptual_terms(self, image: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        weights = self.config
        has_lpips = bool(weights.lpips) and step >= weights.lpips_start_steps
        has_gram = bool(weights.gram) and step >= weights.gram_start_steps
        if not (has_lpips or has_gram):
            return {}
        features, wanted = self._features(image), self._features(target)
        terms: dict[str, Tensor] = {}
        if has_lpips and self.perceptual is not None:
            terms["lpips"] = weights.lpips * self.perceptual.distance(features, wanted).mean()
        if has_gram:
            terms["gram"] = weights.gram * gram_distance(features, wanted)
        return terms

    def _features(self, image: Tensor) -> list[Tensor]:
        """Feature maps of the perceptual network, or normalised tokens of the encoder."""
        if self.perceptual is not None:
            return self.perceptual.taps(image)
        if self.encoder_features is None:
            raise UserError(NO_ENCODER)
        return self.encoder_features.taps(image)
