"""What every registered latent space promises; a new row in the registry is tested the day it is added."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny_autoencoders
import tiny_generator
from raekit import generator_files
from raekit.autoencoder import AUTOENCODERS, artefact
from raekit.autoencoder.base import Autoencoder, Trainable, load_autoencoder
from raekit.errors import UserError
from raekit.generate import ImageGenerator, build_generator, load_generator
from raekit.training.draws import Draws


@pytest.fixture(params=sorted(AUTOENCODERS))
def space(request: pytest.FixtureRequest, tmp_path: Path) -> Autoencoder:
    return tiny_autoencoders.build(request.param, tmp_path / "parts")


@pytest.fixture(params=sorted(name for name in AUTOENCODERS if issubclass(AUTOENCODERS[name], Trainable)))
def trainable(request: pytest.FixtureRequest, tmp_path: Path) -> Trainable:
    built = tiny_autoencoders.build(request.param, tmp_path / "parts")
    assert isinstance(built, Trainable)
    return built


def images(batch: int = 3, size: int = 16) -> Tensor:
    return torch.rand((batch, 3, size, size), generator=torch.Generator().manual_seed(1))


def test_latents_and_images_have_the_stated_shapes(space: Autoencoder) -> None:
    latent = space.encode(images())
    channels, height, width = space.shape
    assert latent.shape == (3, channels, height, width) and height == width
    assert space.dim == channels * height * width
    assert latent.dtype == torch.float32 and latent.isfinite().all()
    decoded = space.decode(latent)
    assert decoded.shape == (3, 3, space.output_size, space.output_size) and decoded.dtype == torch.float32
    assert torch.equal(space(images()), decoded)


def test_images_of_another_size_are_resized(space: Autoencoder) -> None:
    assert space.encode(torch.rand(1, 3, 40, 23)).shape == (1, *space.shape)


def test_encode_is_deterministic_and_sees_each_image_alone(space: Autoencoder) -> None:
    together = space.encode(images())
    assert torch.equal(together, space.encode(images()))
    torch.testing.assert_close(space.encode(images()[1:2]), together[1:2], atol=1e-5, rtol=1e-5)


def test_a_sample_to_train_on_belongs_to_its_image(space: Autoencoder) -> None:
    def sample(positions: list[int]) -> Tensor:
        return space.encode_sample(images()[positions], Draws(3, positions))

    torch.testing.assert_close(torch.cat([sample([0]), sample([1, 2])]), sample([0, 1, 2]), atol=1e-5, rtol=1e-5)
    assert torch.equal(sample([0, 1, 2]), space.encode(images())) != space.is_sampled


def test_device_is_where_its_weights_lie(space: Autoencoder) -> None:
    assert space.device == torch.device("cpu") and space.to("meta").device == torch.device("meta")


def test_round_trip(space: Autoencoder, tmp_path: Path) -> None:
    if isinstance(space, Trainable):
        space.fit_statistics([images()])
    assert space.checksum == ""
    space.save(tmp_path / "a")
    loaded = load_autoencoder(tmp_path / "a")
    assert type(loaded) is type(space) and not loaded.training
    assert loaded.config == space.config and loaded.shape == space.shape
    assert torch.equal(loaded.encode(images()), space.encode(images()))
    assert torch.equal(loaded(images()), space(images()))
    assert loaded.checksum == space.checksum != ""
    loaded.save(tmp_path / "b")
    assert loaded.checksum == space.checksum


def test_a_damaged_artefact_is_refused(space: Autoencoder, tmp_path: Path) -> None:
    space.save(tmp_path / "a")
    content = json.loads((tmp_path / "a/config.json").read_text())
    content["latent"]["eps"] = 0.5
    (tmp_path / "a/config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{tmp_path / 'a'}.*do not match the checksum"):
        load_autoencoder(tmp_path / "a")


def test_settings_of_another_release_are_refused(space: Autoencoder, tmp_path: Path) -> None:
    space.save(tmp_path / "a")
    identity, tensors = artefact.read(tmp_path / "a")
    del identity["checksum"]
    identity["config"]["colour"] = "blue"
    artefact.write(tmp_path / "a", identity, tensors)
    with pytest.raises(UserError, match=f"{tmp_path / 'a'}.*colour: unknown key"):
        load_autoencoder(tmp_path / "a")


def test_a_generator_lives_in_it_and_in_no_other(space: Autoencoder, tmp_path: Path) -> None:
    space.save(tmp_path / "space")
    recipe = {"backbone": tiny_generator.BACKBONE, "condition": {"name": "label", "num_classes": 2, "width": 24}}
    settings = ImageGenerator.Config.model_validate({**recipe, "sampling": {"steps": 2}})
    generator = build_generator(settings, space, precision="fp32")
    generator.save(tmp_path / "generator", tmp_path / "space")
    drawn = load_generator(tmp_path / "generator", "cpu", "fp32")([1], output="tensor")
    assert drawn.shape == (1, 3, space.output_size, space.output_size)
    other = tiny_autoencoders.build("kl_vae", tmp_path, depth=2)
    other.save(tmp_path / "space")
    with pytest.raises(UserError, match=f"belongs to the latent space .* but .* is {other.checksum[:12]}"):
        generator_files.read(tmp_path / "generator").load_latent_space()


def test_what_learns_is_what_it_says(trainable: Trainable) -> None:
    trainable.train()
    named = {f"{name}.{key}" for name, module in trainable.trained().items() for key, _ in module.named_parameters()}
    assert named == {name for name, parameter in trainable.named_parameters() if parameter.requires_grad}
    redrawn, terms = trainable.redraw(trainable.precompute(images()), Draws(0, [0, 1, 2]))
    torch.stack([redrawn.mean(), *terms.values()]).sum().backward()
    assert all(p.grad is not None for module in trainable.trained().values() for p in module.parameters())
    assert any(trainable.last_layer is p for module in trainable.trained().values() for p in module.parameters())


def test_redraws_without_noise_as_it_decodes(trainable: Trainable) -> None:
    trainable.fit_statistics([images()])
    redrawn, terms = trainable.redraw(trainable.precompute(images()))
    torch.testing.assert_close(redrawn, trainable(images()), atol=1e-4, rtol=1e-4)
    assert all(value.shape == () and value.isfinite() for value in terms.values())


def test_noise_of_the_training_belongs_to_its_image(trainable: Trainable) -> None:
    def redrawn(positions: list[int]) -> Tensor:
        return trainable.redraw(trainable.precompute(images()[positions]), Draws(0, positions))[0]

    together = redrawn([0, 1, 2])
    torch.testing.assert_close(torch.cat([redrawn([0, 1]), redrawn([2])]), together, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together, trainable(images()))


def test_latents_of_the_fitted_images_are_standard(trainable: Trainable) -> None:
    trainable.fit_statistics(torch.split(images(24), 7))
    latent = trainable.encode(images(24))
    torch.testing.assert_close(latent.mean((0, 2, 3)), torch.zeros(trainable.shape[0]), atol=1e-3, rtol=0)
    # eps keeps channels that say next to nothing from being blown up to full variance.
    var = latent.var((0, 2, 3), correction=0)
    assert var.max() < 1 + 1e-4 and var.median() > 0.9


def test_averaged_weights_can_be_stored_instead(trainable: Trainable, tmp_path: Path) -> None:
    modules = trainable.trained().items()
    zeros = {f"{name}.{key}": 0 * value for name, m in modules for key, value in m.state_dict().items()}
    trainable.save(tmp_path / "a", trained=zeros)
    loaded = load_autoencoder(tmp_path / "a")
    assert isinstance(loaded, Trainable) and not loaded.last_layer.any() and trainable.last_layer.any()


def test_half_size_for_shipping(trainable: Trainable, tmp_path: Path) -> None:
    trainable.save(tmp_path / "half", dtype=torch.bfloat16)
    loaded = load_autoencoder(tmp_path / "half")
    assert isinstance(loaded, Trainable) and loaded.last_layer.dtype == torch.float32
    assert torch.equal(loaded.last_layer, trainable.last_layer.bfloat16().float())
