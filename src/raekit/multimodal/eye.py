"""How the language model sees: pictures and latents as encoder tokens.

In: images ``[M,3,H,W]`` in [0,1], or latents ``[M,C,h,w]``. Out: tokens ``[M,N,D]`` for the projector. In an RAE's
latent space both come to the same: a latent is the encoder's tokens, normalised, so what was just drawn is seen without
a pixel in between (Scale-RAE, section 5.2). A VAE's latents mean nothing to a language model; there a tower of its
own sees images, and only images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

from torch import Tensor

from raekit.autoencoder.base import Autoencoder
from raekit.autoencoder.latent import to_tokens
from raekit.autoencoder.rae import RAE
from raekit.encoders import ENCODERS
from raekit.encoders.base import EncoderConfig, RepresentationEncoder
from raekit.errors import UserError
from raekit.multimodal.conditioner import UnifiedConditioner


class Eye(ABC):
    """Pictures to tokens.

    Attributes:
        input_size: height and width in pixels that pictures are brought to before they are looked at.
    """

    input_size: int

    @abstractmethod
    def look(self, image: Tensor) -> Tensor:
        """Tokens ``[M,N,D]`` of images ``[M,3,H,W]`` in [0,1]."""

    @abstractmethod
    def look_at_latent(self, latent: Tensor) -> Tensor:
        """Tokens ``[M,N,D]`` of latents ``[M,C,h,w]``.

        Raises:
            UserError: latents of another latent space, or such as cannot be seen.
        """


class OwnEye(Eye):
    """The encoder of the latent space: what is drawn is what is seen."""

    def __init__(self, latent_space: RAE) -> None:
        self.latent_space, self.input_size = latent_space, latent_space.encoder.input_size

    def look(self, image: Tensor) -> Tensor:
        return self.latent_space.encode_tokens(image.to(self.latent_space.device))

    def look_at_latent(self, latent: Tensor) -> Tensor:
        shape = self.latent_space.shape
        if tuple(latent.shape[1:]) != shape:
            raise UserError(
                f"latent: {list(latent.shape[1:])} is none of this model's, which are {list(shape)}; give one that was "
                "drawn in the latent space it was trained in"
            )
        return to_tokens(self.latent_space.statistics.denormalise(latent.to(self.latent_space.device)))


class Tower(Eye):
    """An encoder beside a latent space that has none."""

    def __init__(self, encoder: RepresentationEncoder) -> None:
        self.encoder, self.input_size = encoder, encoder.input_size

    def look(self, image: Tensor) -> Tensor:
        tokens: Tensor = self.encoder(image.to(self.encoder.image_mean.device))
        return tokens

    def look_at_latent(self, latent: Tensor) -> Tensor:
        raise UserError(
            "latent: this model draws in the latent space of a VAE, which its language model does not see; decode the "
            "latent and ask about the image"
        )


def eye_of(
    config: UnifiedConditioner.Config, latent_space: Autoencoder, tower: RepresentationEncoder | None = None
) -> Eye | None:
    """What a model sees with; None for one that only reads.

    Args:
        config: of its language model.
        latent_space: what it draws in.
        tower: the encoder that ``config.tower`` names, if it is at hand already; loaded otherwise.

    Raises:
        UserError: a VAE without a tower, an RAE with one, or tokens of another shape than the projector's.
    """
    if config.vision_shape is None:
        return None
    found = seeing(config, latent_space).vision_shape
    if found != config.vision_shape:
        raise UserError(
            f"condition.vision_shape: {list(config.vision_shape)}, but here a picture is {list(found or ())} (tokens, "
            "channels); give the latent space or the tower that the model was trained with"
        )
    if isinstance(latent_space, RAE):
        return OwnEye(latent_space)
    encoder = tower or ENCODERS.build(config.tower)
    return Tower(encoder.to(latent_space.device))


C = TypeVar("C", bound=UnifiedConditioner.Config)


def seeing(config: C, latent_space: Autoencoder) -> C:
    """``config`` with the shape of the tokens that a model in this latent space sees; nothing is loaded for it.

    Raises:
        UserError: a VAE without a tower, or an RAE with one.
    """
    if isinstance(latent_space, RAE):
        if config.tower is not None:
            raise UserError("condition.tower: an RAE sees through its own encoder; leave the tower out")
        channels, height, width = latent_space.shape
        return config.model_copy(update={"vision_shape": (height * width, channels)})
    if config.tower is None:
        raise UserError(
            f"condition.tower: missing; {latent_space.config.name} has no encoder that a language model could see "
            "through, so name one, such as {name: siglip2, size: so400m}"
        )
    settings: EncoderConfig = config.tower
    outline = ENCODERS[settings.model_dump()["name"]].outline(settings)
    return config.model_copy(update={"vision_shape": (outline.grid**2, outline.width)})
