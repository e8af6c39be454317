"""Adversarial losses, and how strongly they pull.

In: logits of a discriminator, ``[B, L]``, or the gradients that two losses leave in the decoder's last layer. Out:
scalars. RAE trains with the hinge loss for the discriminator, its negated mean logit for the decoder, and VQGAN's
adaptive weight between that and the reconstruction (RAE, appendix C.2; arXiv 2012.09841, equation 7); Scale-RAE with a
fixed weight of 10 (appendix A).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["hinge", "vanilla", "non_saturating"]
"""The discriminator's margin or its logistic loss; ``non_saturating`` is ``vanilla`` with a logistic generator loss."""


def discriminator_loss(kind: Kind, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What the discriminator descends, a scalar: half of each side's mean, over logits ``[B,L]`` of either side.

    ``hinge``: ``relu(1 - real)`` and ``relu(1 + fake)``. ``vanilla`` and ``non_saturating``: ``softplus(-real)`` and
    ``softplus(fake)``, the cross entropy of "real" and "fake".
    """
    real, fake = real_logits.float(), fake_logits.float()
    if kind == "hinge":
        return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


def generator_loss(kind: Kind, fake_logits: Tensor) -> Tensor:
    """What the decoder descends, a scalar, over logits ``[B,L]``.

    ``-mean(fake)``, or ``mean(softplus(-fake))`` for ``non_saturating``. The published systems call the first one
    "vanilla" as well, so ``hinge`` and ``vanilla`` share it.
    """
    fake = fake_logits.float()
    return F.softplus(-fake).mean() if kind == "non_saturating" else -fake.mean()


def accuracy(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Share of logits ``[B,L]`` that rank a real picture above its fake, a scalar in [0,1].

    0.5 is a coin, 1 a discriminator that has won.
    """
    return (real_logits > fake_logits).float().mean()


def adaptive_weight(
    reconstruction_grad: Tensor, adversarial_grad: Tensor, limit: float = 1e4, eps: float = 1e-6
) -> Tensor:
    """The factor that lets the adversarial loss pull as hard as the reconstruction (VQGAN, equation 7).

    ``|reconstruction_grad| / (|adversarial_grad| + eps)``, at most ``limit``. Across processes the gradients must be
    averaged first: the norm of a mean is not the mean of norms.

    Args:
        reconstruction_grad: of the whole reconstruction loss, LPIPS included, in the decoder's last layer; of any
            shape.
        adversarial_grad: of the generator loss in the same weights; the same shape.
        limit: largest factor.
        eps: added to the denominator.

    Returns:
        Scalar in [0, ``limit``] without a gradient.
    """
    pull, push = (torch.linalg.vector_norm(grad.detach().float()) for grad in (reconstruction_grad, adversarial_grad))
    ratio: Tensor = pull / (push + eps)
    return ratio.clamp(0, limit)


def quantise(image: Tensor) -> Tensor:
    """Pictures ``[B,3,H,W]`` on the 256 levels of a PNG, clamped to [0,1]: the fakes as a discriminator is shown them.

    Real pictures come from 8-bit files; without it the discriminator could tell fakes by their finer levels. It lets no
    gradient through.
    """
    return torch.round(image.detach().clamp(0, 1) * 255) / 255
