"""Drawing: a seed per image, settings, guidance; and the way from a directory to a picture and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import raekit
import tiny_generator
from raekit import generator_files
from raekit.data.picture import read_square
from raekit.errors import UserError
from raekit.generate import ClassToImage, ImageGenerator, TextToImage, load_generator
from raekit.samplers.ode import euler
from raekit.seeds import generators_of, noise
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


def test_seeds_may_be_listed(generator: TextToImage) -> None:
    chosen = latents(generator, PROMPTS, seed=[9, 2])
    assert chosen.shape == (4, *SHAPE)
    for row, (prompt, seed) in enumerate([(0, 9), (0, 2), (1, 9), (1, 2)]):
        assert close(chosen[row], latents(generator, PROMPTS[prompt], seed=seed)[0])


def test_the_batch_size_changes_nothing(generator: TextToImage) -> None:
    assert close(latents(generator, num=3, batch_size=2), latents(generator, num=3, batch_size=64))


def test_the_latent_is_the_integral_of_the_guided_velocity(generator: TextToImage) -> None:
    """Against the formula by hand: v = v_null + 2.5 (v_cond - v_null), Euler on the shifted grid."""
    cond, null = generator.conditioner(["sun"]), generator.conditioner.null(1)

    def velocity(z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        with_cond, without = generator.backbone(z_t, t, cond), generator.backbone(z_t, t, null)
        return without + 2.5 * (with_cond - without)

    with torch.no_grad():
        times = linear_grid(5, (32 * 4 * 4 / 4096) ** 0.5)
        expected = euler(velocity, noise(generators_of([3]), SHAPE), times)
    drawn = latents(generator, "sun", seed=3, steps=5, guidance_scale=2.5)
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4)
    assert not close(drawn, latents(generator, "sun", seed=3, steps=5, guidance_scale=1.0))


def test_guidance_outside_its_interval_does_nothing(generator: TextToImage) -> None:
    plain = latents(generator, "sun", guidance_scale=1.0)
    assert close(plain, latents(generator, "sun", guidance_scale=9.0, guidance_interval=(0.0, 0.0)))


def test_auto_guidance_pushes_away_from_a_second_generator(tmp_path: Path) -> None:
    good = tiny_generator.text_to_image(tmp_path)
    weaker = tiny_generator.text_to_image(tmp_path, backbone={**tiny_generator.BACKBONE, "width": 48})
    weaker.save(tmp_path / "weaker", tmp_path / "autoencoder")
    cond, weak_cond = (model.conditioner(["sun"]) for model in (good, weaker))

    def velocity(z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        worse = weaker.backbone(z_t, t, weak_cond)
        return worse + 1.5 * (good.backbone(z_t, t, cond) - worse)

    with torch.no_grad():
        times = linear_grid(5, good.transport.time_shift)
        expected = euler(velocity, noise(generators_of([3]), SHAPE), times)
    options = {"guidance": "auto", "guidance_scale": 1.5, "guide": str(tmp_path / "weaker")}
    drawn = latents(good, "sun", seed=3, steps=5, **options)
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4)
    both = latents(good, ["a red apple", "sun"], num=2, seed=3, batch_size=3, steps=5, **options)
    torch.testing.assert_close(both[2:3], drawn, rtol=1e-4, atol=1e-4)


def test_a_guide_from_another_latent_space_is_refused(generator: TextToImage, tmp_path: Path) -> None:
    path = tiny_generator.saved(tmp_path)
    with pytest.raises(UserError, match="give the latent space it was trained in"):
        generator("sun", guidance="auto", guide=str(path))


@pytest.mark.parametrize("sampler", ["sde", "dopri5", "heun"])
def test_the_batch_size_changes_nothing_whatever_the_sampler(generator: TextToImage, sampler: str) -> None:
    together = latents(generator, "sun", num=3, seed=5, sampler=sampler, steps=4)
    assert close(together, latents(generator, "sun", num=3, seed=5, sampler=sampler, steps=4, batch_size=2))
    assert close(together[2:], latents(generator, "sun", seed=7, sampler=sampler, steps=4))
    assert not close(together, latents(generator, "sun", num=3, seed=5, sampler="euler", steps=4))


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
    assert seen[0]["t"] == pytest.approx(1) and torch.equal(seen[0]["z_t"][1], noise(generators_of([1]), SHAPE)[0])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"steps": 0}, "sampling: steps: "),
        ({"guidance_scale": -1.0}, "sampling: guidance_scale"),
        ({"guidance_interval": (0.8, 0.2)}, "guidance_interval: needs 0 <= low <= high <= 1, got 0.8 0.2"),
        ({"sampler": "eulr"}, "sampling: sampler: unknown name; did you mean 'euler'"),
        ({"time_grid": "cubic"}, "sampling: time_grid: unknown name"),
        ({"num": 0}, "num: 0 images"),
        ({"seed": -1}, "seed: -1 is out of range"),
        ({"seed": 2**63}, "seed: .* out of range"),
        ({"seed": [3, -4]}, "seed: -4 is out of range"),
        ({"seed": [3, 4, 5], "num": 2}, "num: 2 images per prompt for 3 seeds"),
        ({"guidance_scale": 0.5}, "guidance_scale: .*1 is no guidance"),
        ({"negative": "moon", "guidance_scale": 1.0}, "negative: only classifier-free guidance moves away from it"),
        ({"negative": ["moon", "fog", "snow"]}, "negative: 3 for 2 prompts"),
        ({"negative": ""}, "prompt: it is empty"),
        ({"strength": 0.5}, "strength: 0.5 says how far to leave an image, and none was given"),
        ({"image": torch.zeros(3, 8, 8), "strength": 0.0}, r"strength: 0.0 is not in \(0, 1\]"),
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
    with pytest.raises(UserError, match="label: 'apple' is not a class of this model; give one in 0..4$"):
        labelled("apple")


def test_classes_may_have_names(tmp_path: Path) -> None:
    names = ("apple", "pear", "sea horse", "sun", "moon")
    condition = {"name": "label", "num_classes": 5, "width": tiny_generator.WIDTH, "names": names}
    first = tiny_generator.class_to_image(tmp_path, condition=condition)
    first.save(tmp_path / "generator", tmp_path / "autoencoder")
    named = ClassToImage.load(tmp_path / "generator", device="cpu")
    assert close(latents(named, ["Sea_Horse", "moon"]), latents(named, [2, 4]))
    with pytest.raises(UserError, match="label: 'mon' is not a class .* in 0..4, or a name such as 'moon'"):
        named("mon")


def test_a_negative_prompt_takes_the_place_of_the_null(generator: TextToImage, labelled: ClassToImage) -> None:
    """Against the formula by hand: v = v_negative + 2 (v_cond - v_negative)."""
    cond, negative = generator.conditioner(["sun"]), generator.conditioner(["fog"])

    def velocity(z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        with_cond, without = generator.backbone(z_t, t, cond), generator.backbone(z_t, t, negative)
        return without + 2 * (with_cond - without)

    with torch.no_grad():
        times = linear_grid(3, (32 * 4 * 4 / 4096) ** 0.5)
        expected = euler(velocity, noise(generators_of([0]), SHAPE), times)
    drawn = latents(generator, "sun", guidance_scale=2.0, negative="fog")
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4)
    assert not close(drawn, latents(generator, "sun", guidance_scale=2.0))
    both = latents(generator, PROMPTS, guidance_scale=2.0, negative=["fog", "snow"])
    assert close(both[1], latents(generator, PROMPTS[1], guidance_scale=2.0, negative="snow")[0])
    # Moving away from what one moves towards is moving nowhere.
    same = latents(labelled, 1, guidance_scale=5.0, negative=1)
    assert close(same, latents(labelled, 1, guidance_scale=1.0))


def test_a_variation_lies_between_the_picture_and_the_prompt(generator: TextToImage) -> None:
    image = torch.rand(3, 16, 16)
    space = generator.latent_space
    encoded = space.encode(read_square(image, 16)[None] / 255)
    plain = latents(generator, "sun")
    assert close(latents(generator, "sun", image=image, strength=1.0), plain), "strength 1 forgets the picture"
    distances = [
        (latents(generator, "sun", image=image, strength=strength) - encoded).abs().mean().item()
        for strength in (0.01, 0.4, 1.0)
    ]
    assert distances[0] < distances[1] < distances[2] and distances[0] < 0.1
    several = latents(generator, PROMPTS, num=2, image=[image, 1 - image], strength=0.3, batch_size=3)
    alone = latents(generator, PROMPTS[1], seed=1, image=1 - image, strength=0.3)
    assert close(several[3], alone[0])
    assert not close(several[0], several[1]), "each seed is another variation"


def test_a_variation_takes_all_its_steps(generator: TextToImage) -> None:
    seen = []
    latents(generator, "sun", image=torch.rand(3, 16, 16), strength=0.5, steps=4, callback=seen.append)
    shift = (32 * 4 * 4 / 4096) ** 0.5
    expected = [shift * u / (1 + (shift - 1) * u) for u in (0.5, 0.375, 0.25, 0.125)]
    assert [report["t"] for report in seen] == pytest.approx(expected)


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
    assert raekit.load(tmp_path, device="cpu", precision="fp32").checksum == loaded.checksum, (
        "a whole model's directory"
    )
    with pytest.raises(UserError, match="takes class labels, not text prompts; load it with ClassToImage.load"):
        TextToImage.load(tmp_path / "generator")


def test_weights_that_do_not_fit_the_settings_are_refused(tmp_path: Path) -> None:
    saved = tiny_generator.saved(tmp_path)
    files = generator_files.read(saved)
    deeper = {**files.settings, "backbone": {**files.settings["backbone"], "depth": 2}}
    generator_files.write(saved, deeper, files.tensors, files.latent_path, files.latent_checksum)
    with pytest.raises(UserError, match=r"backbone: does not fit this DiT: \d+ missing keys \(blocks.1"):
        load_generator(saved)


def test_a_hub_id_is_fetched_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = tiny_generator.saved(tmp_path)
    asked = []

    def fetch(model: str, **options: object) -> str:
        asked.append((model, options["revision"]))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert raekit.load("someone/model", revision="v1").checksum == raekit.load(saved).checksum
    assert asked == [("someone/model", "v1")]


def test_offline_a_hub_id_says_what_to_do() -> None:
    with pytest.raises(UserError, match="hf download nobody/nothing --local-dir DIR.*give that directory"):
        raekit.load("nobody/nothing")


def test_each_prompt_may_have_a_seed_of_its_own(generator: TextToImage) -> None:
    prompts = ["a red circle", "a blue square", "a red circle"]
    together = generator.sample(prompts, prompt_seeds=[7, 3, 5], steps=2)
    alone = [generator.sample(prompt, seed=seed, steps=2) for prompt, seed in zip(prompts, (7, 3, 5), strict=True)]
    torch.testing.assert_close(together, torch.cat(alone))
    with pytest.raises(UserError, match="prompt_seeds: 1 for 3 prompts"):
        generator.sample(prompts, prompt_seeds=[7])
