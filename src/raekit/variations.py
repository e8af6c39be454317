"""Variations: drawing that starts from a picture instead of from noise alone.

    image --encode--> z --noise up to t--> z_t --sampler--> latent --decode--> image

In: a latent space, pictures, a strength. Out: the noised latents that sampling starts from. The strength is a time
before the shift, so that it means the same whatever the latent's dimension: 1 is noise alone (the picture is
forgotten), towards 0 the picture is only encoded and decoded. The sampler takes as many steps as it is told, over the
rest of the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from raekit.autoencoder.base import Autoencoder
from raekit.data.picture import Picture, read_square
from raekit.data.sample import BadSample
from raekit.data.transforms import to_float
from raekit.errors import UserError
from raekit.transport.path import path_sample
from raekit.transport.timesteps import shift_times

DEFAULT_STRENGTH = 0.6


@dataclass(frozen=True)
class Start:
    """Where the pictures of a call begin.

    Attributes:
        latents: one a prompt, ``[P, C, h, w]``.
        strength: share of the way to noise before the time shift, in (0, 1].
    """

    latents: Tensor
    strength: float

    def noised(self, rows: Sequence[int], eps: Tensor, time_shift: float) -> Tensor:
        """The latents of prompts ``rows`` with noise ``eps`` ``[len(rows), C, h, w]`` up to the starting time."""
        z = self.latents[list(rows)].to(eps)
        t = shift_times(torch.full((len(z),), self.strength, device=eps.device, dtype=eps.dtype), time_shift)
        return path_sample(z, eps, t).z_t


@torch.no_grad()
def start_from(latent_space: Autoencoder, image: Any, strength: float | None, num_prompts: int) -> Start | None:
    """The start that ``image`` and ``strength`` ask for; None without a picture.

    Args:
        latent_space: encodes the pictures, each by itself.
        image: a :data:`~raekit.data.picture.Picture` for all prompts, or a list of one a prompt.
        strength: in (0, 1]; by default :data:`DEFAULT_STRENGTH`.
        num_prompts: number of prompts.

    Raises:
        UserError: a picture that cannot be read, the wrong number of them, or a strength out of range or without a
            picture.
    """
    if image is None:
        if strength is not None:
            raise UserError(f"strength: {strength} says how far to leave an image, and none was given; give image too")
        return None
    strength = DEFAULT_STRENGTH if strength is None else strength
    if not 0 < strength <= 1:
        raise UserError(f"strength: {strength} is not in (0, 1]; 1 forgets the image, towards 0 it hardly changes")
    pictures = _listed(image)
    if len(pictures) not in (1, num_prompts):
        raise UserError(f"image: {len(pictures)} pictures for {num_prompts} prompts; give one, or one for each")
    latents = [latent_space.encode(_image(latent_space, picture)) for picture in pictures]
    return Start(torch.cat(latents if len(latents) == num_prompts else latents * num_prompts), strength)


def _listed(image: Any) -> list[Picture]:
    """``image`` as a list of pictures."""
    if isinstance(image, Tensor | np.ndarray) and image.ndim == 4:
        return list(image)
    return list(image) if isinstance(image, list | tuple) else [image]


def _image(latent_space: Autoencoder, picture: Picture) -> Tensor:
    """A picture as the latent space takes it: float ``[1, 3, S, S]``."""
    if not isinstance(picture, str | Path | Image.Image | np.ndarray | Tensor):
        raise UserError(f"image: {type(picture).__name__} is no picture; give a path, a PIL image or a tensor")
    try:
        pixels = read_square(picture, latent_space.output_size)
    except BadSample as error:
        raise UserError(f"image: {error}") from None
    return to_float(pixels)[None].to(latent_space.device)
