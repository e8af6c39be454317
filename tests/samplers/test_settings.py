"""The settings of sampling: ranges, names, and that listing them needs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from raekit.samplers import SAMPLERS
from raekit.samplers.settings import Sampling
from raekit.transport import GRIDS


def test_every_registered_name_is_accepted() -> None:
    for sampler in SAMPLERS:
        for grid in GRIDS:
            assert Sampling(sampler=sampler, time_grid=grid).sampler == sampler


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 1.5},
        {"guidance_scale": -0.1},
        {"guidance_scale": float("nan")},
        {"guidance_interval": (-0.1, 1)},
        {"guidance_interval": (0.5, 0.4)},
        {"guidance_interval": (0, 1.1)},
        {"sampler": "Euler"},
        {"time_grid": "none"},
        {"step": 3},
    ],
)
def test_what_is_out_of_range_is_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        Sampling(**wrong)


def test_reading_the_settings_does_not_import_torch() -> None:
    script = f"import sys; sys.path[:0] = {sys.path}; from raekit.samplers.settings import Sampling; Sampling()"
    script += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
