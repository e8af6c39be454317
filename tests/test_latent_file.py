"""Latents on disk: the same back, and one sentence for each that cannot be used."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from raekit import latent_file
from raekit.errors import UserError

LATENT = torch.randn(4, 2, 2, generator=torch.Generator().manual_seed(0))


def test_a_latent_comes_back_with_what_is_known_of_it(tmp_path) -> None:
    path = latent_file.save(tmp_path / "sun.safetensors", LATENT, "abc", {"prompt": "the sun", "seed": 7})
    found = latent_file.load(str(path))
    assert torch.equal(found.tensor, LATENT)
    assert (found.latent_space, found.made) == ("abc", {"prompt": "the sun", "seed": 7})
    found.check("abc", (4, 2, 2))


def test_another_latent_space_or_shape_is_refused(tmp_path) -> None:
    found = latent_file.load(latent_file.save(tmp_path / "a.safetensors", LATENT, "a" * 64))
    with pytest.raises(UserError, match="lies in the latent space aaaaaaaaaaaa, but the model's is bbbbbbbbbbbb;"):
        found.check("b" * 64, (4, 2, 2))
    with pytest.raises(UserError, match=r"\[4, 2, 2\], but the model's latents are \[4, 2, 3\]"):
        found.check("a" * 64, (4, 2, 3))
    with pytest.raises(UserError, match="but the model's is one that was never saved"):
        found.check("", (4, 2, 2))
    # One that was never saved is vouched for by whoever gives it.
    latent_file.Latent(LATENT).check("b" * 64, (4, 2, 2))
    with pytest.raises(UserError, match=r"latent: \[4, 2, 2\], but"):
        latent_file.Latent(LATENT).check("b" * 64, (1, 2, 2))


def test_files_that_hold_no_usable_latent(tmp_path) -> None:
    path = tmp_path / "bad.safetensors"
    with pytest.raises(UserError, match="no such file"):
        latent_file.load(path)
    path.write_bytes(b"no tensors here")
    with pytest.raises(UserError, match="no safetensors file, or a damaged one"):
        latent_file.load(path)
    whole = latent_file.save(tmp_path / "whole.safetensors", LATENT, "abc").read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(UserError, match="no safetensors file, or a damaged one"):
        latent_file.load(path)
    save_file({"latent": LATENT}, path)
    with pytest.raises(UserError, match="does not say which latent space it lies in"):
        latent_file.load(path)
    save_file({"weight": LATENT}, path, metadata={"format": "raekit-latent", "latent_space": "abc", "version": "1"})
    with pytest.raises(UserError, match="does not say which latent space"):
        latent_file.load(path)
    save_file({"latent": LATENT}, path, metadata={"format": "raekit-latent", "latent_space": "abc", "version": "9"})
    with pytest.raises(UserError, match="version 9, this raekit reads 1"):
        latent_file.load(path)
    latent_file.save(path, LATENT / 0, "abc")
    with pytest.raises(UserError, match="is no finite latent"):
        latent_file.load(path)
    latent_file.save(path, LATENT[None], "abc")
    with pytest.raises(UserError, match="is no finite latent"):
        latent_file.load(path)
