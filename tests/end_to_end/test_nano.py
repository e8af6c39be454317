"""The model in the package: it loads, draws the same picture again, fits its size, and is told apart from others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import raekit
from raekit.autoencoder.base import load_autoencoder
from raekit.best_of import Choosing
from raekit.conditioning.language_model import SMOLLM2_NAME, load_language_model
from raekit.data.transforms import to_float
from raekit.errors import UserError
from raekit.latent_file import Latent
from raekit.metrics.reconstruction import psnr
from raekit.understand import Question

NANO = Path(raekit.__file__).parent / "models/nano"
DEMO_MEMORY = 60e6


@pytest.fixture(scope="module")
def language_model() -> None:
    try:
        load_language_model(SMOLLM2_NAME)
    except UserError as error:
        pytest.skip(str(error))


def test_the_bundled_weights_stay_small() -> None:
    size = sum(path.stat().st_size for path in NANO.rglob("*") if path.is_file())
    assert 1e6 < size <= DEMO_MEMORY


@pytest.mark.usefixtures("language_model")
def test_a_prompt_gives_the_same_picture_alone_and_in_company() -> None:
    model = raekit.load()
    company = model(["a red apple", "a cat face"], num=2, seed=3, steps=4, output="tensor")
    alone = model("a red apple", num=1, seed=4, steps=4, output="tensor")
    assert company.shape == (4, 3, 64, 64)
    torch.testing.assert_close(alone[0], company[1], atol=2e-3, rtol=0)
    assert (company[1] - company[3]).abs().mean() > 0.01, "the prompt changes nothing"


@pytest.mark.usefixtures("language_model")
def test_colours_follow_the_prompt() -> None:
    model = raekit.load()
    red, green = model(
        ["a flat emoji of a red apple", "a flat emoji of a green apple"], seed=1, steps=20, output="tensor"
    )
    red_surplus = [(image[0] - image[1]).mean().item() for image in (red, green)]
    assert red_surplus[0] > red_surplus[1]


@pytest.mark.usefixtures("language_model")
def test_the_unified_model_tells_colours_of_what_another_model_drew() -> None:
    """By latents alone: nothing is decoded between drawing and answering."""
    things = {"red": "car", "green": "cup", "blue": "bus", "yellow": "chair"}
    prompts = [f"a picture of a {colour} {thing}" for colour, thing in things.items()]
    latents = raekit.load().sample(prompts, seed=3, steps=20)
    asked = [
        Question.of(f"what colour is the {thing}?", [Latent(latent)])
        for thing, latent in zip(things.values(), latents, strict=True)
    ]
    answers = raekit.Understander.load().ask(asked, max_tokens=4)
    assert sum(colour in answer.lower() for colour, answer in zip(things, answers, strict=True)) >= 3, answers


@pytest.mark.usefixtures("language_model")
def test_the_unified_model_draws_and_judges_its_own_latents() -> None:
    model = raekit.load("models/nano/unified")
    choice = model.best_of("a picture of a red car", "answer_logits", Choosing(2), steps=4)
    scores = [one.score for one in choice.selections[0].candidates]
    assert len(set(scores)) == 2 and choice.latents.shape == (1, 128, 4, 4)


def test_the_autoencoder_gives_a_drawing_back() -> None:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((8, 8, 56, 56), fill="#e03030")
    pixels = torch.from_numpy(np.array(image))[None].permute(0, 3, 1, 2)
    rae = load_autoencoder()
    with torch.no_grad():
        assert psnr(rae(to_float(pixels)), to_float(pixels)).item() > 20
