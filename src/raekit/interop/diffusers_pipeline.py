"""A generator as a diffusers pipeline: one directory with an index and a folder for each part.

In: our generator. Out: the directory; and back. Two forms, told apart by ``model_index.json``:

    model_index.json     class RAEDiTPipeline and the class of each part
    transformer/         RAEDiT2DModel (config.json, safetensors), or where that cannot hold it our own generator
    vae/                 AutoencoderRAE, or ``autoencoder/``, our own artefact, where that cannot
    language_model/      what reads the prompts of our own generator, where that was a directory and no hub id
    scheduler/           FlowMatchEulerDiscreteScheduler with the time shift
    raekit.json          what those files cannot say: names of classes, how it draws by default

:class:`raekit.interop.pipeline.RAEDiTPipeline` runs both without diffusers. diffusers itself has pipeline and
transformer in its open pull request 13231 only. As tried with 0.42.1: ``DiffusionPipeline.from_pretrained`` refuses the
directory for want of that pipeline; with a ``custom_pipeline`` it loads autoencoder and scheduler, and asks for the
transformer to be passed in, since it has no ``RAEDiT2DModel``.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

from raekit import config as recipes
from raekit import generator_files
from raekit.autoencoder.base import Autoencoder, load_autoencoder
from raekit.autoencoder.rae import RAE
from raekit.checkpoint import load_strict
from raekit.conditioning.label import LabelConditioner
from raekit.device import Precision
from raekit.errors import UserError
from raekit.files import atomic_directory
from raekit.generate import ClassToImage, ImageGenerator, TextToImage, build_generator, load_generator
from raekit.interop.decoder import CONFIG_FILE, read_settings
from raekit.interop.diffusers import VERSION, WEIGHTS_FILE, DiffusersRAE
from raekit.interop.diffusers_dit import CLASS_NAME, transformer_from, transformer_to
from raekit.interop.dit import Generator
from raekit.interop.files import read_ledger
from raekit.interop.format import ConvertConfig, Format, Source
from raekit.interop.generator import as_published, generator_rows, labelled_settings, write_generator
from raekit.interop.ledger import Rows
from raekit.samplers.settings import Sampling
from raekit.transport.objective import FlowMatching

INDEX_FILE, OWN_FILE = "model_index.json", "raekit.json"
PIPELINE, SCHEDULER = "RAEDiTPipeline", "FlowMatchEulerDiscreteScheduler"
TRANSFORMER, VAE, AUTOENCODER, GENERATOR = "transformer", "vae", "autoencoder", "generator"
LANGUAGE_MODEL = "language_model"
SCHEDULER_FILE = "scheduler/scheduler_config.json"
NUM_TRAIN_TIMESTEPS = 1000

PLAIN = Sampling(steps=50, guidance_scale=1.0)
"""How a pipeline draws that does not say: the defaults of the pull request."""
SHIFT_TOLERANCE = 1e-6


class DiffusersPipeline(Format):
    """Pipeline directories of diffusers for RAE: transformer, autoencoder and scheduler."""

    OURS = generator_files.FORMAT
    WRITES = frozenset({"lossy", "encoder_names"})

    class Config(ConvertConfig):
        """Options of this layout."""

        name: Literal["diffusers_pipeline"] = "diffusers_pipeline"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """By the class that its index names."""
        return source.path.is_dir() and read_settings(source.path / INDEX_FILE).get("_class_name") == PIPELINE

    def read(self, source: Source, target: Path) -> Rows:
        """A pipeline to a whole model of ours: ``generator/`` and ``autoencoder/``."""
        with atomic_directory(target) as folder:
            latent_space, rows = read_latent_space(source.path, folder / AUTOENCODER)
            if own_part(source.path):
                for part, name in ((TRANSFORMER, GENERATOR), (LANGUAGE_MODEL, LANGUAGE_MODEL)):
                    if (source.path / part).is_dir():
                        shutil.copytree(source.path / part, folder / name)
                return [*rows, ("transformer", "copied: it is ours")]
            published, settings, report = read_transformer(source.path)
            _check_shapes(published, latent_space, source.path)
            assert published.condition is not None
            latent = (folder / AUTOENCODER, latent_space.checksum)
            state = {"table.weight": published.condition}
            checksum = write_generator(folder / GENERATOR, settings, published, state, latent)
        return [*report, *generator_rows(published), *rows, ("checksum", checksum[:12])]

    def write(self, source: Path, target: Path) -> Rows:
        """Our generator to a pipeline."""
        generator = load_generator(source)
        directory = generator_files.read(source).latent_path
        with atomic_directory(target) as folder:
            parts, transformer_rows = _write_transformer(generator, folder)
            vae, rows = self._write_latent_space(generator, directory, folder)
            if TRANSFORMER not in parts:
                transformer_rows += _take_along_language_model(generator, folder)
                generator.save(folder / TRANSFORMER, folder / AUTOENCODER)
                parts = {TRANSFORMER: ["raekit", type(generator).__name__]}
            (folder / SCHEDULER_FILE).parent.mkdir()
            _write(folder / SCHEDULER_FILE, _scheduler(generator.transport.time_shift))
            index = {"_class_name": PIPELINE, "_diffusers_version": VERSION, "scheduler": ["diffusers", SCHEDULER]}
            _write(folder / INDEX_FILE, index | parts | vae)
        return [*transformer_rows, *rows]

    def _write_latent_space(
        self, generator: ImageGenerator, directory: Path, folder: Path
    ) -> tuple[dict[str, Any], Rows]:
        """The latent space as ``vae/`` if it can be held there; its row of the index.

        Our own generator refuses any latent space but its very own, which is then copied.
        """
        try:
            if not (folder / TRANSFORMER).is_dir():
                raise UserError("our own transformer refuses any other")
            if not isinstance(generator.latent_space, RAE):
                raise UserError(f"AutoencoderRAE is no {generator.latent_space.config.name}")
            rows = DiffusersRAE(DiffusersRAE.Config(**self.config.stated)).write(directory, folder / VAE)
        except UserError as error:
            shutil.copytree(directory, folder / AUTOENCODER)
            why = str(error).removeprefix("convert: ")
            return {"vae": [None, None]}, [("latent space", f"in {AUTOENCODER}/, as our own artefact: {why}")]
        return {"vae": ["diffusers", "AutoencoderRAE"]}, [("latent space", f"in {VAE}/"), *rows]


def load_pipeline(
    directory: Path, device: torch.device | str = "cpu", precision: Precision = "auto"
) -> TextToImage | ClassToImage:
    """The generator of a pipeline directory.

    Raises:
        UserError: no such pipeline, or parts that do not fit each other.
    """
    if not DiffusersPipeline.recognises(Source(directory)):
        raise UserError(f"pipeline: {str(directory)!r} has no {INDEX_FILE} of a {PIPELINE}; name the directory of one")
    with tempfile.TemporaryDirectory() as scratch:
        latent_space, _ = read_latent_space(directory, Path(scratch) / AUTOENCODER)
    if own_part(directory):
        return load_generator(directory / TRANSFORMER, device, precision, latent_space)
    published, settings, _ = read_transformer(directory)
    _check_shapes(published, latent_space, directory)
    generator = build_generator(settings, latent_space, device, precision)
    assert published.condition is not None
    load_strict(generator.backbone, published.backbone.state_dict(), f"pipeline {str(directory)!r}")
    load_strict(generator.conditioner, {"table.weight": published.condition}, f"pipeline {str(directory)!r}")
    return generator


def own_part(directory: Path) -> bool:
    """Whether the transformer is our own generator."""
    settings = read_settings(directory / TRANSFORMER / CONFIG_FILE)
    return bool(settings.get("format") == generator_files.FORMAT)


def read_latent_space(directory: Path, target: Path) -> tuple[Autoencoder, Rows]:
    """The latent space of a pipeline, which is written to ``target`` as our artefact."""
    if (directory / AUTOENCODER).is_dir():
        shutil.copytree(directory / AUTOENCODER, target)
        return load_autoencoder(target), [("latent space", "copied: it is ours")]
    rows = DiffusersRAE(DiffusersRAE.Config()).read(Source(directory / VAE), target)
    return load_autoencoder(target), rows


def read_transformer(directory: Path) -> tuple[Generator, ImageGenerator.Config, Rows]:
    """The transformer, our settings of the generator, and what became of every key.

    Raises:
        UserError: it is of another class, or does not fit its config.
    """
    settings = read_settings(directory / TRANSFORMER / CONFIG_FILE)
    if settings.get("_class_name") != CLASS_NAME:
        raise UserError(
            f"pipeline {str(directory)!r}: its transformer is a {settings.get('_class_name')!r}, not a {CLASS_NAME}"
        )
    ledger = read_ledger(Source(directory / TRANSFORMER).file)
    published = transformer_from(ledger, settings)
    assert published.condition is not None
    own = read_settings(directory / OWN_FILE)
    rows, width = published.condition.shape
    condition = LabelConditioner.Config(
        num_classes=rows - 1,
        width=width,
        dropout=settings.get("class_dropout_prob", 0.1),
        names=tuple(own.get("names", ())),
    )
    sampling = recipes.validate(Sampling, own.get("sampling", PLAIN.model_dump()), OWN_FILE)
    found = labelled_settings(published, sampling, condition)
    transport = recipes.validate(FlowMatching.Config, own.get("transport", {}), OWN_FILE)
    return published, found.model_copy(update={"transport": _shifted(transport, published, directory)}), ledger.rows()


def _shifted(transport: FlowMatching.Config, published: Generator, directory: Path) -> FlowMatching.Config:
    """The transport with the shift of the scheduler, stated only where it is not the one that follows anyway."""
    scheduler = read_settings(directory / SCHEDULER_FILE)
    if scheduler.get("use_dynamic_shifting") or "shift" not in scheduler:
        raise UserError(f"pipeline {str(directory)!r}: {SCHEDULER_FILE} has no fixed shift, which is all RAE has")
    channels, height, width = published.backbone.latent_shape
    if abs(FlowMatching(transport, channels * height * width).time_shift - scheduler["shift"]) < SHIFT_TOLERANCE:
        return transport
    return transport.model_copy(update={"time_shift": float(scheduler["shift"])})


def _write_transformer(generator: ImageGenerator, folder: Path) -> tuple[dict[str, Any], Rows]:
    """The transformer, if the layout of diffusers holds it, and what the index says of it; nothing if not."""
    place = folder / TRANSFORMER
    try:
        published, settings, tensors = _as_transformer(generator)
    except UserError as error:
        why = str(error).removeprefix("convert: ")
        return {}, [("transformer", f"as our own artefact: {why}")]
    place.mkdir()
    save_file(tensors, place / WEIGHTS_FILE, metadata={"format": "pt"})
    _write(place / CONFIG_FILE, settings | {"_diffusers_version": VERSION})
    names = generator.config.condition.names
    own = {key: getattr(generator.config, key).model_dump(mode="json") for key in ("transport", "sampling")}
    _write(folder / OWN_FILE, own | {"names": list(names)})
    labels = {str(label): name for label, name in enumerate(names)} or None
    return {TRANSFORMER: ["diffusers", CLASS_NAME], "id2label": labels}, [
        ("transformer", f"{CLASS_NAME}, {len(tensors)} tensors"),
        *generator_rows(published),
    ]


def _as_transformer(generator: ImageGenerator) -> tuple[Generator, dict[str, Any], dict[str, torch.Tensor]]:
    """Config and tensors of a generator in the layout of diffusers.

    Raises:
        UserError: it cannot be held.
    """
    if not isinstance(generator, ClassToImage):
        raise UserError(f"{CLASS_NAME} takes class labels, this model {generator.prompt_kind}")
    if generator.config.transport.prediction != "velocity":
        raise UserError(f"{CLASS_NAME} predicts a velocity, this model the clean latent")
    published = as_published(generator)
    return published, *transformer_to(published, generator.conditioner.dropout)


def _take_along_language_model(generator: ImageGenerator, folder: Path) -> Rows:
    """Copy a language model that is a directory here beside the transformer, which then names it by that place."""
    condition = generator.config.condition
    name = condition.model_dump().get("language_model")
    if name is None:
        return []
    if not Path(name).is_dir():
        return [("language model", f"{name}, named but not written")]
    shutil.copytree(name, folder / LANGUAGE_MODEL)
    moved = condition.model_copy(update={"language_model": f"../{LANGUAGE_MODEL}"})
    generator.config = generator.config.model_copy(update={"condition": moved})
    return [("language model", f"in {LANGUAGE_MODEL}/, copied")]


def _scheduler(shift: float) -> dict[str, Any]:
    return {
        "_class_name": SCHEDULER,
        "_diffusers_version": VERSION,
        "num_train_timesteps": NUM_TRAIN_TIMESTEPS,
        "shift": shift,
        "use_dynamic_shifting": False,
        "stochastic_sampling": False,
    }


def _check_shapes(published: Generator, latent_space: Autoencoder, directory: Path) -> None:
    if published.backbone.latent_shape != latent_space.shape:
        raise UserError(
            f"pipeline {str(directory)!r}: its transformer takes latents {list(published.backbone.latent_shape)}, its "
            f"autoencoder has {list(latent_space.shape)}; copy both from one model"
        )


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
