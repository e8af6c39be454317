"""Transport: from noise to data along a path, what a network learns of it, and at which times.

In: a clean latent ``z``, noise ``eps``, draws. Out: noised latents, regression targets, losses, time grids. The
convention of time is stated once, in :mod:`raekit.transport.path`.
"""

from __future__ import annotations

from raekit.registry import Registry

TIMESTEPS = Registry(
    "timesteps",
    {
        "uniform": "raekit.transport.timesteps:uniform",
        "logit_normal": "raekit.transport.timesteps:logit_normal",
        "rae_uniform": "raekit.transport.timesteps:rae_uniform",
        "rae_logit_normal": "raekit.transport.timesteps:rae_logit_normal",
    },
)

GRIDS = Registry(
    "grids",
    {
        "linear": "raekit.transport.timesteps:linear_grid",
        "rae_published": "raekit.transport.timesteps:rae_published_grid",
        "rae_published_sde": "raekit.transport.timesteps:rae_published_sde_grid",
        "scale_rae_published": "raekit.transport.timesteps:scale_rae_published_grid",
    },
)
