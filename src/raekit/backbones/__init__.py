"""Backbones: the networks that learn the transport.

In: noised latent ``[B, C, h, w]``, times ``[B]``, a :class:`~raekit.conditioning.base.Cond`. Out: a prediction
``[B, C, h, w]``; the transport says of what. A backbone knows nothing of images, prompts or guidance.
"""

from __future__ import annotations

from raekit.registry import Registry

BACKBONES = Registry(
    "backbones",
    {
        "dit": "raekit.backbones.dit:DiT",
        "dit_dh": "raekit.backbones.dit_dh:DiTDH",
    },
)
