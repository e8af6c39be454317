"""Drawing: a seed per image, settings, guidance; and the way from a directory to a picture and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import raekit
import tiny_generator
from raekit import generator_files
from raekit.errors import UserError
from raekit.generate import ClassToImage, ImageGenerator, TextToImage, image_seeds, load_generator, noise
from raekit.samplers.ode import euler
from raekit.transport.timesteps import linear_grid

PROMPTS = ["a red apple", "sun"]
SHAPE = (32, 4, 4)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    return tiny_generator.text_to_image(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> ClassToImage:
    return tiny_generator.class_to_image(tmp_path_factory.mktemp("class"))


def latents(generator: ImageGenerator, prompts: object = PROMPTS, **options: object) -> torch.Tensor:
    return generator(prompts, output="latent", **options)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_all_images_of_the_first_prompt_come_first(generator: TextToImage) -> None:
    both = latents(generator, num=3)
    assert both.shape == (6, *SHAPE) and both.dtype == torch.float32
    assert close(both[:3], latents(generator, PROMPTS[0], num=3))
    assert close(both[3:], latents(generator, [PROMPTS[1]], num=3))
    assert not close(both[:3], both[3:])


def test_image_i_has_seed_plus_i(generator: TextToImage) -> None:
    four = latents(generator, "sun", num=4, seed=7)
    for index in range(4):
        assert close(four[index], latents(generator, "sun", seed=7 + index)[0])
    assert not close(four[0], four[1])
    assert image_seeds(4, 7) == [7, 8, 9, 10]


def test_the_batch_size_changes_nothing(generator: TextToImage) -> None:
    assert close(latents(generator, num=3, batch_size=2), latents(generator, num=3, batch_size=64))


def test_noise_is_a_function_of_the_seed_alone() -> None:
    """Pinned, so that a seed means the same picture in every release."""
    torch.manual_seed(123)
    first = noise(0, (2, 2))
    expected = torch.tensor([[1.5409960746765137, -0.293428897857666], [-2.1787893772125244, 0.5684312582015991]])
    assert torch.equal(first, expected)
    assert torch.equal(noise(0, (2, 2)), first) and not torch.equal(noise(1, (2, 2)), first)


def test_the_latent_is_the_integral_of_the_guided_velocity(generator: TextToImage) -> None:
    """Against the formula by hand: v = v_null + 2.5 (v_cond - v_null), Euler on the shifted grid."""
    cond, null = generator.conditioner(["sun"]), generator.conditioner.null(1)

    def velocity(z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        with_cond, without = generator.backbone(z_t, t, cond), generator.backbone(z_t, t, null)
        return without + 2.5 * (with_cond - without)

    with torch.no_grad():
        times = linear_grid(5, (32 * 4 * 4 / 4096) ** 0.5)
        expected = euler(velocity, noise(3, SHAPE)[None], times)
    drawn = latents(generator, "sun", seed=3, steps=5, guidance_scale=2.5)
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4)
    assert not close(drawn, latents(generator, "sun", seed=3, steps=5, guidance_scale=1.0))


def test_guidance_outside_its_interval_does_nothing(generator: TextToImage) -> None:
    plain = latents(generator, "sun", guidance_scale=1.0)
    assert close(plain, latents(generator, "sun", guidance_scale=9.0, guidance_interval=(0.0, 0.0)))


def test_settings_of_the_model_are_the_defaults(generator: TextToImage) -> None:
    assert generator.sampling().steps == 3
    assert close(latents(generator, "sun"), latents(generator, "sun", steps=3))
    assert not close(latents(generator, "sun"), latents(generator, "sun", steps=4))
    assert not close(latents(generator, "sun"), latents(generator, "sun", sampler="heun"))


def test_outputs_are_one_picture_in_three_forms(generator: TextToImage) -> None:
    images = generator("sun", num=2, output="tensor")
    assert images.shape == (2, 3, 16, 16) and images.min() >= 0 and images.max() <= 1
    pictures = generator("sun", num=2)
    assert all(isinstance(picture, Image.Image) and picture.size == (16, 16) for picture in pictures)
    red, green, blue = (images[1, :, 3, 5] * 255).round().tolist()
    assert pictures[1].getpixel((5, 3)) == (red, green, blue)
    assert torch.equal(generator.decode(latents(generator, "sun", num=2)), images)


def test_the_callback_sees_every_step_of_every_batch(generator: TextToImage) -> None:
    seen = []
    generator(PROMPTS, num=2, batch_size=3, callback=seen.append, output="latent")
    assert [(s["first"], s["step"], len(s["z_t"])) for s in seen] == [(0, i, 3) for i in range(3)] + [
        (3, i, 1) for i in range(3)
    ]
    assert {(s["num_images"], s["num_steps"]) for s in seen} == {(4, 3)}
    assert seen[0]["t"] == pytest.approx(1) and torch.equal(seen[0]["z_t"][1], noise(1, SHAPE))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"steps": 0}, "sampling: steps: .*greater than or equal to 1"),
        ({"guidance_scale": -1.0}, "sampling: guidance_scale"),
        ({"guidance_interval": (0.8, 0.2)}, "guidance_interval: needs 0 <= low <= high <= 1, got 0.8 0.2"),
        ({"sampler": "eulr"}, "sampling: sampler: unknown name; did you mean 'euler'"),
        ({"time_grid": "cubic"}, "sampling: time_grid: unknown name"),
        ({"num": 0}, "num: 0 images"),
        ({"seed": -1}, "seed: -1 is out of range"),
        ({"seed": 2**63}, "seed: .* out of range"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"output": "jpeg"}, "output: 'jpeg'"),
        ({"prompts": []}, "prompts: none given"),
        ({"prompts": ["sun", ""]}, "prompt: it is empty"),
        ({"prompts": [7]}, "prompt: 7 is not text"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(generator: TextToImage, options: dict, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        generator(**{"prompts": PROMPTS, **options})


def test_labels_as_numbers_text_or_tensor(labelled: ClassToImage) -> None:
    drawn = latents(labelled, [1, 4])
    assert drawn.shape == (2, *SHAPE)
    assert close(drawn, latents(labelled, ["1", "4"])) and close(drawn, latents(labelled, torch.tensor([1, 4])))
    assert not close(drawn[0], drawn[1])
    assert close(drawn[1], latents(labelled, 4)[0])
    with pytest.raises(UserError, match="label: 5 is not a class"):
        labelled(5)
    with pytest.raises(UserError, match="label: 'apple' is not a number"):
        labelled("apple")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_generator_draws_the_same(tmp_path: Path, dtype: torch.dtype) -> None:
    first = tiny_generator.text_to_image(tmp_path)
    first.save(tmp_path / "generator", tmp_path / "autoencoder", dtype)
    again = TextToImage.load(tmp_path / "generator", device="cpu", precision="fp32")
    before, after = latents(first), latents(again)
    assert (after - before).abs().mean() <= (0 if dtype == torch.float32 else 0.05) * before.std()
    assert again.checksum == first.checksum and len(again.checksum) == 64
    assert torch.equal(again.conditioner.fingerprint, first.conditioner.fingerprint)


def test_tables_and_frozen_queries_are_stored_exactly(tmp_path: Path) -> None:
    first = tiny_generator.text_to_image(tmp_path)
    first.conditioner.queries.requires_grad_(False)
    first.save(tmp_path / "generator", tmp_path / "autoencoder", torch.bfloat16)
    again = load_generator(tmp_path / "generator", "cpu")
    assert torch.equal(again.conditioner.queries, first.conditioner.queries)
    assert torch.equal(again.backbone.position, first.backbone.position)
    assert not torch.equal(again.conditioner.connector.weight, first.conditioner.connector.weight)


def test_the_pair_of_directories_can_be_moved(tmp_path: Path) -> None:
    first = tiny_generator.text_to_image(tmp_path / "here")
    first.save(tmp_path / "here" / "generator", tmp_path / "here" / "autoencoder")
    (tmp_path / "there").mkdir()
    for name in ("generator", "autoencoder"):
        (tmp_path / "here" / name).rename(tmp_path / "there" / name)
    assert close(latents(raekit.load(tmp_path / "there" / "generator", device="cpu")), latents(first))


def test_the_front_door_loads_the_kind_that_was_saved(tmp_path: Path) -> None:
    labelled = tiny_generator.class_to_image(tmp_path)
    labelled.save(tmp_path / "generator", tmp_path / "autoencoder")
    loaded = raekit.load(str(tmp_path / "generator"))
    assert isinstance(loaded, raekit.ClassToImage) and not isinstance(loaded, raekit.TextToImage)
    assert isinstance(loaded.latent_space, raekit.RAE)
    with pytest.raises(UserError, match="takes class labels, not text prompts; load it with ClassToImage.load"):
        TextToImage.load(tmp_path / "generator")


def test_weights_that_do_not_fit_the_settings_are_refused(tmp_path: Path) -> None:
    saved = tiny_generator.saved(tmp_path)
    files = generator_files.read(saved)
    deeper = {**files.settings, "backbone": {**files.settings["backbone"], "depth": 2}}
    generator_files.write(saved, deeper, files.tensors, files.latent_path, files.latent_checksum)
    with pytest.raises(UserError, match=r"backbone: does not fit this DiT: \d+ missing keys \(blocks.1"):
        load_generator(saved)
