"""The opponent of stage 1: a discriminator on frozen features that tells redrawn pictures from real ones.

In: pictures ``[B,3,H,W]`` in [0,1]. Out: the decoder's loss (how well it fools) and the discriminator's (how well it
tells). Both see randomly augmented pictures (DiffAug), the discriminator also 8-bit ones, so that it cannot win by
what a viewer never sees (RAE, appendix C.2; Scale-RAE, appendix A).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn

from raekit import config
from raekit.config import Config, component
from raekit.durations import Steps
from raekit.encoders.base import RepresentationEncoder
from raekit.losses import DISCRIMINATORS
from raekit.losses.adversarial import Kind, accuracy, adaptive_weight, discriminator_loss, generator_loss, quantise
from raekit.losses.diffaug import DiffAug
from raekit.losses.discriminator import Discriminator
from raekit.training.draws import Draws
from raekit.training.optim import OptimConfig

if TYPE_CHECKING:
    DiscriminatorChoice = config.Config
else:
    DiscriminatorChoice = component(DISCRIMINATORS)

PURPOSE_FOOL, PURPOSE_REAL, PURPOSE_FAKE = range(20, 23)
"""Uses of a sample's random numbers, apart from those of the latent space."""


class Adversary:
    """Discriminator, augmentation and the two losses.

    Args:
        config: what it is made of.
        encoder: the run's frozen encoder, for a discriminator that looks through it.
        device: where it goes.
    """

    class Config(Config):
        """The adversarial part of a stage-1 recipe."""

        weight: float = Field(0.75, gt=0)
        """Of the adversarial term: 0.75 beside the adaptive weight (RAE), 10 alone (Scale-RAE)."""
        is_adaptive: bool = True
        """Also multiply by the ratio of gradient norms at the decoder's last layer (VQGAN; RAE, appendix C.2)."""
        max_adaptive_weight: float = Field(1e4, gt=0)
        """Largest ratio."""
        decoder_loss: Kind = "vanilla"
        """What the decoder lowers: the negated mean logit, or its logistic loss (``non_saturating``)."""
        discriminator_loss: Kind = "hinge"
        """What the discriminator lowers: the margin of ``hinge``, or the logistic loss."""
        discriminator: DiscriminatorChoice = Discriminator.Config()
        """Heads on a frozen network, or convolutions on pixels."""
        diffaug: DiffAug.Config = DiffAug.Config()
        """Augmentation before the discriminator."""
        discriminator_start_steps: Steps = Field(0, ge=0)
        """Step at which the discriminator begins to learn."""
        start_steps: Steps = Field(0, ge=0)
        """Step at which the decoder begins to hear of it."""
        optim: OptimConfig = OptimConfig(clip_norm=None)
        """Of the discriminator; its schedule counts from its own start."""

    def __init__(self, config: Config, encoder: RepresentationEncoder | None, device: torch.device) -> None:
        self.config = config
        kind = DISCRIMINATORS[config.discriminator.model_dump()["name"]]
        self.discriminator: nn.Module = kind.build(config.discriminator, encoder).to(device).eval()
        self.augment = DiffAug(config.diffaug)

    def fool(self, image: Tensor, draws: Draws) -> Tensor:
        """The decoder's loss, a scalar, on its reconstructions ``[B,3,H,W]``; the discriminator stays as it is."""
        seen = self.augment(image, draws.uniforms(PURPOSE_FOOL, self.augment.num_draws))
        return generator_loss(self.config.decoder_loss, self.discriminator(seen))

    def tell(self, real: Tensor, fake: Tensor, draws: Draws) -> dict[str, Tensor]:
        """The discriminator's loss, mean logits and accuracy, scalars, on pictures and their reconstructions.

        Args:
            real: ``[B,3,H,W]`` in [0,1].
            fake: the same shape; quantised as the pictures are, and cut from its gradient.
            draws: of the augmentation.

        Returns:
            ``loss``, ``real_logit``, ``fake_logit``, ``accuracy``.
        """
        augmented = [
            self.augment(image, draws.uniforms(purpose, self.augment.num_draws))
            for image, purpose in ((real, PURPOSE_REAL), (quantise(fake), PURPOSE_FAKE))
        ]
        if (
            getattr(self.config.discriminator, "norm", None) == "batch"
        ):  # real and fake pictures must not share their statistics
            real_logits, fake_logits = (self.discriminator(image).float() for image in augmented)
        else:
            real_logits, fake_logits = self.discriminator(torch.cat(augmented)).float().chunk(2)
        loss = discriminator_loss(self.config.discriminator_loss, real_logits, fake_logits)
        means = {"real_logit": real_logits.mean(), "fake_logit": fake_logits.mean()}
        return {"loss": loss, **means, "accuracy": accuracy(real_logits, fake_logits)}

    def balance(self, reconstruction: Tensor, adversarial: Tensor) -> Tensor:
        """Weight of the adversarial term, a scalar, from two gradients of one shape, of the decoder's last layer."""
        if not self.config.is_adaptive:
            return torch.full((), self.config.weight, device=reconstruction.device)
        limit = self.config.max_adaptive_weight
        return self.config.weight * adaptive_weight(reconstruction, adversarial, limit)
