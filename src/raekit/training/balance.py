"""Where the terms of stage 1 meet: their gradients at the pixels and at the decoder's last layer.

In: a reconstruction with its loss terms. Out: each part's gradient with respect to the picture and to the last layer's
weight. The first is all that has to travel through the decoder; the norms of the second weigh the adversarial term
(VQGAN, equation 7; RAE, appendix C.2) and tell how much each term has to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from raekit.training.stage import Terms


@dataclass(frozen=True)
class Pictures:
    """A micro-batch on the device.

    Attributes:
        start: what the reconstruction starts from: the encoder's tokens ``[B,N,C]``, or the picture itself.
        target: what it should be ``[B,3,S,S]``, in [0,1], of the decoder's output size.
    """

    start: Tensor
    target: Tensor


@dataclass(frozen=True)
class Drawn:
    """A reconstruction with its loss terms, all weighted.

    Attributes:
        image: ``[B,3,S,S]``, with its graph.
        compared: terms that reach the weights through ``image``.
        own: terms of the latent space itself.
    """

    image: Tensor
    compared: Terms
    own: Terms

    @property
    def terms(self) -> Terms:
        """All terms and their sum."""
        every = {**self.compared, **self.own}
        return {"loss": torch.stack(list(every.values())).sum(), **every}

    def backward(self, pixels: Tensor, share: float) -> None:
        """Send ``share`` times the gradient of the picture, and of the latent space's own terms, into the weights."""
        own = list(self.own.values())
        gradients = [pixels * share, *(torch.full_like(term, share) for term in own)]
        torch.autograd.backward([self.image, *own], gradients)


@dataclass(frozen=True)
class Slope:
    """The gradient of one part of the loss.

    Attributes:
        pixels: with respect to the picture, ``[B,3,S,S]``.
        last_layer: with respect to the weight of the decoder's last layer.
    """

    pixels: Tensor
    last_layer: Tensor

    @classmethod
    def of(cls, part: Tensor, image: Tensor, last_layer: Tensor) -> Slope:
        """Differentiate a part of the loss of ``image``, keeping the graph."""
        pixels = torch.autograd.grad(part, image, retain_graph=True)[0]
        return cls(pixels, torch.autograd.grad(image, last_layer, pixels, retain_graph=True)[0])


@dataclass(frozen=True)
class Sweep:
    """One micro-batch differentiated down to the pixels.

    Attributes:
        drawn: the reconstruction, if its graph is kept for the way through the decoder.
        terms: for the log.
        reconstruction: slope of everything but the adversarial term.
        adversarial: slope of the adversarial term.
    """

    drawn: Drawn | None
    terms: Terms
    reconstruction: Slope
    adversarial: Slope


def shares(layers: Mapping[str, Tensor]) -> Terms:
    """Each term's share of the sum of gradient norms, as ``share/<term>``."""
    norms = {name: layer.norm() for name, layer in layers.items()}
    whole = torch.stack(list(norms.values())).sum().clamp(min=1e-30)
    return {f"share/{name}": norm / whole for name, norm in norms.items()}
