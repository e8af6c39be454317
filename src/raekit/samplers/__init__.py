"""Samplers: from noise to a latent by integrating a velocity, and the guidance that wraps the velocity.

In: a velocity function, noise, a decreasing time grid. Out: a latent. A sampler knows neither the network nor the
condition.
"""

from __future__ import annotations

from raekit.registry import Registry

SAMPLERS = Registry(
    "samplers",
    {
        "euler": "raekit.samplers.ode:euler",
        "heun": "raekit.samplers.ode:heun",
        "dopri5": "raekit.samplers.ode:dopri5",
        "sde": "raekit.samplers.sde:sde",
        "rae_published_sde": "raekit.samplers.sde:rae_published_sde",
        "rae_published_sde_heun": "raekit.samplers.sde:rae_published_sde_heun",
        "scale_rae_published": "raekit.samplers.ode:scale_rae_published",
    },
)
