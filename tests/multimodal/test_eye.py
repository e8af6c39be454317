"""What a model sees with: the encoder it draws towards, or a tower beside a VAE."""

from __future__ import annotations

import pytest
import torch

import tiny_autoencoders
import tiny_encoders
import tiny_generator
from raekit.autoencoder.latent import LatentStatistics
from raekit.errors import UserError
from raekit.multimodal.conditioner import UnifiedConditioner
from raekit.multimodal.eye import OwnEye, Tower, eye_of, seeing

Config = UnifiedConditioner.Config


def test_an_rae_sees_latents_as_it_sees_their_images(tmp_path) -> None:
    rae = tiny_generator.latent_space(tmp_path / "autoencoder")
    # Statistics that change something: what is seen is the encoder's tokens all the same.
    rae.statistics = LatentStatistics(torch.randn(32, 4, 4), 0.5 + torch.rand(32, 4, 4))
    config = seeing(Config(), rae)
    assert config.vision_shape == (16, 32)
    eye = eye_of(config, rae)
    assert isinstance(eye, OwnEye)
    assert eye.input_size == rae.encoder.input_size == 32
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(eye.look(image), rae.encoder(image))
    torch.testing.assert_close(eye.look_at_latent(rae.encode(image)), eye.look(image), rtol=0, atol=1e-5)
    with pytest.raises(UserError, match=r"latent: \[32, 5, 4\] is none of this model's, which are \[32, 4, 4\]"):
        eye.look_at_latent(torch.zeros(1, 32, 5, 4))


def test_a_vae_has_a_tower(tmp_path) -> None:
    vae = tiny_autoencoders.build("kl_vae", tmp_path)
    tower = {"name": "nano", "path": str(tiny_encoders.save("nano", tmp_path / "tower"))}
    config = seeing(Config.model_validate({"tower": tower}), vae)
    assert config.vision_shape == (16, 32)
    eye = eye_of(config, vae)
    assert isinstance(eye, Tower) and eye.input_size == 32
    image = torch.rand(2, 3, 20, 20)
    assert eye.look(image).shape == (2, 16, 32)
    torch.testing.assert_close(eye.look(image), tiny_encoders.build("nano", tmp_path / "tower")(image))
    with pytest.raises(UserError, match="latent space of a VAE, which its language model does not see; decode"):
        eye.look_at_latent(torch.zeros(1, *vae.shape))


def test_parts_that_do_not_belong_together(tmp_path) -> None:
    rae, vae = tiny_generator.latent_space(tmp_path / "autoencoder"), tiny_autoencoders.build("kl_vae", tmp_path)
    tower = {"name": "nano", "path": str(tiny_encoders.save("nano", tmp_path / "tower"))}
    with pytest.raises(UserError, match="condition.tower: missing; kl_vae has no encoder"):
        seeing(Config(), vae)
    with pytest.raises(UserError, match="condition.tower: an RAE sees through its own encoder"):
        seeing(Config.model_validate({"tower": tower}), rae)
    with pytest.raises(UserError, match=r"condition.vision_shape: \[9, 32\], but here a picture is \[16, 32\]"):
        eye_of(Config(vision_shape=(9, 32)), rae)
    assert eye_of(Config(), vae) is None
