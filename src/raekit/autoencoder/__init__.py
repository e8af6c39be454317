"""The latent space: an encoder, the latent grid and its statistics, and the decoder back to pixels.

In: image ``[B,3,H,W]`` in [0,1]. Out: latent ``[B,C,h,w]`` and back. Every autoencoder registered here knows ``shape``
``(C,h,w)``, ``dim`` and ``output_size``, and has ``encode``, ``decode``, ``save`` and ``load``, so that a generator
never asks which one it lives in.
"""

from __future__ import annotations

from raekit.registry import Registry

AUTOENCODERS = Registry(
    "autoencoders",
    {
        "rae": "raekit.autoencoder.rae:RAE",
        "vae": "raekit.autoencoder.vae:VAE",
        "kl_vae": "raekit.autoencoder.kl_vae:KLVAE",
    },
)
