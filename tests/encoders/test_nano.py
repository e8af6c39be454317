"""The bundled encoder: any SigLIP tower in a directory, and a sentence when it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_encoders
from raekit.encoders.nano import BUNDLED, NanoEncoder
from raekit.errors import UserError


def test_is_a_siglip_tower(tmp_path: Path) -> None:
    image = torch.rand(1, 3, 32, 32)
    nano = tiny_encoders.build("nano", tmp_path)
    assert torch.equal(nano(image), tiny_encoders.build("siglip2", tmp_path)(image))


def test_default_is_the_bundled_directory() -> None:
    assert NanoEncoder.Config().path == BUNDLED


def test_missing_directory_names_the_recipe() -> None:
    with pytest.raises(UserError, match=r"models/nano/absent.*raekit train recipes/nano/encoder\.yaml"):
        NanoEncoder(NanoEncoder.Config(path="models/nano/absent"))
