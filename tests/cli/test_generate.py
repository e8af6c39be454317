"""``raekit generate``: files, their names and what they remember; mistakes; a disk that fills up."""

from __future__ import annotations

import errno
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

import raekit
import tiny_adapter
import tiny_generator
from cli import verbs
from raekit import latent_file
from raekit.cli.generate import SLUG_LENGTH, generate, slugs
from raekit.errors import UserError
from raekit.generate import ImageGenerator


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_generator.saved(tmp_path_factory.mktemp("model"))


run = partial(verbs.run, generate)


def test_a_picture_per_prompt_and_seed_that_remembers_its_making(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    text = run("A red apple!", "sun", "--model", model, "--out", out, "--num", 2, "--seed", 5, "--guidance", 2)
    names = ["a-red-apple_seed5.png", "a-red-apple_seed6.png", "sun_seed5.png", "sun_seed6.png"]
    assert text.split() == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    with Image.open(out / names[1]) as picture:
        made = json.loads(picture.info["raekit"])
        pixels = picture.convert("RGB").tobytes()
    generator = raekit.load(model)
    assert made == {
        "prompt": "A red apple!",
        "seed": 6,
        **generator.sampling(guidance_scale=2.0).model_dump(mode="json"),
        "model": generator.checksum,
        "version": raekit.__version__,
    }
    assert (made["steps"], made["guidance_scale"], made["sampler"]) == (3, 2.0, "euler")
    assert generator(made["prompt"], seed=made["seed"], guidance_scale=2.0)[0].tobytes() == pixels


def test_adapters_change_pictures_which_remember_them(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    path, folder = tiny_adapter.saved(tmp_path)
    arguments = ("sun", "--model", path, "--num", 1, "--output", "latent")
    latents = []
    for name, words in (("plain", ()), ("none", ("--lora-scale", 0)), ("some", ())):
        adapters = () if name == "plain" else ("--lora", folder, *words)
        (file,) = run(*arguments, "--out", tmp_path / name, *adapters).split()
        with safe_open(file, framework="pt") as opened:
            made = json.loads(opened.metadata()["raekit"])
            latents.append(opened.get_tensor("latent"))
        expected = {"plain": (None, None), "none": (str(folder), 0.0), "some": (str(folder), 1.0)}[name]
        assert (made.get("lora"), made.get("lora_scale")) == expected
    torch.testing.assert_close(latents[1], latents[0])
    assert not torch.allclose(latents[2], latents[0], atol=1e-3)
    with pytest.raises(UserError, match="--lora-scale 2: there are no adapters to scale"):
        run("sun", "--model", model, "--out", tmp_path, "--lora-scale", 2)


def test_grid_and_latents(model: Path, tmp_path: Path) -> None:
    text = run("sun", "moon", "--model", model, "--out", tmp_path, "--num", 1, "--grid", "--output", "both")
    assert text.split()[-1] == str(tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as sheet:
        assert json.loads(sheet.info["raekit"])["prompts"] == ["sun", "moon"]
        assert sheet.height > 2 * 128 > sheet.width > 128
    with safe_open(tmp_path / "moon_seed0.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["raekit"])["prompt"] == "moon"
        latent = file.get_tensor("latent")
    torch.testing.assert_close(latent, raekit.load(model)("moon", output="latent")[0])


def test_latents_alone_are_not_decoded(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageGenerator, "decode", lambda *_: pytest.fail("decoded"))
    text = run("sun", "--model", model, "--out", tmp_path, "--num", 2, "--output", "latent")
    assert text.split() == [str(tmp_path / f"sun_seed{seed}.safetensors") for seed in (0, 1)]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_variation_of_a_picture_away_from_another(model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (20, 30), "orange").save(tmp_path / "start.png")
    words = ("--image", tmp_path / "start.png", "--strength", 0.25, "--negative", "moon", "--guidance", 3)
    (path,) = run("sun", "--model", model, "--out", tmp_path / "out", "--num", 1, *words).split()
    with Image.open(path) as picture:
        made = json.loads(picture.info["raekit"])
        pixels = picture.convert("RGB").tobytes()
    asked = {"image": str(tmp_path / "start.png"), "strength": 0.25, "negative": "moon"}
    assert {name: made[name] for name in asked} == asked
    assert raekit.load(model)("sun", guidance_scale=3, **asked)[0].tobytes() == pixels


def test_a_whole_model_may_be_named(model: Path, tmp_path: Path) -> None:
    run("sun", "--model", model.parent, "--device", "cpu", "--out", tmp_path, "--num", 1)
    with pytest.raises(UserError, match="revision: 'v1' is for a hub repository"):
        run("sun", "--model", model, "--revision", "v1", "--out", tmp_path)


def test_every_option_reaches_the_sampler(model: Path, tmp_path: Path) -> None:
    run("sun", "--model", model, "--out", tmp_path, "--num", 1, "--steps", 2, "--sampler", "heun",
        "--guidance-interval", 0.2, 0.9, "--time-grid", "rae_published")  # fmt: skip
    with Image.open(tmp_path / "sun_seed0.png") as picture:
        made = json.loads(picture.info["raekit"])
    assert (made["steps"], made["sampler"], made["guidance_interval"]) == (2, "heun", [0.2, 0.9])
    assert made["time_grid"] == "rae_published"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["sun", "--steps", "0"], "steps"),
        (["sun", "--guidance-interval", "0.9", "0.1"], "guidance_interval"),
        (["sun", "--sampler", "eulr"], "did you mean 'euler'"),
        (["sun", ""], "prompt: it is empty"),
        (["sun", "--num", "0"], "num: 0"),
        (["sun", "--seed", "-1"], "seed: -1 is out of range"),
        (["sun", "--guidance", "0.5"], "guidance_scale: .*1 is no guidance"),
        (["sun", "--guidance", "nan"], "guidance_scale: needs a finite number, 1 or more; 1 is no guidance"),
        (["sun", "--num", "0", "--best-of", "2", "--verifier", "siglip_score"], "num: 0 beside best_of"),
        (["sun", "--strength", "0.5"], "strength: 0.5 says how far to leave an image"),
        (["sun", "--image", "no/such.png"], "image: no/such.png: cannot be read"),
        (["sun", "--negative", "moon", "--guidance", "1"], "negative: only classifier-free guidance"),
        (["sun", "--keep", "2"], "keep: is about candidates"),
        (["sun", "--best-of", "4"], "best_of: 4 candidates and nobody to judge them"),
        (["sun", "--best-of", "2", "--keep", "3", "--verifier", "siglip_score"], "keep: 3 of 2 candidates"),
        (["sun", "--best-of", "2", "--verifier", "answer_logits"], "answer_logits: .*load a unified model"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_file(
    model: Path, tmp_path: Path, words: list[str], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        run(*words, "--model", model, "--out", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--steps", "0"], ["--guidance", "nan"], ["--num", "0"], ["--seed", "-1"]])
def test_what_no_model_could_draw_is_told_before_one_is_loaded(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raekit, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match="steps|guidance_scale|num: 0|seed: -1"):
        run("sun", *words, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_weaker_model_of_auto_guidance_may_be_the_models_own(model: Path, tmp_path: Path) -> None:
    path = tiny_generator.saved(tmp_path, sampling={"steps": 2, "guidance": "none", "guide": str(model)})
    with pytest.raises(UserError, match="latent space"):  # of another model here, so it came as far as loading it
        run("sun", "--model", path, "--guidance-kind", "auto", "--out", tmp_path / "out")


def test_a_wrong_model_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model '.*nowhere' is no directory"):
        run("sun", "--model", tmp_path / "nowhere", "--out", tmp_path)


def test_an_unusable_place_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--out '.*file/below'"):
        run("sun", "--model", tmp_path / "nowhere", "--out", tmp_path / "file" / "below")


def test_a_full_disk_leaves_only_whole_pictures(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = Path.write_bytes, []

    def fill_up(path: Path, data: bytes) -> int:
        calls.append(path)
        if len(calls) < 3:
            return write(path, data)
        write(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(UserError, match="sun_seed2.png.*disk is full"):
        run("sun", "--model", model, "--out", tmp_path, "--num", 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sun_seed0.png", "sun_seed1.png"]
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            picture.verify()


def test_the_best_are_kept_with_their_scores(model: Path, tmp_path: Path) -> None:
    words = ("--best-of", 4, "--keep", 2, "--verifier", "siglip_score", "--seed", 3, "--output", "both", "--grid")
    files = [Path(line) for line in run("sun", "moon", "--model", model, "--out", tmp_path, *words).split()]
    assert [path.name for path in files[-2:]] == ["scores.json", "grid.png"] and len(files) == 10
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["verifier"], scores["best_of"], scores["keep"]) == ("siglip_score", 4, 2)
    assert set(scores["seconds"]) == {"draw", "verify"} and scores["settings"]["steps"] == 3
    sun = scores["prompts"][0]
    ranked = sorted(sun["candidates"], key=lambda one: -one["score"])
    assert [one["rank"] for one in ranked] == [0, 1, 2, 3] and {one["seed"] for one in ranked} == {3, 4, 5, 6}
    assert sun["files"] == [f"sun_seed{one['seed']}" for one in ranked[:2]]
    with Image.open(tmp_path / f"{sun['files'][0]}.png") as picture:
        made, pixels = json.loads(picture.info["raekit"]), picture.convert("RGB").tobytes()
    assert made["score"] == ranked[0]["score"] and made["score_parts"] == ranked[0]["parts"]
    assert (made["rank"], made["best_of"], made["verifier"]) == (0, 4, "siglip_score")
    generator = raekit.load(model)
    assert generator(made["prompt"], seed=made["seed"])[0].tobytes() == pixels, "its seed alone draws it again"
    latent = latent_file.load(tmp_path / f"{sun['files'][0]}.safetensors")
    assert latent.made["score"] == made["score"] and latent.latent_space == generator.latent_space.checksum


def test_slugs_are_readable_short_and_different() -> None:
    assert slugs(["A red, RED apple!", "été à Paris", "猫", "!!!", "💥"]) == [
        "a-red-red-apple", "été-à-paris", "猫", "image", "image-2",
    ]  # fmt: skip
    assert slugs(["sun", "sun!", "sun-2", "SUN"]) == ["sun", "sun-2", "sun-2-2", "sun-3"]
    long = slugs(["many words " * 20, "猫" * 200])
    assert all(len(slug) <= SLUG_LENGTH for slug in long)
    assert all(len(f"{slug}_seed{2**63}.safetensors".encode()) <= 255 for slug in long)
