"""Stage 2: training a generator in the latent space of a finished autoencoder.

In: captioned (or labelled) pictures and a latent-space artefact. Out: a generator directory, which ``raekit generate``
loads.

A latent, noise and a time give ``z_t``; the backbone, told the caption by the conditioner, predicts the velocity or the
clean latent (RAE, section 3.3; Scale-RAE, section 3), with an early head twice (RAEv2). Encoder and decoder are frozen
throughout. With a frozen language model and fixed pictures, latents and text features come from a cache.

The language model is frozen, trained (``condition.is_llm_trained``), or adapted: low-rank adapters in it learn together
with backbone, queries and connector and are part of the generator (``condition.lora``). A run may start from a finished
generator (``init_generator``), keep parts of it (``frozen``), give language model and queries an optimiser of their own
(Scale-RAE, section 3), or train low-rank adapters alone (``lora``), which is all that it then exports.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from PIL import Image
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor, nn

from raekit import generator_files, shipped
from raekit.autoencoder import AUTOENCODERS
from raekit.autoencoder.base import load_autoencoder
from raekit.backbones.denoising import MOST_TIMES, denoising_losses
from raekit.conditioning.adapters import AdaptersConfig
from raekit.conditioning.prompt import PromptConditioner
from raekit.config import Config, component
from raekit.data.dataset import DataConfig, Dataset, build_dataset
from raekit.data.loader import Batch, Loader
from raekit.data.storage import StoredPrecision
from raekit.errors import UserError
from raekit.generate import TextToImage, build_generator
from raekit.generator_files import GeneratorConfig
from raekit.image_grid import image_grid
from raekit.lora import Adapter, LoRAConfig
from raekit.samplers.guidance import check_guidance
from raekit.training.blocks import blocks_of
from raekit.training.cached import CachedBatch, CachedData, CacheSettings
from raekit.training.draws import Draws
from raekit.training.held_out import collected, dealt
from raekit.training.linear_start import start_connector
from raekit.training.optim import OptimConfig
from raekit.training.parallel.outlines import Outlines
from raekit.training.parallel.placement import may_be_cut
from raekit.training.parallel.sharding import fill
from raekit.training.planning import economics, plan
from raekit.training.planning.latent_outline import check_is_there, check_shape
from raekit.training.planning.machines import Machine
from raekit.training.planning.work import Part
from raekit.training.stage import Group, Player, Recipe, Stage
from raekit.training.told import Teller, Told

if TYPE_CHECKING:
    AutoencoderChoice = Config
else:
    AutoencoderChoice = component(AUTOENCODERS)

log = logging.getLogger(__name__)

ONLY_BACKBONE = "init_generator: its condition is %r, this run's %r: of its weights the backbone's alone are taken"
NUM_START_CAPTIONS = 4096
"""Captions whose features the connector's start is computed from."""
EVALUATION_SEED = 1
"""Seed of the draws of the validation loss: the same times and noise at every evaluation."""
EVALUATION_BATCH = 64
"""Held-out pictures looked at together."""

LANGUAGE = (
    *("conditioner.language_model.", "conditioner.queries", "lora.language_model."),
    *("conditioner.projector.", "conditioner.head.", "conditioner.adapters.", "conditioner.marks"),
)
"""Starts of the names of what learns at the language model's pace (Scale-RAE: all but DiT and connector)."""
FROZEN = {
    "backbone": ("backbone.",),
    "conditioner": ("conditioner.",),
    "language_model": tuple(f"conditioner.{part}" for part in ("language_model.", "head.", "adapters.", "marks")),
    "queries": ("conditioner.queries",),
    "projector": ("conditioner.projector.",),
}
"""Parts that a recipe can freeze, and how the names of their weights start; with a language model all that it learned
beside itself."""


class Stage2(Stage):
    """A generator learns to make latents from noise, as captions or labels say."""

    class Config(GeneratorConfig, Recipe):
        """Settings of stage 2: a generator, and what it learns from."""

        stage: Literal["stage2"] = "stage2"
        latent_space: Annotated[Path, AfterValidator(shipped.find)]
        """Directory of the autoencoder's artefact; ``models/nano/autoencoder`` is the one that ships."""
        autoencoder: AutoencoderChoice | None = None
        """What ``latent_space`` holds, as a stage-1 recipe states it: ``raekit explain`` then works before it is there,
        and a latent space of another shape is refused."""
        data: DataConfig
        """Training pictures with captions or labels."""
        held_out: DataConfig
        """Pictures that are never trained on, for the validation loss."""
        init_generator: str | None = None
        """Directory or hub id of a generator whose weights the run starts from. A recipe that leaves out backbone,
        condition, transport or latent space takes them from it, and its sampling with them. Where the recipe's
        condition is of another kind, its backbone alone is taken."""
        frozen: tuple[Literal["backbone", "conditioner", "language_model", "queries"], ...] = ()
        """Parts that keep their weights although the condition trains them."""
        lora: LoRAConfig | None = None
        """Train low-rank adapters and nothing else; needs ``init_generator`` and ``pip install 'raekit[lora]'``."""
        language_model_optim: OptimConfig | None = None
        """Optimiser and schedule of language model and queries, where they are trained; None = as ``optim``. Scale-RAE:
        a tenth of the learning rate, betas 0.9 and 0.999."""
        sample_prompts: tuple[str | int, ...] = Field(min_length=1)
        """Prompts (or labels) of the sheets, always with the same noise."""
        cache: Path | None = None
        """Folder for latents and text features computed once; None = compute them at every step."""
        cache_precision: StoredPrecision = "fp32"
        """Of latents on disk: fp32, bf16, or int8 with a scale for each channel of each picture (about 0.7 % error)."""
        cache_text_precision: StoredPrecision = "bf16"
        """Of text features on disk."""
        is_cache_verified: bool = True
        """Compare every file of the cache with its checksum at the start; leave it out where they are terabytes."""
        is_linear_start: bool = True
        """With a cache: the connector starts as the principal components of the features (``linear_start.py``)."""
        times_per_picture: int = Field(1, ge=1, le=MOST_TIMES)
        """At how many times, each with noise of its own, a picture is learned with one reading of its condition. More
        than one pays where reading is most of a step: a language model that learns (``backbones/denoising.py``)."""
        num_held_out: int = Field(256, gt=0)
        """Held-out pictures used by ``evaluate``."""

        @model_validator(mode="before")
        @classmethod
        def _as_the_generator(cls, values: Any) -> Any:
            if not isinstance(values, Mapping) or not isinstance(values.get("init_generator"), str):
                return values
            if values.keys() >= {"backbone", "condition", "transport", "latent_space"}:
                return values  # its weights are all that is wanted of it, so it need not be there yet
            try:
                settings, latent_space = generator_files.read_settings(values["init_generator"])
            except UserError as error:
                raise UserError(
                    f"init_generator: {error}; to plan before it is there, state backbone, condition, transport and "
                    "latent_space"
                ) from None
            return {**settings, "latent_space": latent_space, **values}

        @model_validator(mode="after")
        def _adapts_something(self) -> Stage2.Config:
            if self.lora is not None and self.init_generator is None:
                raise ValueError("lora: adapters need a generator to adapt; name it with init_generator")
            return self

    _has_connector = False
    """Whether the condition is that of the generator the run started from."""

    def __init__(self, config: Config, device: torch.device) -> None:
        super().__init__(config, device)
        check_is_there(config.latent_space)
        latent_space = load_autoencoder(config.latent_space, device)
        check_shape(config, latent_space.shape)
        # Adapters are made beside weights that are there.
        self.outlines = Outlines(config.condition, config.lora is None and may_be_cut(config.train.parallel))
        parts, builders = generator_config(config), self.outlines.builders
        self.generator = build_generator(parts, latent_space, device, config.train.precision, *builders)
        self.teller = Teller(self.generator)
        has_null, has_early = self.generator.conditioner.dropout > 0, self.generator.backbone.early is not None
        check_guidance(config.sampling, has_null, has_early)
        self._check_prompts(config.sample_prompts)
        if config.init_generator is not None:
            self._start_from(config.init_generator)
        self.adapter = None if config.lora is None else self._adapted(config.lora)
        self._freeze()
        self.generator.backbone.train()
        self._open_data(config)

    def fill(self) -> None:
        """The backbone's and the language model's, if they were outlined."""
        self.outlines.fill(self.generator.backbone, self.generator.conditioner, self.device)

    def _open_data(self, config: Config) -> None:
        """What is trained on and what is held out; with a cache also the connector's start."""
        is_told = isinstance(self.generator, TextToImage)
        self.dataset = build_dataset(config.data, config.seed, is_told)
        self.held_out = build_dataset(config.held_out, is_captioned=is_told)
        self.cached = None if config.cache is None else self._cached(self.dataset, config.cache)
        conditioner = self.generator.conditioner
        has_start = config.is_linear_start and not self._has_connector
        if self.cached is not None and isinstance(conditioner, PromptConditioner) and has_start:
            with torch.no_grad():
                inputs = conditioner.connector_inputs(self.cached.some_features(NUM_START_CAPTIONS))
            start_connector(conditioner.connector, inputs)

    def modules(self) -> dict[str, nn.Module]:
        return self.generator.modules if self.adapter is None else {"lora": self.adapter.module}

    def players(self) -> list[Player]:
        """One player; language model and queries are a group apart when the recipe gives them an optimiser."""
        parameters, settings = self.parameters(), self.config.language_model_optim
        if settings is None:
            return super().players()
        language = {name: p for name, p in parameters.items() if name.startswith(LANGUAGE)}
        rest = {name: p for name, p in parameters.items() if name not in language}
        if not language:
            raise UserError(
                "language_model_optim: neither language model nor queries are trained; set condition.is_llm_trained: "
                "true or condition.lora, or leave it out"
            )
        groups = {"model": Group(rest, self.config.optim), "language_model": Group(language, settings)}
        return [Player("", {name: group for name, group in groups.items() if group.parameters}, self.descend)]

    def blocks(self) -> list[nn.Module]:
        """Those of the backbone, and of a language model that gradients pass through."""
        conditioner, blocks = self.generator.conditioner, list(blocks_of(self.generator.backbone))
        if isinstance(conditioner, PromptConditioner) and not conditioner.is_cacheable:
            blocks += blocks_of(conditioner.reader)
        return blocks

    def frozen(self) -> dict[str, nn.Module]:
        """The latent space, and a language model that is read through but not trained."""
        conditioner, networks = self.generator.conditioner, {"latent_space": self.generator.latent_space}
        is_cached = self.cached is not None
        if isinstance(conditioner, PromptConditioner) and not (is_cached or conditioner.config.is_llm_trained):
            networks["language_model"] = conditioner.reader
        return networks

    def state(self) -> dict[str, Tensor]:
        """Of adapters, nothing but them: the generator beneath is the one the run started from."""
        return super().state() if self.adapter is None else {k: p.detach() for k, p in self.parameters().items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        if self.adapter is None:
            return super().load_state(tensors)
        fill(self.parameters(), tensors)

    def batches(self, position: int, size: int) -> Iterator[CachedBatch | Batch]:
        if self.cached is not None:
            return self.cached.batches(position, size)
        return self.read(self.dataset, position, size)

    def counts(self, position: int) -> dict[str, int]:
        return self.dataset.mixture.counts(position)

    def data_fingerprint(self) -> str:
        return self.dataset.mixture.fingerprint()

    @torch.no_grad()
    def prepare(self, batch: CachedBatch | Batch) -> Told:
        """A micro-batch through the frozen networks."""
        with self.autocast():
            return self.teller.tell(batch, Draws(self.config.seed, batch.positions, self.device))

    def loss(self, batch: CachedBatch | Batch | Told, draws: Draws) -> dict[str, Tensor]:
        """``loss``; with an early head also its parts, ``flow`` of the last layer and ``self`` of the early one."""
        return {name: value.mean() for name, value in self._terms(batch, draws, is_training=True).items()}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Flow-matching loss of held-out pictures, with fixed times and noise; of the last layer alone."""
        found, count = {}, self.config.num_held_out
        own = dealt(count, min(count, EVALUATION_BATCH), self.placement.is_sharded)
        for positions, batch in Loader(self.held_out, EVALUATION_BATCH).at(own):
            terms = self._terms(batch, Draws(EVALUATION_SEED, batch.positions, self.device), is_training=False)
            found[positions] = terms.get("flow", terms["loss"]).cpu()
        return {"loss": float(torch.cat(collected(found)).mean())}

    @torch.no_grad()
    def sheet(self) -> Image.Image:
        """One picture of each sample prompt."""
        prompts = list(self.config.sample_prompts)
        images = self.generator(prompts, output="tensor")
        return image_grid(images, columns=min(len(prompts), 4), captions=[str(p) for p in prompts], scale=2)

    def export(self, directory: Path) -> Path:
        """``generator/``, pointing at the latent space it was trained in; of adapters ``lora/``."""
        if self.adapter is not None:
            self.adapter.save(directory / "lora", self.generator.checksum)
            return directory / "lora"
        self.generator.save(directory / "generator", self.config.latent_space)
        return directory / "generator"

    @classmethod
    def describe(cls, config: Any, machine: Machine | None = None) -> list[tuple[str, str]]:
        return [*plan.describe(config), *economics.rows(config, machine)]

    @classmethod
    def parts(cls, config: Any) -> tuple[Part, ...]:
        return plan.parts(config)

    def _check_prompts(self, prompts: Sequence[str | int]) -> None:
        """Refuse at once what the first sheet, thousands of steps later, could not draw, and tell what it would cut."""
        conditioner = self.generator.conditioner
        for prompt in prompts:
            try:
                self.generator.batch_of_one(prompt)
                if isinstance(conditioner, PromptConditioner):
                    conditioner.check([str(prompt)])
            except UserError as error:
                raise UserError(f"sample_prompts: {error}") from None

    def _start_from(self, directory: str) -> None:
        """The weights of a finished generator of the same latent space and transport."""
        files = generator_files.read(directory)
        files.check_latent_space(self.generator.latent_space.checksum, repr(str(self.config.latent_space)))
        theirs, own = files.settings["transport"], self.config.transport.model_dump(mode="json")
        if different := sorted(name for name in own if theirs.get(name, own[name]) != own[name]):
            raise UserError(
                f"transport.{different[0]}: {own[different[0]]!r}, but the generator {directory!r} was trained with "
                f"{theirs[different[0]]!r}; write that, or leave transport out"
            )
        self._check_adapters(directory, files.settings["condition"])
        self._take_over(files)
        self.generator.checksum = files.checksum

    def _check_adapters(self, directory: str, theirs: Mapping[str, Any]) -> None:
        """Adapters of a condition of the same kind go on as they are."""
        if theirs.get("lora") is None or theirs["name"] != self.config.condition.name:
            return
        own, found = self.config.condition.lora, AdaptersConfig.model_validate(theirs["lora"])
        if own != found:
            stated = "null" if own is None else own.model_dump_json()
            raise UserError(
                f"condition.lora: {stated}, but the language model of the generator {directory!r} has adapters that "
                f"it learned with {found.model_dump_json()}; write that, or leave condition out"
            )

    def _take_over(self, files: generator_files.GeneratorFiles) -> None:
        """Weights of the same parts; of a generator that is told in another way, the backbone alone."""
        theirs, own = files.settings["condition"]["name"], self.config.condition.name
        self._has_connector = theirs == own
        if not self._has_connector and self.config.lora is not None:
            raise UserError(
                f"condition: {own!r}, but the generator to adapt was trained with {theirs!r}; leave condition out, or "
                "train without lora, which leaves the condition as it starts"
            )
        if not self._has_connector:
            log.warning(ONLY_BACKBONE, theirs, own)
        has_adapters = files.settings["condition"].get("lora") is not None
        for group, module in self.generator.modules.items():
            if self._has_connector or group == "backbone":
                fresh = () if has_adapters else (k for k in module.state_dict() if k.startswith("adapters."))
                self.outlines.give(module, files.of(group), files.name_of(group), frozenset(fresh))

    def _adapted(self, config: LoRAConfig) -> Adapter:
        """Fresh adapters; everything else keeps its weights."""
        for module in self.generator.modules.values():
            module.requires_grad_(False)
        adapter = Adapter.fresh(self.generator.backbone, self.generator.conditioner, config)
        if "language_model" in config.parts:
            assert isinstance(self.generator.conditioner, PromptConditioner)
            self.generator.conditioner.is_adapted = True
        return adapter

    def _freeze(self) -> None:
        """Parts that the recipe freezes take no gradients."""
        starts = tuple(start for part in self.config.frozen for start in FROZEN[part])
        for group, module in self.generator.modules.items():
            for name, parameter in module.named_parameters():
                if f"{group}.{name}".startswith(starts):
                    parameter.requires_grad_(False)

    def _terms(self, batch: CachedBatch | Batch | Told, draws: Draws, is_training: bool) -> dict[str, Tensor]:
        """Terms of each sample ``[B]``; the condition is dropped in training only."""
        told = batch if isinstance(batch, Told) else self.teller.tell(batch, draws)
        times = self.config.times_per_picture if is_training else 1
        cond = self.teller.condition(told)
        return denoising_losses(self.generator, told.latent, cond, draws, is_training, times)

    def _cached(self, dataset: Dataset, folder: Path) -> CachedData:
        conditioner, cfg = self.generator.conditioner, self.config
        settings = CacheSettings(folder, cfg.cache_precision, cfg.cache_text_precision, cfg.is_cache_verified)
        if not isinstance(self.generator, TextToImage):
            return CachedData(dataset, self.generator.latent_space, None, settings, self.quarantine)
        if not isinstance(conditioner, PromptConditioner):
            raise UserError(
                f"cache: the condition {cfg.condition.name!r} reads no prompt with a language model, and nothing else "
                "of a text is kept; set cache: null"
            )
        if not conditioner.is_cacheable:
            raise UserError(
                "cache: text features can only be cached when neither queries nor language model are trained or "
                "adapted; set condition.are_queries_trained: false and condition.is_llm_trained: false without "
                "condition.lora, or cache: null"
            )
        return CachedData(dataset, self.generator.latent_space, conditioner, settings, self.quarantine)


def generator_config(config: Stage2.Config) -> GeneratorConfig:
    """The parts of a stage-2 recipe that make up the finished generator."""
    return GeneratorConfig(**{name: getattr(config, name) for name in GeneratorConfig.model_fields})
