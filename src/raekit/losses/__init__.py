"""Losses between pictures: mathematics with closed-form tests, no training procedure.

The discriminators are registered: ``features`` puts trained heads on a frozen network (DINO, or an encoder), as the
published systems do; ``patches`` is a small convolutional network on pixels.
"""

from __future__ import annotations

from raekit.registry import Registry

DISCRIMINATORS = Registry(
    "discriminators",
    {
        "features": "raekit.losses.discriminator:Discriminator",
        "patches": "raekit.losses.patches:PatchDiscriminator",
    },
)
