"""Pictures from prompts or class labels: condition -> latent -> image.

    prompt --conditioner--> cond --+
    noise (from the image's seed) --+--sampler (guided backbone)--> latent --latent space--> image

**Seeds.** Every image has its own: image ``i`` of every prompt starts from the noise of seed ``seed + i``, drawn on the
CPU. So ``seed=7, num=4`` gives the images of seeds 7, 8, 9, 10; each can be had again by itself, and its noise depends
neither on the batch size nor on the other prompts nor on the device. A list of seeds is taken as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias, Unpack

import torch
from PIL import Image
from torch import Tensor, nn

from raekit import config as recipes
from raekit import generator_files, lora, shares, variations
from raekit.backbones import BACKBONES
from raekit.backbones.base import Backbone
from raekit.best_of import CallOptions, Choice, Choosing, asked_of, choose, remember
from raekit.conditioning import CONDITIONERS
from raekit.conditioning.base import Cond, Conditioner
from raekit.conditioning.label import LabelConditioner
from raekit.conditioning.prompt import check_prompt
from raekit.denoiser import Denoiser
from raekit.device import Precision, pick_device, pick_precision
from raekit.errors import UserError
from raekit.generator_files import GeneratorConfig
from raekit.image_grid import to_arrays
from raekit.multimodal.eye import seeing
from raekit.samplers.ode import VelocityFn
from raekit.samplers.settings import Sampling, SamplingOptions
from raekit.seeds import image_seeds
from raekit.trajectories import Callback as Callback
from raekit.trajectories import DrawingOptions, Route, Trajectories, jobs_of
from raekit.transport.objective import FlowMatching
from raekit.verifiers.judge import Judge, VerifierChoice

BATCH_SIZE = 16


class ImageGenerator(ABC):
    """A backbone and a conditioner in a latent space; subclasses say what a prompt is.

    Args:
        config: what it is made of.
        latent_space: an autoencoder, already loaded.
        device: where everything is put.
        precision: arithmetic of matrix products, a trained language model's too; weights and latents stay fp32.

    Attributes:
        modules: the parts with weights of their own, by name: ``backbone`` and ``conditioner``.
        checksum: of the directory it was loaded from or saved to; empty before that.
    """

    Config: TypeAlias = GeneratorConfig

    prompt_kind: ClassVar[str]
    """What it takes, in words."""

    def __init__(
        self,
        config: GeneratorConfig,
        latent_space: Any,
        device: torch.device | str = "cpu",
        precision: Precision = "auto",
        build: Callable[..., Backbone] = BACKBONES.build,
        build_conditioner: Callable[..., Conditioner] = CONDITIONERS.build,
    ) -> None:
        self.config, self.latent_space, self.device = config, latent_space, torch.device(device)
        rows, columns = (side // config.backbone.patch_size for side in latent_space.shape[1:])
        self.conditioner = build_conditioner(config.condition, num_tokens=rows * columns)
        self.precision = self.conditioner.precision = precision
        self.backbone = build(config.backbone, latent_shape=latent_space.shape, cond_width=self.conditioner.width)
        # A condition that does not fit is known by its null, before anything is trained or drawn.
        self.backbone.condition(torch.zeros(1, self.conditioner.width), self.conditioner.null(1))
        self.transport = FlowMatching(config.transport, latent_space.dim)
        self.denoiser = Denoiser(self.backbone, self.transport, self.device, precision)
        self.modules: dict[str, nn.Module] = {"backbone": self.backbone, "conditioner": self.conditioner}
        for module in (latent_space, *self.modules.values()):
            is_outline = any(parameter.is_meta for parameter in module.parameters())
            (module if is_outline else module.to(self.device)).eval()
        self.checksum = ""
        self._adapter: lora.Adapter | None = None
        self._neighbours: dict[str, ImageGenerator] = {}

    def __call__(
        self,
        prompts: Any,
        num: int = 1,
        seed: int | Sequence[int] = 0,
        output: Literal["pil", "tensor", "latent"] = "pil",
        callback: Callback | None = None,
        batch_size: int = BATCH_SIZE,
        **options: Unpack[CallOptions],
    ) -> Any:
        """Draw ``num`` images of each prompt, or the best ``keep`` of ``best_of``.

        Args:
            prompts: one prompt, or several.
            num: images per prompt.
            seed: of the first image of each prompt; the next ones have ``seed + 1``, ``seed + 2``, ... Several seeds
                are those of the images themselves, and say how many there are.
            output: ``pil`` for a list of PIL images (the best of several say in ``image.info`` their ``seed``, their
                ``score`` and the ``verifier`` that gave it), ``tensor`` for ``[P * num, 3, S, S]`` in [0, 1],
                ``latent`` for ``[P * num, C, h, w]``; tensors lie on the CPU. All of the first prompt come first.
            callback: see :data:`Callback`.
            batch_size: images drawn at once; changes memory and speed only.
            **options: ``steps``, ``guidance_scale``, ... where they differ from the model's own; also ``negative``,
                ``image``, ``strength`` (:class:`~raekit.trajectories.DrawingOptions`). With ``best_of``, ``verifier``
                and perhaps ``keep``, ``prune_at`` (:class:`~raekit.best_of.ChoosingOptions`) the seeds are those of
                the candidates, and ``keep`` stands in place of ``num``.

        Raises:
            UserError: a prompt or setting that cannot be used.
        """
        if output not in ("pil", "tensor", "latent"):
            raise UserError(f"output: {output!r} is not one of pil, tensor, latent")
        drawing: Any = dict(options)
        wanted, choice = asked_of(drawing, num), None
        if wanted is None:
            latents = self.sample(prompts, num, seed, callback, batch_size, **drawing)
        else:
            choice = self.best_of(prompts, *wanted, seed, callback, batch_size, **drawing)
            latents = choice.latents
        if output == "latent":
            return latents
        images = self.decode(latents, batch_size)
        if output == "tensor":
            return images
        return remember([Image.fromarray(array) for array in to_arrays(images)], choice)

    @torch.no_grad()
    def sample(
        self,
        prompts: Any,
        num: int = 1,
        seed: int | Sequence[int] = 0,
        callback: Callback | None = None,
        batch_size: int = BATCH_SIZE,
        **options: Unpack[DrawingOptions],
    ) -> Tensor:
        """Latents ``[P * num, C, h, w]`` float32 on the CPU; arguments and errors as for a call."""
        return self.trajectories(prompts, num, seed, batch_size, **options).finish(callback)

    def best_of(
        self,
        prompts: Any,
        verifier: VerifierChoice,
        choosing: Choosing,
        seed: int | Sequence[int] = 0,
        callback: Callback | None = None,
        batch_size: int = BATCH_SIZE,
        **options: Unpack[DrawingOptions],
    ) -> Choice:
        """Draw several latents of each prompt and keep the best, with what every candidate scored.

        Args:
            prompts: as for a call.
            verifier: who judges; see :data:`~raekit.verifiers.judge.VerifierChoice`.
            choosing: how many are drawn and kept.
            seed: of each prompt's first candidate, or those of all.
            callback: see :data:`Callback`.
            batch_size: latents drawn at once.
            **options: as for :meth:`sample`.

        Raises:
            UserError: as for a call, or a verifier that cannot judge this model's latents.
        """
        judge = Judge.of(verifier, self)
        judge.check(self._listed(prompts))
        way = self.trajectories(prompts, choosing.best_of, seed, batch_size, **options)
        return choose(way, self._listed(prompts), judge, choosing, callback)

    @torch.no_grad()
    def trajectories(
        self,
        prompts: Any,
        num: int = 1,
        seed: int | Sequence[int] = 0,
        batch_size: int = BATCH_SIZE,
        **options: Unpack[DrawingOptions],
    ) -> Trajectories:
        """The pictures of a call before their first step; arguments and errors as for a call."""
        given: dict[str, Any] = dict(options)
        negative, image, strength, own = (
            given.pop(name, None) for name in ("negative", "image", "strength", "prompt_seeds")
        )
        settings = self.sampling(**given)
        listed, seeds = self._listed(prompts), image_seeds(num, seed)
        start = variations.start_from(self.latent_space, image, strength, len(listed))
        conds, nulls = self._read(listed), self._read_negative(negative, len(listed), settings)
        weaker = self._weaker(settings)
        weak_conds = None if weaker is None else weaker._read(listed)

        def velocity_of(rows: Sequence[int]) -> VelocityFn:
            weak_velocity = None
            if weaker is not None and weak_conds is not None:
                weak_velocity = weaker.denoiser.alone(Cond.cat([weak_conds[row] for row in rows]))
            null_cond = self._null(len(rows)) if nulls is None else Cond.cat([nulls[row] for row in rows])
            return self.denoiser.guided(Cond.cat([conds[row] for row in rows]), null_cond, settings, weak_velocity)

        shape, time_shift = self.latent_space.shape, self.transport.time_shift
        route = Route(velocity_of, settings, time_shift, shape, self.device, start)
        return Trajectories(route, jobs_of(len(listed), seeds, own), batch_size)

    @torch.no_grad()
    def decode(self, latents: Tensor, batch_size: int = BATCH_SIZE) -> Tensor:
        """Images ``[N, 3, S, S]`` in [0, 1] on the CPU, of latents ``[N, C, h, w]``."""

        def decode(part: Tensor) -> Tensor:
            image: Tensor = self.latent_space.decode(part.to(self.device)).clamp(0, 1)
            return image.float().cpu()

        return torch.cat(list(shares.each(decode, torch.split(latents, batch_size))))

    def sampling(self, **options: Unpack[SamplingOptions]) -> Sampling:
        """The model's sampling defaults with ``options`` in their place.

        Raises:
            UserError: a value out of range, or an unknown name.
        """
        settings: Sampling = recipes.validate(Sampling, {**self.config.sampling.model_dump(), **options}, "sampling")
        return settings

    def save(self, directory: Path, autoencoder: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write the directory that :func:`load_generator` reads, in one step.

        Args:
            directory: replaced as a whole, or left as it was.
            autoencoder: directory of the latent space, remembered relative to ``directory``.
            dtype: of the stored weights that are trained; tables and frozen parameters stay as they are.

        Raises:
            UserError: ``autoencoder`` is not this generator's latent space, the disk is full, or the place is not
                writable.
        """
        tensors, settings = generator_files.tensors_of(self.modules, dtype), self.config.model_dump(mode="json")
        latent_space = Path(autoencoder), self.latent_space.checksum
        self.checksum = generator_files.write(Path(directory), settings, tensors, *latent_space)

    @classmethod
    def load(
        cls,
        directory: str | Path | None = None,
        device: torch.device | str = "auto",
        precision: Precision = "auto",
        latent_space: Any = None,
        revision: str | None = None,
    ) -> Self:
        """As :func:`load_generator`, and of this kind.

        Raises:
            UserError: as :func:`load_generator`, or the generator takes other prompts.
        """
        generator = load_generator(directory, device, precision, latent_space, revision)
        if not isinstance(generator, cls):
            raise UserError(
                f"model {str(directory)!r} takes {generator.prompt_kind}, not {cls.prompt_kind}; "
                f"load it with {type(generator).__name__}.load"
            )
        return generator

    def load_lora(self, directory: str | Path, scale: float = 1.0) -> None:
        """Let low-rank adapters act beside the weights, in place of any that act already; see :mod:`raekit.lora`."""
        self.unload_lora()
        self._adapter = lora.Adapter.load(self.backbone, self.conditioner, Path(directory), scale)

    def unload_lora(self) -> None:
        """Take the adapters away; the weights are as they were."""
        if self._adapter is not None:
            self._adapter.remove()
        self._adapter = None

    def _listed(self, prompts: Any) -> list[Any]:
        """``prompts`` as a list; one alone is a list of one."""
        if isinstance(prompts, Tensor):
            prompts = prompts.tolist()
        listed = list(prompts) if isinstance(prompts, Sequence) and not isinstance(prompts, str) else [prompts]
        if not listed:
            raise UserError(f"prompts: none given; name at least one of what this model takes ({self.prompt_kind})")
        return listed

    def _read(self, prompts: list[Any]) -> list[Cond]:
        """The condition of each prompt, read by itself, so that none feels the others' padding and rounding."""
        known = {prompt: self.conditioner(self.batch_of_one(prompt)) for prompt in dict.fromkeys(prompts)}
        return [known[prompt] for prompt in prompts]

    def _read_negative(self, negative: Any, num_prompts: int, settings: Sampling) -> list[Cond] | None:
        """The condition to move away from, one a prompt; None for the model's own null."""
        if negative is None:
            return None
        if not settings.is_guided or settings.guidance != "cfg":
            raise UserError(
                "negative: only classifier-free guidance moves away from it; set guidance_scale above 1 and guidance "
                "to cfg"
            )
        listed = self._listed(negative)
        if len(listed) not in (1, num_prompts):
            raise UserError(f"negative: {len(listed)} for {num_prompts} prompts; give one, or one for each")
        return self._read(listed if len(listed) == num_prompts else listed * num_prompts)

    def _null(self, batch_size: int) -> Cond | None:
        """The learned absence of a condition, of a model that has learned one."""
        return self.conditioner.null(batch_size) if self.conditioner.dropout > 0 else None

    @abstractmethod
    def batch_of_one(self, prompt: Any) -> list[str] | Tensor:
        """A prompt as the conditioner takes it; a :class:`UserError` for one that it does not take."""

    def neighbour(self, path: str) -> ImageGenerator:
        """Another generator in the same latent space, loaded once: to move away from, or to be asked."""
        if path not in self._neighbours:
            self._neighbours[path] = load_generator(path, self.device, self.precision, self.latent_space)
        return self._neighbours[path]

    def _weaker(self, settings: Sampling) -> ImageGenerator | None:
        """The generator that auto guidance compares with."""
        is_needed = settings.guidance == "auto" and settings.is_guided
        return self.neighbour(settings.guide) if is_needed and settings.guide is not None else None


class TextToImage(ImageGenerator):
    """Images from text prompts (Scale-RAE)."""

    prompt_kind = "text prompts"

    def batch_of_one(self, prompt: Any) -> list[str] | Tensor:
        if not isinstance(prompt, str):
            raise UserError(f"prompt: {prompt!r} is not text; this model takes text prompts")
        check_prompt(prompt)
        return [prompt]


class ClassToImage(ImageGenerator):
    """Images from class labels (RAE)."""

    prompt_kind = "class labels"

    def batch_of_one(self, prompt: Any) -> list[str] | Tensor:
        assert isinstance(self.conditioner, LabelConditioner)
        return torch.tensor([self.conditioner.label_of(prompt)])


def load_generator(
    directory: str | Path | None = None,
    device: torch.device | str = "auto",
    precision: Precision = "auto",
    latent_space: Any = None,
    revision: str | None = None,
) -> TextToImage | ClassToImage:
    """The generator in a directory, as :class:`TextToImage` or :class:`ClassToImage`.

    Args:
        directory: what :meth:`ImageGenerator.save` wrote, a whole model that holds it as ``generator/``, or the hub id
            of either; by default the bundled nano model.
        device: ``auto`` is CUDA when there is one.
        precision: ``auto`` is bf16 where the hardware is faster with it.
        latent_space: its latent space, if that is at hand already or not where the directory says.
        revision: branch, tag or commit of a hub repository.

    Raises:
        UserError: no generator there, damaged, another latent space than the one it was trained in, or no such device
            or precision.
    """
    device = pick_device(str(device))
    pick_precision(precision, device)  # one that is not known is told before anything is read
    files = generator_files.read(directory, revision)
    source = f"model {str(files.directory)!r}"
    settings = recipes.validate(GeneratorConfig, files.settings, source)
    if latent_space is None:
        latent_space = files.load_latent_space()
    else:
        files.check_latent_space(latent_space.checksum, "the one given")
    generator = build_generator(settings, latent_space, device, precision)
    files.load_into(generator.modules)
    generator.checksum = files.checksum
    return generator


def build_generator(
    config: GeneratorConfig,
    latent_space: Any,
    device: torch.device | str = "cpu",
    precision: Precision = "auto",
    build: Callable[..., Backbone] = BACKBONES.build,
    build_conditioner: Callable[..., Conditioner] = CONDITIONERS.build,
) -> TextToImage | ClassToImage:
    """A fresh generator of the kind that its condition calls for; arguments as for :class:`ImageGenerator`."""
    if config.condition.name == "unified" and config.condition.vision_shape is None:
        config = config.model_copy(update={"condition": seeing(config.condition, latent_space)})
    is_labelled = issubclass(CONDITIONERS[config.condition.name], LabelConditioner)
    kind: type[TextToImage | ClassToImage] = ClassToImage if is_labelled else TextToImage
    return kind(config, latent_space, device, precision, build, build_conditioner)
