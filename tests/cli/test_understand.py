"""``raekit understand``: the answers of the library, and one sentence for what cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import raekit
import tiny_generator
from cli.verbs import run
from raekit import latent_file
from raekit.cli.understand import understand
from raekit.data.picture import read_square
from raekit.data.transforms import to_float
from raekit.errors import UserError
from raekit.understand import Question


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A unified model in ``generator``, two pictures, and the latent of the first."""
    directory = tmp_path_factory.mktemp("understand")
    generator = tiny_generator.unified(directory)
    generator.save(directory / "generator", directory / "autoencoder")
    pixels = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    for name, one in zip("ab", pixels, strict=True):
        Image.fromarray((one * 255).to(torch.uint8).numpy()).save(directory / f"{name}.png")
    rae = generator.latent_space
    latent = rae.encode(to_float(read_square(directory / "a.png", 32))[None])[0]
    latent_file.save(directory / "a.safetensors", latent, rae.checksum, {"prompt": "a"})
    return directory


def ask(place: Path, *words: Any) -> str:
    return run(understand, *words, "--model", place / "generator", "--device", "cpu", "--max-tokens", 3)


def test_a_picture_and_its_latent_have_one_answer(place: Path) -> None:
    model = raekit.Understander.load(place / "generator", "cpu")
    (expected,) = model.answer(place / "a.png", "what?", max_tokens=3)
    assert ask(place, place / "a.png", "what?") == f"{expected}\n"
    assert ask(place, "what?", "--latent", place / "a.safetensors") == f"{expected}\n"


def test_several_together_and_each_by_itself(place: Path) -> None:
    a, b, latent = place / "a.png", place / "b.png", place / "a.safetensors"
    lines = ask(place, a, b, "what?", "--latent", latent, "--each").splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(a), str(b), str(latent)]
    assert lines[0].split("\t")[1] == lines[2].split("\t")[1]
    model = raekit.Understander.load(place / "generator", "cpu")
    question = Question.of("what?", [a, b])
    together = ask(place, a, b, "what?", "--temperature", 1, "--seed", 4)
    assert together == model.ask([question], max_tokens=3, temperature=1.0, seed=4)[0] + "\n"


def test_what_cannot_be_asked_is_one_sentence(place: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    other = latent_file.save(tmp_path / "other.safetensors", torch.zeros(32, 4, 4), "f" * 64)
    picture = place / "a.png"
    for words, sentence in (
        ([picture], f"question: '{picture}' is a file; end with the question"),
        (["what?"], "images: none given to ask 'what.' about"),
        ([picture, "b.png", "what?"], "image 'b.png': no such file"),
        ([picture, " "], "question: it is empty"),
        ([tmp_path / "bad.png", "what?"], "image: .*bad.png.*; give another picture"),
        ([*[picture] * 9, "what?"], "images: 9 in one question, at most 8"),
        ([picture, "why? " * 120], "this language model reads 512"),
        (["what?", "--latent", other], "lies in the latent space ffffffffffff, but the model's is"),
        (["what?", "--latent", tmp_path / "none"], "latent '.*none': no such file"),
        ([picture, "what?", "--top-p", 2], "understand: top_p"),
    ):
        with pytest.raises(UserError, match=sentence):
            ask(place, *words)


def test_what_no_model_could_be_asked_is_told_before_one_is_loaded(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raekit.Understander, "load", lambda **_: pytest.fail("a model was loaded"))
    picture, latent = place / "a.png", place / "a.safetensors"
    for words, sentence in (
        ([*[picture] * 8, "what?", "--latent", latent], "images: 9 in one question, at most 8"),
        ([picture, picture, "what?", "--max-pictures", 1], "images: 2 in one question, at most 1"),
        ([latent, "what?"], f"image '{latent}': is a latent, not a picture; give it as --latent {latent}"),
    ):
        with pytest.raises(UserError, match=sentence):
            ask(place, *words)
