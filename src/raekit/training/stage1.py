"""Stage 1: training the decoder of a representation autoencoder.

In: pictures. Out: a latent-space artefact (decoder, latent statistics, the encoder's identity).

The encoder is frozen. Its tokens receive noise of a random level, so that the decoder also accepts what a generator
will produce (RAE, section 4.3), and the decoder redraws the picture. Loss: L1, L1 of neighbour differences, distance in
the encoder's own tokens, and LPIPS where its weights are given (RAE, appendix C.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, nn

from raekit.autoencoder.latent import add_noise, noise_sigma
from raekit.autoencoder.rae import RAE
from raekit.checkpoint import load_safetensors, load_strict
from raekit.config import Config
from raekit.data.dataset import DataConfig, Dataset, build_dataset
from raekit.data.loader import Batch, Loader
from raekit.data.transforms import to_float
from raekit.image_grid import image_grid
from raekit.losses.perceptual import LPIPS, EncoderFeatures
from raekit.losses.pixels import gradient_l1, l1
from raekit.metrics.reconstruction import psnr
from raekit.training.draws import Draws
from raekit.training.stage import Recipe, Stage

PURPOSE_SIGMA, PURPOSE_EPS = range(2)


class LossConfig(Config):
    """Weights of the terms of stage 1; a weight of 0 leaves the term out."""

    l1: float = Field(1.0, ge=0)
    """Absolute difference of the pixels."""
    gradient: float = Field(0.0, ge=0)
    """Absolute difference of neighbour differences: sharper edges without a discriminator."""
    encoder: float = Field(0.0, ge=0)
    """Squared distance of the encoder's tokens."""
    lpips: float = Field(0.0, ge=0)
    """LPIPS on VGG16 features; needs both weight files."""
    lpips_vgg: Path | None = None
    """torchvision's VGG16 weights, safetensors."""
    lpips_heads: Path | None = None
    """The LPIPS heads (``lin0`` to ``lin4``), safetensors."""

    @model_validator(mode="after")
    def _check_lpips(self) -> LossConfig:
        if self.lpips and not (self.lpips_vgg and self.lpips_heads):
            raise ValueError("lpips: give lpips_vgg and lpips_heads, or set the weight to 0")
        return self


class Stage1(Stage):
    """A decoder learns to redraw pictures from the noised tokens of a frozen encoder."""

    class Config(Recipe):
        """Settings of stage 1."""

        stage: Literal["stage1"] = "stage1"
        data: DataConfig
        """Training pictures."""
        held_out: DataConfig
        """Pictures that are never trained on."""
        autoencoder: RAE.Config
        """Encoder, decoder, noise and form of the statistics."""
        init_decoder: Path | None = None
        """Decoder weights to start from, safetensors; None = a fresh decoder."""
        losses: LossConfig = LossConfig()
        """Weights of the loss terms."""
        num_statistics: int = Field(50_000, gt=0)
        """Most training pictures used for the latent statistics."""
        num_held_out: int = Field(256, gt=0)
        """Held-out pictures used by ``evaluate``."""

    def __init__(self, config: Config, device: torch.device) -> None:
        super().__init__(config, device)
        self.dataset = build_dataset(config.data, config.seed)
        self.rae = RAE(config.autoencoder).to(device)
        if config.init_decoder is not None:
            load_strict(self.rae.decoder, load_safetensors(config.init_decoder), str(config.init_decoder))
        self.rae.train()
        self.encoder_distance = EncoderFeatures(self.rae.encoder)
        self.lpips = self._build_lpips(config.losses)

    def modules(self) -> dict[str, nn.Module]:
        return {"decoder": self.rae.decoder}

    def batches(self, position: int, size: int) -> Iterator[Batch]:
        return iter(Loader(self.dataset, size, start_position=position))

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        image = to_float(batch.image.to(self.device))
        tokens = self.rae.encode_tokens(image)
        law = self.config.autoencoder.noise_law
        draw = draws.uniform(PURPOSE_SIGMA) if law == "uniform" else draws.normal(PURPOSE_SIGMA)
        sigma = noise_sigma(law, self.config.autoencoder.tau, draw)
        redrawn = self.rae.decode_tokens(add_noise(tokens, sigma, draws.normal(PURPOSE_EPS, tokens.shape[1:])))
        terms = self._terms(redrawn, self._target(image), tokens)
        weights = self.config.losses
        return {"loss": sum((getattr(weights, n) * v for n, v in terms.items()), torch.zeros(())), **terms}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """PSNR of held-out pictures, without noise."""
        values = []
        for image in self._held_out_images(self.config.num_held_out):
            values.append(psnr(self.rae.decode_tokens(self.rae.encode_tokens(image)), self._target(image)))
        return {"psnr": float(torch.cat(values).mean())}

    @torch.no_grad()
    def sheet(self) -> Image.Image:
        """Held-out pictures above their reconstructions."""
        image = next(self._held_out_images(8))
        redrawn = self.rae.decode_tokens(self.rae.encode_tokens(image))
        return image_grid(torch.cat([self._target(image), redrawn.float()]), columns=8)

    def export(self, directory: Path) -> Path:
        """Fit the latent statistics on the training pictures and write ``autoencoder/``."""
        count = min(self.config.num_statistics, len(self.dataset))
        self.rae.fit_statistics(self._images(self.dataset, count))
        self.rae.to(self.device).save(directory / "autoencoder")
        return directory / "autoencoder"

    @classmethod
    def describe(cls, config: Any) -> list[tuple[str, str]]:
        rae = RAE(config.autoencoder)
        channels, height, width = rae.shape
        return [
            ("encoder input", f"{rae.encoder.input_size} x {rae.encoder.input_size} px"),
            ("latent", f"{channels} x {height} x {width} = {rae.dim} numbers"),
            ("decoder output", f"{rae.output_size} x {rae.output_size} px"),
            ("encoder parameters", f"{sum(p.numel() for p in rae.encoder.parameters()):,} (frozen)"),
            ("decoder parameters", f"{sum(p.numel() for p in rae.decoder.parameters()):,}"),
        ]

    def _terms(self, redrawn: Tensor, target: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        """The terms with a weight above 0."""
        weights = self.config.losses
        terms = {"l1": l1(redrawn, target)}
        if weights.gradient:
            terms["gradient"] = gradient_l1(redrawn, target)
        if weights.encoder:
            terms["encoder"] = self.encoder_distance(redrawn, tokens)
        if self.lpips is not None:
            terms["lpips"] = self.lpips(redrawn, target)
        return terms

    def _target(self, image: Tensor) -> Tensor:
        """The picture at the decoder's output size, which may differ from the encoder's input (224 in, 256 out)."""
        if image.shape[-1] == self.rae.output_size:
            return image
        size = (self.rae.output_size, self.rae.output_size)
        return F.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)

    def _held_out_images(self, count: int) -> Iterator[Tensor]:
        return self._images(build_dataset(self.config.held_out), count)

    def _images(self, dataset: Dataset, count: int) -> Iterator[Tensor]:
        """The first ``count`` pictures of a data set, in batches of at most 128."""
        for batch in Loader(dataset, min(count, 128), stop=count):
            yield to_float(batch.image.to(self.device))

    def _build_lpips(self, losses: LossConfig) -> LPIPS | None:
        if not (losses.lpips and losses.lpips_vgg and losses.lpips_heads):
            return None
        return LPIPS.from_files(losses.lpips_vgg, losses.lpips_heads).to(self.device)
