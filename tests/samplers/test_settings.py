"""The settings of sampling: ranges, names, and that listing them needs no torch."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from pydantic import ValidationError

from raekit.config import validate
from raekit.errors import UserError
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
        {"guidance_scale": 0.99},
        {"guidance": "cgf"},
        {"tolerance": 0},
        {"diffusion": "sbdm"},
        {"diffusion_scale": -1},
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


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"steps": 0}, r"sampling: steps: needs 1 or more \(got 0\)"),
        ({"guidance_scale": 0.5}, r"guidance_scale: needs a finite number, 1 or more; .* \(got 0.5\)"),
        ({"guidance_scale": math.nan}, r"needs a finite number, 1 or more; 1 is no guidance \(got nan\)"),
        ({"guidance": "auto"}, "guide: auto guidance compares with a weaker generator; name its directory"),
    ],
)
def test_mistakes_are_one_sentence_with_its_fix(wrong: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        validate(Sampling, wrong, "sampling")


def test_scale_1_and_none_are_unguided() -> None:
    assert Sampling().is_guided
    assert not Sampling(guidance_scale=1).is_guided and not Sampling(guidance="none").is_guided
