"""Pictures from prompts or class labels: condition -> latent -> image.

    prompt --conditioner--> cond --+
    noise (from the image's seed) --+--sampler (guided backbone)--> latent --latent space--> image

**Seeds.** Every image has its own: image ``i`` of every prompt starts from the noise of seed ``seed + i``, drawn on the
CPU. So ``seed=7, num=4`` gives the images of seeds 7, 8, 9, 10; each can be had again by itself, and its noise depends
neither on the batch size nor on the other prompts nor on the device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypedDict, Unpack

import torch
from PIL import Image
from torch import Tensor, nn

from raekit import config as recipes
from raekit import generator_files
from raekit.backbones import BACKBONES
from raekit.checkpoint import load_strict
from raekit.conditioning import CONDITIONERS
from raekit.conditioning.base import Cond, Conditioner
from raekit.conditioning.label import LabelConditioner
from raekit.config import component
from raekit.device import Precision, autocast, pick_device
from raekit.errors import UserError
from raekit.image_grid import to_arrays
from raekit.samplers import SAMPLERS
from raekit.samplers.guidance import ClassifierFree
from raekit.samplers.settings import Sampling
from raekit.transport import GRIDS
from raekit.transport.objective import FlowMatching

BATCH_SIZE = 16
LARGEST_SEED = 2**63 - 1

Callback = Callable[[dict[str, Any]], None]
"""Called at every step with the sampler's ``step``, ``num_steps``, ``t``, ``z_t`` and ``x``; also ``first``, the index
of the batch's first image, and ``num_images``, how many there are in all."""


class SamplingOptions(TypedDict, total=False):
    """The fields of :class:`~raekit.samplers.settings.Sampling`, each in place of the model's own default."""

    steps: int
    guidance_scale: float
    guidance_interval: tuple[float, float]
    sampler: str
    time_grid: str


class ImageGenerator(ABC):
    """A backbone and a conditioner in a latent space; subclasses say what a prompt is.

    Args:
        config: what it is made of.
        latent_space: an autoencoder, already loaded.
        device: where everything is put.
        precision: arithmetic of the backbone's matrix products; weights and latents stay fp32.

    Attributes:
        modules: the parts with weights of their own, by name: ``backbone`` and ``conditioner``.
        checksum: of the directory it was loaded from or saved to; empty before that.
    """

    class Config(recipes.Config):
        """A generator as a recipe states it."""

        backbone: component(BACKBONES)  # type: ignore[valid-type]
        """The network that predicts."""
        condition: component(CONDITIONERS)  # type: ignore[valid-type]
        """What it is told."""
        transport: FlowMatching.Config = FlowMatching.Config()
        """What it predicts, and how times are shifted."""
        sampling: Sampling = Sampling()
        """How it draws unless told otherwise."""

    prompt_kind: ClassVar[str]
    """What it takes, in words."""

    def __init__(
        self,
        config: Config,
        latent_space: Any,
        device: torch.device | str = "cpu",
        precision: Precision = "auto",
    ) -> None:
        self.config, self.latent_space = config, latent_space
        self.device, self.precision = torch.device(device), precision
        _, height, width = latent_space.shape
        num_tokens = (height // config.backbone.patch_size) * (width // config.backbone.patch_size)
        self.conditioner: Conditioner = CONDITIONERS.build(config.condition, num_tokens=num_tokens)
        self.backbone: nn.Module = BACKBONES.build(
            config.backbone, latent_shape=latent_space.shape, cond_width=self.conditioner.width
        )
        self.transport = FlowMatching(config.transport, latent_space.dim)
        self.modules: dict[str, nn.Module] = {"backbone": self.backbone, "conditioner": self.conditioner}
        for module in (latent_space, *self.modules.values()):
            module.to(self.device).eval()
        self.checksum = ""

    def __call__(
        self,
        prompts: Any,
        num: int = 1,
        seed: int = 0,
        output: Literal["pil", "tensor", "latent"] = "pil",
        callback: Callback | None = None,
        batch_size: int = BATCH_SIZE,
        **options: Unpack[SamplingOptions],
    ) -> Any:
        """Draw ``num`` images of each prompt.

        Args:
            prompts: one prompt, or several.
            num: images per prompt.
            seed: of the first image of each prompt; the next ones have ``seed + 1``, ``seed + 2``, ...
            output: ``pil`` for a list of PIL images, ``tensor`` for ``[P * num, 3, S, S]`` in [0, 1], ``latent`` for
                ``[P * num, C, h, w]``; tensors lie on the CPU. All images of the first prompt come first.
            callback: see :data:`Callback`.
            batch_size: images drawn at once; changes memory and speed only.
            **options: ``steps``, ``guidance_scale``, ... where they differ from the model's own.

        Raises:
            UserError: a prompt or setting that cannot be used.
        """
        if output not in ("pil", "tensor", "latent"):
            raise UserError(f"output: {output!r} is not one of pil, tensor, latent")
        latents = self.sample(prompts, num, seed, callback, batch_size, **options)
        if output == "latent":
            return latents
        images = self.decode(latents, batch_size)
        return images if output == "tensor" else [Image.fromarray(array) for array in to_arrays(images)]

    @torch.no_grad()
    def sample(
        self,
        prompts: Any,
        num: int = 1,
        seed: int = 0,
        callback: Callback | None = None,
        batch_size: int = BATCH_SIZE,
        **options: Unpack[SamplingOptions],
    ) -> Tensor:
        """Latents ``[P * num, C, h, w]`` float32 on the CPU; arguments and errors as for a call."""
        if batch_size < 1:
            raise UserError(f"batch_size: {batch_size} images at once; give at least 1")
        settings = self.sampling(**options)
        seeds = image_seeds(num, seed)
        conds = self._read(self._listed(prompts))
        total = len(conds) * num
        latents = []
        for first in range(0, total, batch_size):
            jobs = range(first, min(first + batch_size, total))
            cond = Cond.cat([conds[job // num] for job in jobs])
            eps = torch.stack([noise(seeds[job % num], self.latent_space.shape) for job in jobs]).to(self.device)
            watch = None if callback is None else _counting(callback, first, total)
            latents.append(self._integrate(eps, cond, settings, watch).cpu())
        return torch.cat(latents)

    @torch.no_grad()
    def decode(self, latents: Tensor, batch_size: int = BATCH_SIZE) -> Tensor:
        """Images ``[N, 3, S, S]`` in [0, 1] on the CPU, of latents ``[N, C, h, w]``."""
        parts = [
            self.latent_space.decode(part.to(self.device)).clamp(0, 1) for part in torch.split(latents, batch_size)
        ]
        return torch.cat([part.float().cpu() for part in parts])

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
        tensors = {}
        for group, module in self.modules.items():
            trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
            for name, value in module.state_dict().items():
                tensors[f"{group}.{name}"] = value.to(dtype) if name in trained else value
        settings = self.config.model_dump(mode="json")
        self.checksum = generator_files.write(
            Path(directory), settings, tensors, Path(autoencoder), self.latent_space.checksum
        )

    @classmethod
    def load(
        cls,
        directory: str | Path | None = None,
        device: torch.device | str = "auto",
        precision: Precision = "auto",
        latent_space: Any = None,
    ) -> Self:
        """As :func:`load_generator`, and of this kind.

        Raises:
            UserError: as :func:`load_generator`, or the generator takes other prompts.
        """
        generator = load_generator(directory, device, precision, latent_space)
        if not isinstance(generator, cls):
            raise UserError(
                f"model {str(directory)!r} takes {generator.prompt_kind}, not {cls.prompt_kind}; "
                f"load it with {type(generator).__name__}.load"
            )
        return generator

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
        known = {prompt: self.conditioner(self._batch_of_one(prompt)) for prompt in dict.fromkeys(prompts)}
        return [known[prompt] for prompt in prompts]

    @abstractmethod
    def _batch_of_one(self, prompt: Any) -> list[str] | Tensor:
        """A prompt as the conditioner takes it."""

    def _integrate(self, eps: Tensor, cond: Cond, settings: Sampling, callback: Callback | None) -> Tensor:
        """From noise ``[B, C, h, w]`` to latents."""

        def model(z_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
            with autocast(self.precision, self.device):
                output: Tensor = self.backbone(z_t, t, cond)
            return output

        velocity = ClassifierFree(
            self.transport.velocity_of(model),
            cond,
            self.conditioner.null(len(eps)),
            settings.guidance_scale,
            settings.guidance_interval,
        )
        times = GRIDS[settings.time_grid](settings.steps, self.transport.time_shift)
        latent: Tensor = SAMPLERS[settings.sampler](velocity, eps, times, callback)
        return latent


class TextToImage(ImageGenerator):
    """Images from text prompts (Scale-RAE)."""

    prompt_kind = "text prompts"

    def _batch_of_one(self, prompt: Any) -> list[str] | Tensor:
        if not isinstance(prompt, str):
            raise UserError(f"prompt: {prompt!r} is not text; this model takes text prompts")
        return [prompt]


class ClassToImage(ImageGenerator):
    """Images from class labels (RAE)."""

    prompt_kind = "class labels"

    def _batch_of_one(self, prompt: Any) -> list[str] | Tensor:
        try:
            return torch.tensor([int(prompt)])
        except (TypeError, ValueError):
            raise UserError(f"label: {prompt!r} is not a number; this model takes class labels") from None


def load_generator(
    directory: str | Path | None = None,
    device: torch.device | str = "auto",
    precision: Precision = "auto",
    latent_space: Any = None,
) -> TextToImage | ClassToImage:
    """The generator in a directory, as :class:`TextToImage` or :class:`ClassToImage`.

    Args:
        directory: what :meth:`ImageGenerator.save` wrote; by default the bundled nano model.
        device: ``auto`` is CUDA when there is one.
        precision: ``auto`` is bf16 where the hardware is faster with it.
        latent_space: its latent space, if that is at hand already or not where the directory says.

    Raises:
        UserError: no generator there, damaged, or another latent space than the one it was trained in.
    """
    files = generator_files.read(directory)
    source = f"model {str(files.directory)!r}"
    settings = recipes.validate(ImageGenerator.Config, files.settings, source)
    if latent_space is None:
        latent_space = files.load_latent_space()
    else:
        files.check_latent_space(latent_space.checksum, "the one given")
    generator = build_generator(settings, latent_space, pick_device(str(device)), precision)
    for group, module in generator.modules.items():
        own = {k.removeprefix(f"{group}."): v for k, v in files.tensors.items() if k.startswith(f"{group}.")}
        load_strict(module, own, f"{source}, {group}")
    generator.checksum = files.checksum
    return generator


def build_generator(
    config: ImageGenerator.Config,
    latent_space: Any,
    device: torch.device | str = "cpu",
    precision: Precision = "auto",
) -> TextToImage | ClassToImage:
    """A fresh generator of the kind that its condition calls for; arguments as for :class:`ImageGenerator`."""
    is_labelled = issubclass(CONDITIONERS[config.condition.name], LabelConditioner)
    kind: type[TextToImage | ClassToImage] = ClassToImage if is_labelled else TextToImage
    return kind(config, latent_space, device, precision)


def image_seeds(num: int, seed: int) -> list[int]:
    """The seeds of ``num`` images: ``seed``, ``seed + 1``, ...

    Raises:
        UserError: no images, or a seed outside [0, 2^63).
    """
    if num < 1:
        raise UserError(f"num: {num} images per prompt; ask for at least 1")
    if not 0 <= seed <= LARGEST_SEED - num:
        raise UserError(f"seed: {seed} is out of range; give one in 0..{LARGEST_SEED - num}")
    return list(range(seed, seed + num))


def noise(seed: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise of one image, drawn on the CPU from ``seed`` alone, so that every device has the same."""
    return torch.randn(tuple(shape), generator=torch.Generator("cpu").manual_seed(seed))


def _counting(callback: Callback, first: int, num_images: int) -> Callback:
    return lambda report: callback({**report, "first": first, "num_images": num_images})
