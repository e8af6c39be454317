"""Decoders on generated latents: the same latents for all, on the generator's scale, and none of another encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_autoencoders
import tiny_data
import tiny_encoders
import tiny_generator
from raekit.autoencoder.latent import LatentStatistics
from raekit.autoencoder.rae import RAE
from raekit.errors import UserError
from raekit.evaluate.figures import Instruments
from raekit.evaluate.generation import decode_in, draw, evaluate_generation, prompts_of
from raekit.evaluate.pictures import Page, Pictures, open_pictures
from raekit.generate import ImageGenerator
from raekit.metrics.features import build_features


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> ImageGenerator:
    return tiny_generator.text_to_image(tmp_path_factory.mktemp("generator"))


def retrained(space: RAE, seed: int, **decoder: Any) -> RAE:
    """Another decoder of the same encoder, with statistics of its own."""
    torch.manual_seed(seed)
    config = space.config.model_copy(update={"decoder": RAE.Config.model_fields["decoder"].default})
    config = RAE.Config.model_validate({**config.model_dump(), "decoder": tiny_generator.DECODER | decoder})
    statistics = LatentStatistics(torch.randn(32, 1, 1), torch.rand(32, 1, 1) + 0.5)
    return RAE(config, encoder=space.encoder, statistics=statistics).eval()


def test_a_decoder_gets_the_tokens_that_the_latents_stand_for(generator: ImageGenerator) -> None:
    """With the generator's own decoder weights and other statistics, the pictures are the generator's own."""
    space = generator.latent_space
    other = retrained(space, 5)
    other.decoder.load_state_dict(space.decoder.state_dict())
    latent = torch.randn(2, *space.shape)
    torch.testing.assert_close(decode_in(space, other, "other")(latent), space.decode(latent))
    assert not torch.allclose(other.decode(latent), space.decode(latent), atol=1e-3)
    assert decode_in(space, space, "own") == space.decode


def test_decoders_of_another_encoder_are_refused(generator: ImageGenerator, tmp_path: Path) -> None:
    space = generator.latent_space
    encoder = tiny_encoders.build("nano", tmp_path / "other", seed=9)
    stranger = RAE(RAE.Config.model_validate({"encoder": encoder.config, "decoder": tiny_generator.DECODER}))
    resized = tiny_encoders.build("nano", tmp_path / "large", input_size=64)
    larger = RAE(RAE.Config.model_validate({"encoder": resized.config, "decoder": tiny_generator.DECODER}))
    for other, words in ((stranger, "32 x 4 x 4"), (larger, "32 x 8 x 8")):
        with pytest.raises(UserError, match="decoder 'B' belongs to encoder nano .*, the generator's latents to") as e:
            decode_in(space, other, "B")
        assert words in str(e.value)


def test_a_vae_shares_its_latents_with_none(generator: ImageGenerator, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a latent space with an encoder of its own"):
        decode_in(generator.latent_space, tiny_autoencoders.build("kl_vae", tmp_path), "B")


def test_each_prompt_has_its_seed(generator: ImageGenerator) -> None:
    both = draw(generator, ["red", "blue"], 7, {"steps": 2})
    torch.testing.assert_close(both[:1], generator.sample("red", 1, 7, steps=2))
    torch.testing.assert_close(both[1:], generator.sample("blue", 1, 8, steps=2))


def test_decoders_side_by_side(generator: ImageGenerator, tmp_path: Path) -> None:
    space = generator.latent_space
    directory = tiny_encoders.save("nano", tmp_path / "features")
    instruments = Instruments(build_features([f"nano={directory}"]), pixels="exact")
    decoders = {"own": space, "same": retrained(space, 3), "large": retrained(space, 3, patch_size=8)}
    decoders["same"].decoder.load_state_dict(space.decoder.state_dict())
    folder = str(tiny_data.pictures(tmp_path / "shapes"))

    def columns(batch_size: int) -> Any:
        pictures = Pictures(open_pictures([folder], 32), 5, batch_size)
        return evaluate_generation(generator, decoders, pictures, instruments, seed=3, sampling={"steps": 2})

    report = columns(5)
    own, same, large = (column.overall for column in report.columns)
    assert own.distances["fd_nano"].value == pytest.approx(same.distances["fd_nano"].value, rel=1e-4)
    assert own.sharpness == pytest.approx(same.sharpness, rel=1e-4)
    assert large.distances["fd_nano"].value != pytest.approx(own.distances["fd_nano"].value, rel=1e-2)
    assert [column.facts["pixels"] for column in report.columns] == [16, 16, 32]
    assert own.num_images == 5 and own.means == {} and report.columns[0].cost.encode_gflops is None
    assert (report.settings["sampling"]["steps"], report.settings["seed"]) == (2, 3)
    (sheet,) = report.sheets.values()
    assert sheet.width > 5 * 32
    for again, column in zip(columns(2).columns, report.columns, strict=True):
        assert again.overall.sharpness == pytest.approx(column.overall.sharpness, rel=1e-5)


def test_pictures_without_prompts_are_refused(generator: ImageGenerator, tmp_path: Path) -> None:
    page = Page(torch.zeros(2, 3, 4, 4), ["a", ""], [-1, 2], ["x", "x"], ["", ""])
    with pytest.raises(UserError, match="some pictures have no captions, and this generator takes text prompts"):
        prompts_of(generator, page)
    labelled = tiny_generator.class_to_image(tmp_path)
    with pytest.raises(UserError, match="no class labels, and this generator takes class labels"):
        prompts_of(labelled, page)
    assert prompts_of(labelled, Page(page.image, ["", ""], [0, 2], ["x", "x"], ["", ""])) == [0, 2]
