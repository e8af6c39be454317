"""How a picture is drawn: the choices that are open after training.

In: numbers and names from a recipe, a model directory or a command line. Out: a validated :class:`Sampling`. It imports
no network code, so that a command line can list its options at once.
"""

from __future__ import annotations

import math
from typing import Literal, TypedDict

from pydantic import Field, ValidationInfo, field_validator

from raekit.config import Config, check_row
from raekit.samplers import SAMPLERS
from raekit.transport import GRIDS


class Sampling(Config):
    """Sampler, time grid, number of steps and guidance."""

    steps: int = Field(50, le=10_000, json_schema_extra={"minimum": 1})
    """Steps from noise to latent (papers: 50)."""
    guidance: Literal["cfg", "internal", "auto", "none"] = "cfg"
    """What a picture is pushed away from: cfg, the picture without a prompt; internal, the early head's guess (costs
    nothing, needs early_block); auto, a weaker model's picture (needs guide)."""
    guidance_scale: float = Field(3.0, json_schema_extra={"minimum": 1})
    """How far it is pushed: 1 is no guidance, larger follows the prompt more closely."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest time at which guidance acts (0 data, 1 noise)."""
    guide: str | None = None
    """Directory of the weaker generator of auto guidance; it must share the latent space."""
    sampler: str = "euler"
    """How the steps are taken; `raekit list samplers` names the choices."""
    time_grid: str = "linear"
    """Where the steps lie before the shift; `raekit list grids` names the choices."""
    tolerance: float = Field(1e-3, gt=0, lt=1)
    """Error that an adaptive sampler allows per step; it takes as many as that needs."""
    diffusion: Literal["sigma", "constant", "decreasing", "increasing_decreasing"] = "sigma"
    """Noise of a stochastic sampler over time."""
    diffusion_scale: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Factor on that noise; 0 is none."""

    @property
    def is_guided(self) -> bool:
        """Whether a worse velocity has to be computed at all."""
        return self.guidance != "none" and self.guidance_scale != 1

    @field_validator("steps")
    @classmethod
    def _makes_steps(cls, value: int) -> int:
        if value < 1:
            raise ValueError("needs 1 or more")
        return value

    @field_validator("guidance_scale")
    @classmethod
    def _guides(cls, value: float) -> float:
        if not 1 <= value < math.inf:
            raise ValueError("needs a finite number, 1 or more; 1 is no guidance")
        return value

    @field_validator("guide")
    @classmethod
    def _is_there(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("guidance") == "auto":
            raise ValueError("auto guidance compares with a weaker generator; name its directory")
        return value

    @field_validator("guidance_interval")
    @classmethod
    def _is_ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] <= 1:
            raise ValueError(f"needs 0 <= low <= high <= 1, got {value[0]:g} {value[1]:g}")
        return value

    @field_validator("sampler")
    @classmethod
    def _is_sampler(cls, value: str) -> str:
        return check_row(value, SAMPLERS)

    @field_validator("time_grid")
    @classmethod
    def _is_grid(cls, value: str) -> str:
        return check_row(value, GRIDS)


class SamplingOptions(TypedDict, total=False):
    """The fields of :class:`Sampling`, each in place of the model's own default."""

    steps: int
    guidance: Literal["cfg", "internal", "auto", "none"]
    guidance_scale: float
    guidance_interval: tuple[float, float]
    guide: str | None
    sampler: str
    time_grid: str
    tolerance: float
    diffusion: Literal["sigma", "constant", "decreasing", "increasing_decreasing"]
    diffusion_scale: float
