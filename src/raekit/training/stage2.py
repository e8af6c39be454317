"""Stage 2: training a generator in the latent space of a finished autoencoder.

In: captioned (or labelled) pictures and a latent-space artefact. Out: a generator directory, which ``raekit generate``
loads.

A latent, noise and a time give ``z_t``; the backbone, told the caption by the conditioner, predicts the velocity or the
clean latent (RAE, section 3.3; Scale-RAE, section 3), with an early head twice (RAEv2). Encoder and decoder are frozen
throughout. With a frozen language model and fixed pictures, latents and text features come from a cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from raekit import distributed
from raekit.autoencoder.base import load_autoencoder
from raekit.backbones import BACKBONES
from raekit.conditioning import CONDITIONERS
from raekit.conditioning.base import Cond
from raekit.conditioning.prompt import PromptConditioner
from raekit.config import Config, component
from raekit.data.dataset import DataConfig, Dataset, build_dataset
from raekit.data.loader import Batch, Loader
from raekit.data.transforms import to_float
from raekit.errors import UserError
from raekit.generate import ImageGenerator, TextToImage, build_generator
from raekit.image_grid import image_grid
from raekit.samplers.guidance import check_guidance
from raekit.samplers.settings import Sampling
from raekit.training.cached import CachedBatch, CachedData
from raekit.training.draws import Draws
from raekit.training.linear_start import start_connector
from raekit.training.stage import Recipe, Stage
from raekit.transport.objective import FlowMatching

if TYPE_CHECKING:
    BackboneChoice = Config
    ConditionerChoice = Config
else:
    BackboneChoice = component(BACKBONES)
    ConditionerChoice = component(CONDITIONERS)

PURPOSE_TIME, PURPOSE_EPS, PURPOSE_DROP = range(3)
NUM_START_CAPTIONS = 4096
"""Captions whose features the connector's start is computed from."""
EVALUATION_SEED = 1
"""Seed of the draws of the validation loss: the same times and noise at every evaluation."""


class Stage2(Stage):
    """A generator learns to make latents from noise, as captions or labels say."""

    class Config(Recipe):
        """Settings of stage 2."""

        stage: Literal["stage2"] = "stage2"
        latent_space: Path
        """Directory of the autoencoder's artefact."""
        data: DataConfig
        """Training pictures with captions or labels."""
        held_out: DataConfig
        """Pictures that are never trained on, for the validation loss."""
        condition: ConditionerChoice
        """What tells the backbone what to draw."""
        backbone: BackboneChoice
        """The transformer."""
        transport: FlowMatching.Config = FlowMatching.Config()
        """Prediction, law of the times, shift."""
        sampling: Sampling = Sampling()
        """How the finished generator draws unless told otherwise; also how the sheets are drawn."""
        sample_prompts: tuple[str | int, ...] = Field(min_length=1)
        """Prompts (or labels) of the sheets, always with the same noise."""
        cache: Path | None = None
        """Folder for latents and text features computed once; None = compute them at every step."""
        is_linear_start: bool = True
        """With a cache: the connector starts as the principal components of the features (``linear_start.py``)."""
        num_held_out: int = Field(256, gt=0)
        """Held-out pictures used by ``evaluate``."""

    def __init__(self, config: Config, device: torch.device) -> None:
        super().__init__(config, device)
        latent_space = load_autoencoder(config.latent_space, device)
        self.generator = build_generator(generator_config(config), latent_space, device, config.train.precision)
        has_null, has_early = self.generator.conditioner.dropout > 0, self.generator.backbone.early is not None
        check_guidance(config.sampling, has_null, has_early)
        self.generator.backbone.train()
        self.dataset = build_dataset(config.data, config.seed)
        self.held_out = build_dataset(config.held_out)
        self.cached = None if config.cache is None else self._cached(self.dataset, config.cache)
        if self.cached is not None and config.is_linear_start:
            conditioner = self.generator.conditioner
            assert isinstance(conditioner, PromptConditioner)
            with torch.no_grad():
                inputs = conditioner.connector_inputs(self.cached.some_features(NUM_START_CAPTIONS))
            start_connector(conditioner.connector, inputs)

    def modules(self) -> dict[str, nn.Module]:
        return self.generator.modules

    def batches(self, position: int, size: int) -> Iterator[CachedBatch | Batch]:
        if self.cached is not None:
            return self.cached.batches(position, size, self.device)
        rank, world = distributed.rank(), distributed.world()
        return iter(Loader(self.dataset, size, rank=rank, world=world, start_position=position))

    def counts(self, position: int) -> dict[str, int]:
        return self.dataset.mixture.counts(position)

    def loss(self, batch: CachedBatch | Batch, draws: Draws) -> dict[str, Tensor]:
        """``loss``; with an early head also its parts, ``flow`` of the last layer and ``self`` of the early one."""
        return {name: value.mean() for name, value in self._terms(batch, draws, is_training=True).items()}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Flow-matching loss of held-out pictures, with fixed times and noise; of the last layer alone."""
        losses = []
        count = self.config.num_held_out
        for batch in Loader(self.held_out, min(count, 64), stop=count):
            draws = Draws(EVALUATION_SEED, batch.positions, self.device)
            terms = self._terms(batch, draws, is_training=False)
            losses.append(terms.get("flow", terms["loss"]))
        return {"loss": float(torch.cat(losses).mean())}

    @torch.no_grad()
    def sheet(self) -> Image.Image:
        """One picture of each sample prompt."""
        prompts = list(self.config.sample_prompts)
        images = self.generator(prompts, output="tensor")
        return image_grid(images, columns=min(len(prompts), 4), captions=[str(p) for p in prompts], scale=2)

    def export(self, directory: Path) -> Path:
        """``generator/``, pointing at the latent space it was trained in."""
        self.generator.save(directory / "generator", self.config.latent_space)
        return directory / "generator"

    @classmethod
    def describe(cls, config: Any) -> list[tuple[str, str]]:
        latent_space = load_autoencoder(config.latent_space)
        channels, height, width = latent_space.shape
        transport = FlowMatching(config.transport, latent_space.dim)
        num_tokens = height * width // config.backbone.patch_size**2
        conditioner = CONDITIONERS.build(config.condition, num_tokens=num_tokens)
        with torch.device("meta"):
            backbone = BACKBONES.build(config.backbone, latent_shape=latent_space.shape, cond_width=conditioner.width)
        backbone.condition(torch.zeros(1, conditioner.width, device="meta"), conditioner.null(1).to("meta"))
        check_guidance(config.sampling, conditioner.dropout > 0, backbone.early is not None)
        return [
            ("latent space", f"{latent_space.config.name}, checksum {latent_space.checksum[:12]}"),
            ("latent", f"{channels} x {height} x {width} = {latent_space.dim} numbers"),
            ("time shift", f"{transport.time_shift:.4g}"),
            ("condition", conditioner.form),
            ("backbone parameters", f"{sum(p.numel() for p in backbone.parameters()):,}"),
            ("samples", f"{config.train.steps * config.train.batch_size:,}"),
        ]

    def _terms(self, batch: CachedBatch | Batch, draws: Draws, is_training: bool) -> dict[str, Tensor]:
        """Terms of each sample ``[B]``; the condition is dropped in training only."""
        latent, cond = self._read(batch, draws)
        if is_training:
            cond = self.generator.conditioner.drop(cond, draws.uniform(PURPOSE_DROP))
        t = self.generator.transport.sample_t(draws.uniform(PURPOSE_TIME))
        eps = draws.normal(PURPOSE_EPS, latent.shape[1:])
        backbone = self.generator.backbone
        if backbone.early is not None:
            return self.generator.transport.losses(backbone.with_early, latent, cond, t, eps)
        return {"loss": self.generator.transport.loss(backbone, latent, cond, t, eps)}

    def _read(self, batch: CachedBatch | Batch, draws: Draws) -> tuple[Tensor, Cond]:
        """Latents ``[B,C,h,w]`` and conditions of a batch, from the cache or from pictures and captions."""
        conditioner = self.generator.conditioner
        if isinstance(batch, CachedBatch):
            assert isinstance(conditioner, PromptConditioner)
            return batch.latent, conditioner.connect(batch.features)
        with torch.no_grad():
            latent = self.generator.latent_space.encode_sample(to_float(batch.image.to(self.device)), draws)
        if isinstance(self.generator, TextToImage):
            return latent, conditioner(batch.captions)
        if batch.labels is None:
            raise UserError("data: the pictures carry no class labels, which this condition needs; use class folders")
        return latent, conditioner(batch.labels)

    def _cached(self, dataset: Dataset, folder: Path) -> CachedData:
        conditioner = self.generator.conditioner
        if not isinstance(conditioner, PromptConditioner) or not conditioner.is_cacheable:
            raise UserError(
                "cache: text features can only be cached when neither queries nor language model are trained; set "
                "condition.are_queries_trained: false and condition.is_llm_trained: false, or cache: null"
            )
        return CachedData(dataset, self.generator.latent_space, conditioner, folder)


def generator_config(config: Stage2.Config) -> ImageGenerator.Config:
    """The parts of a stage-2 recipe that make up the finished generator."""
    return ImageGenerator.Config(
        backbone=config.backbone, condition=config.condition, transport=config.transport, sampling=config.sampling
    )
