"""The VAEs of others: equal to diffusers' own arithmetic, named by digest, refused when another one turns up."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

import tiny_autoencoders
from raekit.autoencoder.vae import PUBLISHED, VAE, published_statistics
from raekit.errors import UserError

diffusers = pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_autoencoders.saved_vae(tmp_path_factory.mktemp("vae"))


def config(model: Path, **options: Any) -> VAE.Config:
    return VAE.Config.model_validate({"model": str(model), "input_size": 16, **options})


def images(batch: int = 2) -> Tensor:
    return torch.rand((batch, 3, 16, 16), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_latent_is_the_published_one(saved: Path) -> None:
    """The mean of the posterior, shifted and scaled, then im2col."""
    vae = VAE(config(saved))
    reference = diffusers.AutoencoderKL.from_pretrained(saved)
    z = (reference.encode(images() * 2 - 1).latent_dist.mean - 0.1159) * 0.3611
    latent = vae.encode(images())
    assert latent.shape == (2, *vae.shape) and vae.shape == (16, 4, 4)
    torch.testing.assert_close(latent.flatten(2), F.unfold(z, kernel_size=2, stride=2))
    pixels = reference.decode(z / 0.3611 + 0.1159).sample / 2 + 0.5
    torch.testing.assert_close(vae.decode(latent), pixels, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("channels", "shape"), [(16, (64, 16, 16)), (4, (16, 16, 16))])
def test_flux_and_sdxl_have_256_tokens_at_256_px(channels: int, shape: tuple[int, int, int]) -> None:
    """Four levels as in both, thin."""
    blocks = {key: (kind,) * 4 for key, kind in (("down_block_types", "DownEncoderBlock2D"),)}
    blocks["up_block_types"] = ("UpDecoderBlock2D",) * 4
    sizes = {"block_out_channels": (4,) * 4, "latent_channels": channels}
    network = diffusers.AutoencoderKL(**{**tiny_autoencoders.VAE, **blocks, **sizes})
    vae = VAE(VAE.Config(), network=network)
    assert vae.shape == shape and vae.output_size == 256
    assert vae.encode(torch.rand(1, 3, 256, 256)).shape == (1, *shape)


def test_published_names_lead_to_their_repositories() -> None:
    assert VAE.Config(model="flux").place == PUBLISHED["flux"] == ("black-forest-labs/FLUX.1-dev", "vae")
    assert VAE.Config(model="sdxl").place.subfolder == "vae"
    assert VAE.Config(model="someone/vae", subfolder="inner").place == ("someone/vae", "inner")


@pytest.mark.parametrize("options", [{}, {"latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 3.0, 4.0]}])
def test_statistics_are_the_published_shift_and_scale(options: dict[str, Any]) -> None:
    network = diffusers.AutoencoderKL(**{**tiny_autoencoders.VAE, "shift_factor": None, **options})
    statistics = published_statistics(VAE.Config(patch_size=1), network.config)
    z = torch.randn(1, 4, 2, 2)
    mean, std = (
        torch.tensor(options.get(f"latents_{n}", [v] * 4)).view(4, 1, 1) for n, v in (("mean", 0.0), ("std", 1.0))
    )
    torch.testing.assert_close(statistics.normalise(z), (z - mean) * 0.3611 / std)


def test_is_frozen(saved: Path) -> None:
    vae = VAE(config(saved)).train()
    assert not any(module.training for module in vae.network.modules())
    assert not any(parameter.requires_grad for parameter in vae.parameters())
    assert not vae.encode(images().requires_grad_()).requires_grad
    latent = vae.encode(images()).requires_grad_()
    vae.decode(latent).sum().backward()
    assert latent.grad is not None and latent.grad.abs().sum() > 0


def test_bf16_network_keeps_fp32_latents_and_its_name(saved: Path) -> None:
    exact, rough = VAE(config(saved)), VAE(config(saved, precision="bf16"))
    assert rough.network.dtype == torch.bfloat16 and rough.fingerprint() == exact.fingerprint()
    latent = rough.encode(images())
    assert latent.dtype == torch.float32 and rough.decode(latent).dtype == torch.float32
    assert 0 < (latent - exact.encode(images())).abs().mean() < 0.02


def test_artefact_names_the_weights_and_holds_none(saved: Path, tmp_path: Path) -> None:
    vae = VAE(config(saved))
    vae.save(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["network"] == vae.fingerprint()
    assert content["network"]["source"] == str(saved) and len(content["network"]["sha256"]) == 64
    assert sorted(load_file(tmp_path / "model.safetensors")) == ["statistics.mean", "statistics.var"]


def test_fitted_statistics_replace_the_published_ones(saved: Path, tmp_path: Path) -> None:
    vae = VAE(config(saved, statistics="per_position"))
    vae.fit_statistics(torch.split(torch.rand(12, 3, 16, 16), 5))
    vae.save(tmp_path)
    loaded = VAE.load(tmp_path)
    assert loaded.statistics.form == "per_position" and loaded.statistics.eps == 1e-5
    assert torch.equal(loaded.encode(images()), vae.encode(images()))


def test_another_vae_is_refused_by_both_names(saved: Path, tmp_path: Path) -> None:
    VAE(config(saved)).save(tmp_path / "a")
    other = diffusers.AutoencoderKL.from_pretrained(tiny_autoencoders.saved_vae(tmp_path / "other", seed=1))
    first = VAE(config(saved)).sha256[:12]
    with pytest.raises(UserError, match=rf"made with the VAE {saved} \(sha256 {first}\), found .*; give the VAE"):
        VAE.load(tmp_path / "a", network=other)


def test_the_vae_may_move(saved: Path, tmp_path: Path) -> None:
    vae = VAE(config(saved))
    vae.save(tmp_path)
    loaded = VAE.load(tmp_path, network=diffusers.AutoencoderKL.from_pretrained(saved))
    assert torch.equal(loaded.encode(images()), vae.encode(images())) and loaded.checksum == vae.checksum


def test_a_subfolder_is_looked_into(tmp_path: Path) -> None:
    tiny_autoencoders.saved_vae(tmp_path / "vae")
    vae = VAE(config(tmp_path, subfolder="vae"))
    vae.save(tmp_path / "a")
    assert VAE.load(tmp_path / "a").sha256 == vae.sha256


def test_places_without_a_vae_are_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"autoencoder.model: no directory 'fluks'; write flux, sdxl"):
        VAE(VAE.Config(model="fluks"))
    with pytest.raises(UserError, match=f"autoencoder.model: '{tmp_path}' holds no usable VAE"):
        VAE(config(tmp_path))
    with pytest.raises(UserError, match=f"autoencoder.model: '{saved}', folder 'vae', holds no usable VAE"):
        VAE(config(saved, subfolder="vae"))


def test_another_kind_of_model_is_refused(saved: Path, tmp_path: Path) -> None:
    content = json.loads((saved / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "_class_name": "AutoencoderRAE"}))
    with pytest.raises(UserError, match="holds AutoencoderRAE, not AutoencoderKL"):
        VAE(config(tmp_path))


@pytest.mark.parametrize("damage", ["missing", "unknown", "shape", "truncated"])
def test_incomplete_weights_are_refused(damage: str, tmp_path: Path) -> None:
    path = tiny_autoencoders.saved_vae(tmp_path) / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    key = "decoder.conv_out.bias"
    if damage == "missing":
        del tensors[key]
    elif damage == "unknown":
        tensors["head.bias"] = tensors[key].clone()
    elif damage == "shape":
        tensors[key] = torch.zeros(7)
    save_file(tensors, path, metadata={"format": "pt"})
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=f"autoencoder.model: .*{tmp_path}"):
        VAE(config(tmp_path))


def test_without_diffusers_the_install_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "diffusers":
            raise ImportError
        return found(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"autoencoder.name: vae needs diffusers; .*pip install 'raekit\[vae\]'"):
        VAE(VAE.Config())
