"""A pipeline directory, called as diffusers calls one; diffusers itself need not be there.

In: the directory that ``raekit convert --format diffusers_pipeline`` writes (or one in the layout of diffusers' pull
request 13231), or one of our own generators. Out: an object whose call takes class labels or prompts and
``torch.Generator`` objects, and gives ``.images``::

    from raekit.interop.pipeline import RAEDiTPipeline

    pipe = RAEDiTPipeline.from_pretrained("model", device="cuda")
    image = pipe(class_labels=[207], num_inference_steps=50, generator=torch.Generator().manual_seed(0)).images[0]

Randomness is that of diffusers: one generator for the whole batch, or one an image. It differs from diffusers in what
it should: its time steps are shifted once, where ``FlowMatchEulerDiscreteScheduler`` shifts their low end twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, Unpack

import torch
from PIL import Image
from torch import Tensor

from raekit.conditioning.base import Cond
from raekit.conditioning.label import LabelConditioner
from raekit.device import Precision, pick_device
from raekit.errors import UserError
from raekit.generate import ImageGenerator, load_generator
from raekit.hub import local_model
from raekit.image_grid import to_arrays
from raekit.interop.diffusers_pipeline import INDEX_FILE, load_pipeline
from raekit.samplers.integrate import integrate
from raekit.samplers.settings import Sampling

Generators = torch.Generator | Sequence[torch.Generator] | None
"""One for the whole batch, one an image, or none for torch's own."""
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


class PipelineOptions(TypedDict, total=False):
    """What else a call takes, by the names of diffusers."""

    negative_prompt: str | Sequence[str]
    """What the pictures are moved away from, in place of the lack of a prompt; one, or one for each prompt."""
    num_images_per_prompt: int
    """Images of each label or prompt (default: 1)."""
    guidance_start: float
    """Lowest guided time, 0 data and 1 noise (default: the model's own)."""
    guidance_end: float
    """Highest guided time (default: the model's own)."""
    latents: Tensor
    """Noise ``[B, C, h, w]`` to start from, in place of drawn noise."""
    return_dict: bool
    """False for a tuple of one in place of an object with ``images`` (default: True)."""


@dataclass(frozen=True)
class PipelineOutput:
    """What a call gives.

    Attributes:
        images: PIL images, an array ``[B, S, S, 3]``, or a tensor ``[B, 3, S, S]``, in [0, 1]; or latents.
    """

    images: Any


class RAEDiTPipeline:
    """A generator behind the call of diffusers' pipeline for RAE.

    Args:
        model: the generator.
    """

    def __init__(self, model: ImageGenerator) -> None:
        self.model = model

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path,
        device: torch.device | str = "auto",
        precision: Precision = "auto",
        revision: str | None = None,
    ) -> Self:
        """The pipeline of a directory or of a hub repository.

        Args:
            directory: a pipeline's, one of our generators', or the id of a hub repository with either.
            device: ``auto`` is CUDA when there is one.
            precision: of matrix products; ``auto`` is bf16 where the hardware is faster with it.
            revision: branch, tag or commit of a hub repository.

        Raises:
            UserError: no pipeline there, or its parts do not fit.
        """
        path = local_model(directory, revision)
        if (path / INDEX_FILE).is_file():
            return cls(load_pipeline(path, pick_device(str(device)), precision))
        return cls(load_generator(path, device, precision))

    @property
    def labels(self) -> dict[str, int]:
        """Class names, where the model knows any, to labels."""
        return {name: label for label, name in enumerate(getattr(self.model.conditioner, "names", ()))}

    def get_label_ids(self, label: str | Sequence[str]) -> list[int]:
        """The labels of class names.

        Raises:
            UserError: a model of prompts, or no such class; the nearest names are told.
        """
        conditioner = self.model.conditioner
        if not isinstance(conditioner, LabelConditioner):
            raise UserError(f"labels: this model takes {self.model.prompt_kind}; give it prompts")
        return [conditioner.label_of(name) for name in ([label] if isinstance(label, str) else label)]

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | Sequence[int] | Tensor | None = None,
        prompt: str | Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: Generators = None,
        output_type: Literal["pil", "np", "pt", "latent"] = "pil",
        **options: Unpack[PipelineOptions],
    ) -> PipelineOutput | tuple[Any]:
        """Draw one image of each label or prompt, or several.

        Args:
            class_labels: for a class-conditional model.
            prompt: for a text-conditional one.
            num_inference_steps: by default the model's own number.
            guidance_scale: 1 is no guidance; by default the model's own.
            generator: of the noise.
            output_type: ``pil``, ``np``, ``pt`` or ``latent``.
            **options: see :class:`PipelineOptions`.

        Raises:
            UserError: labels for a model of prompts or the reverse, or a value that cannot be used.
        """
        if output_type not in OUTPUT_TYPES:
            raise UserError(f"output_type: {output_type!r} is not one of {', '.join(OUTPUT_TYPES)}")
        if unknown := sorted(options.keys() - PipelineOptions.__annotations__.keys()):
            raise UserError(f"{unknown[0]}: no option; it takes {', '.join(PipelineOptions.__annotations__)}")
        wanted = [each for each in self._wanted(class_labels, prompt) for _ in range(_num_images(options))]
        settings = self._settings(num_inference_steps, guidance_scale, options)
        latents = self._sample(wanted, settings, generator, options)
        images = self._as(output_type, latents)
        return PipelineOutput(images) if options.get("return_dict", True) else (images,)

    def _wanted(self, class_labels: Any, prompt: Any) -> list[Any]:
        """The label or prompt of each image."""
        given, other = (class_labels, prompt) if self._is_labelled else (prompt, class_labels)
        if given is None or other is not None:
            name = "class_labels" if self._is_labelled else "prompt"
            raise UserError(f"{name}: this model takes {self.model.prompt_kind}; give {name} and nothing else")
        if self._is_labelled:
            return [int(label) for label in torch.as_tensor(given).reshape(-1)]
        return [given] if isinstance(given, str) else list(given)

    def _settings(self, steps: int | None, scale: float | None, options: PipelineOptions) -> Sampling:
        own = self.model.config.sampling
        low, high = own.guidance_interval
        interval = (options.get("guidance_start", low), options.get("guidance_end", high))
        return self.model.sampling(
            steps=own.steps if steps is None else steps,
            guidance_scale=own.guidance_scale if scale is None else scale,
            guidance_interval=interval,
        )

    def _sample(self, wanted: list[Any], settings: Sampling, generator: Generators, options: PipelineOptions) -> Tensor:
        """Latents ``[B, C, h, w]`` of labels or prompts."""
        model = self.model
        known = {each: self._read(each) for each in dict.fromkeys(wanted)}
        null_cond = self._null(options.get("negative_prompt"), len(wanted))
        noise = _noise(options.get("latents"), (len(wanted), *model.latent_space.shape), generator)
        cond = Cond.cat([known[each] for each in wanted])
        velocity = model.denoiser.guided(cond, null_cond, settings)
        each = _generators(generator, len(wanted))
        return integrate(velocity, noise.to(model.device), settings, model.transport.time_shift, each)

    def _read(self, wanted: Any) -> Cond:
        """The condition of one label or prompt, read by itself."""
        cond: Cond = self.model.conditioner(torch.tensor([wanted]) if self._is_labelled else [wanted])
        return cond

    def _null(self, negative: str | Sequence[str] | None, count: int) -> Cond | None:
        """What classifier-free guidance moves away from: negative prompts, or the learned null if there is one."""
        if negative is not None:
            against = [negative] * count if isinstance(negative, str) else _each(negative, count)
            return Cond.cat([self._read(each) for each in against])
        return self.model.conditioner.null(count) if self.model.conditioner.dropout > 0 else None

    def _as(self, output_type: str, latents: Tensor) -> Any:
        if output_type == "latent":
            return latents
        images = self.model.decode(latents)
        if output_type == "pil":
            return [Image.fromarray(array) for array in to_arrays(images)]
        return images if output_type == "pt" else images.permute(0, 2, 3, 1).numpy()

    @property
    def _is_labelled(self) -> bool:
        return isinstance(self.model.conditioner, LabelConditioner)


def _num_images(options: PipelineOptions) -> int:
    num = options.get("num_images_per_prompt", 1)
    if num < 1:
        raise UserError(f"num_images_per_prompt: {num}; give 1 or more")
    return num


def _each(values: Sequence[str], count: int) -> list[str]:
    """One value for each of ``count`` images, in equal runs."""
    if count % len(values):
        raise UserError(f"negative_prompt: {len(values)} for {count} images; give one, or one for each prompt")
    return [value for value in values for _ in range(count // len(values))]


def _generators(generator: Generators, count: int) -> list[torch.Generator]:
    """One for each image, all the same if there is but one."""
    if generator is None:
        return [torch.default_generator] * count
    return [generator] * count if isinstance(generator, torch.Generator) else list(generator)


def _noise(given: Tensor | None, shape: tuple[int, ...], generator: Generators) -> Tensor:
    """The noise of a batch: as given, from one generator at once, or from one an image."""
    if given is not None:
        if tuple(given.shape) != shape:
            raise UserError(f"latents: got {list(given.shape)}, this call needs {list(shape)}")
        return given.float()
    if generator is None or isinstance(generator, torch.Generator):
        device = "cpu" if generator is None else generator.device
        return torch.randn(shape, generator=generator, device=device)
    if len(generator) != shape[0]:
        raise UserError(f"generator: {len(generator)} for {shape[0]} images; give one, or one for each image")
    return torch.stack([torch.randn(shape[1:], generator=each, device=each.device) for each in generator])
