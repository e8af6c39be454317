"""How a picture is drawn: the choices that are open after training.

In: numbers and names from a recipe, a model directory or a command line. Out: a validated :class:`Sampling`. It imports
no network code, so that a command line can list its options at once.
"""

from __future__ import annotations

from pydantic import Field, field_validator

from raekit.config import Config
from raekit.registry import Registry, nearest_hint
from raekit.samplers import SAMPLERS
from raekit.transport import GRIDS


class Sampling(Config):
    """Sampler, time grid, number of steps and guidance."""

    steps: int = Field(50, ge=1, le=10_000)
    """Steps from noise to latent (papers: 50)."""
    guidance_scale: float = Field(3.0, ge=0, allow_inf_nan=False)
    """Classifier-free guidance: 1 is none, larger follows the prompt more closely."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest time at which guidance acts (0 data, 1 noise)."""
    sampler: str = "euler"
    """How the steps are taken; `raekit list samplers` names the choices."""
    time_grid: str = "linear"
    """Where the steps lie before the shift; `raekit list grids` names the choices."""

    @field_validator("guidance_interval")
    @classmethod
    def _is_ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] <= 1:
            raise ValueError(f"needs 0 <= low <= high <= 1, got {value[0]:g} {value[1]:g}")
        return value

    @field_validator("sampler")
    @classmethod
    def _is_sampler(cls, value: str) -> str:
        return _known(value, SAMPLERS)

    @field_validator("time_grid")
    @classmethod
    def _is_grid(cls, value: str) -> str:
        return _known(value, GRIDS)


def _known(name: str, registry: Registry) -> str:
    # The rows by name alone: asking the registry for one would import it, and torch with it.
    if name not in list(registry):
        raise ValueError(f"unknown name; {nearest_hint(name, registry)}")
    return name
