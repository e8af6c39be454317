"""The best of N: who is kept, what is remembered, what is rendered; and dropping the worse half on the way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_generator
from raekit.bench.verify import stand_in
from raekit.best_of import Choosing, asked_of
from raekit.errors import UserError
from raekit.generate import ClassToImage, ImageGenerator, TextToImage
from raekit.verifiers.judge import Judge

PROMPTS = ["a red apple", "sun"]


def brightness(images: Tensor, prompts: list[Any]) -> Tensor:
    return images.mean((1, 2, 3))


class OfLatents:
    """A judge of latents without a unified model."""

    name = "mean"

    def check(self, prompts: list[Any]) -> None:
        pass

    def __call__(self, z: Tensor, prompts: list[Any]) -> dict[str, Tensor]:
        return {"score": z.mean((1, 2, 3)).double()}


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    return tiny_generator.text_to_image(tmp_path_factory.mktemp("text"), sampling={"steps": 4})


def test_the_brightest_are_kept_the_best_first(generator: TextToImage) -> None:
    candidates = generator(PROMPTS, num=5, seed=3, output="tensor")
    scores = candidates.mean((1, 2, 3)).view(2, 5)
    kept = generator(PROMPTS, best_of=5, keep=2, verifier=brightness, seed=3, output="tensor", batch_size=3)
    for row in range(2):
        best = scores[row].argsort(descending=True)[:2]
        torch.testing.assert_close(kept[2 * row : 2 * row + 2], candidates.view(2, 5, *kept.shape[1:])[row, best])


def test_every_candidate_is_remembered_and_can_be_drawn_again(generator: TextToImage) -> None:
    choice = generator.best_of(PROMPTS, brightness, Choosing(4, keep=2), seed=[9, 2, 5, 7])
    assert choice.latents.shape == (4, 32, 4, 4)
    (prompt, best), *_ = choice.winners
    assert prompt == PROMPTS[0] and best.rank == 0
    again = generator.sample(prompt, seed=best.seed)[0]
    torch.testing.assert_close(choice.latents[0], again, rtol=1e-4, atol=1e-4)
    first = choice.selections[0]
    assert [c.seed for c in first.candidates] == [9, 2, 5, 7]
    assert sorted(c.rank for c in first.candidates) == [0, 1, 2, 3]
    scores = [c.score for c in first.candidates]
    assert [scores[index] for index in first.kept] == sorted(scores, reverse=True)[:2]
    assert first.as_json()["candidates"][0]["estimate"] is None
    assert set(choice.seconds) == {"draw", "verify"} and 0 < choice.verify_share < 1


def test_kept_pictures_say_what_they_scored(generator: TextToImage) -> None:
    pictures = generator(PROMPTS, best_of=3, keep=2, verifier=brightness, seed=3)
    choice = generator.best_of(PROMPTS, brightness, Choosing(3, keep=2), seed=3)
    assert [picture.info for picture in pictures] == [
        {"seed": one.seed, "score": pytest.approx(one.score), "verifier": "brightness"} for _, one in choice.winners
    ]
    assert generator("sun")[0].info == {}


def test_only_those_that_are_kept_are_rendered(generator: TextToImage, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = []
    decode = ImageGenerator.decode
    monkeypatch.setattr(ImageGenerator, "decode", lambda self, z, *size: rendered.append(len(z)) or decode(self, z))
    monkeypatch.setattr(Judge, "of", lambda choice, generator: OfLatents())
    assert len(generator("sun", best_of=6, keep=2, verifier="a judge of latents")) == 2
    assert rendered == [2]


def test_a_unified_model_judges_its_own_latents(generator: TextToImage, monkeypatch: pytest.MonkeyPatch) -> None:
    unified = stand_in(generator)
    latents = unified.sample("sun", num=4, seed=2)
    scores = Judge.of("answer_logits", unified)(latents, ["sun"] * 4)["score"]
    monkeypatch.setattr(ImageGenerator, "decode", lambda *_: pytest.fail("rendered"))
    best = unified("sun", best_of=4, verifier="answer_logits", seed=2, output="latent")
    torch.testing.assert_close(best[0], latents[scores.argmax()], rtol=1e-4, atol=1e-4)
    assert scores.unique().shape == (4,)


def test_the_worse_half_is_dropped_by_where_it_is_heading(generator: TextToImage) -> None:
    way = generator.trajectories("sun", 5, seed=1)
    heading = brightness(generator.decode(way.pause(2)), [])
    left = heading.argsort(descending=True)[:3].tolist()
    whole = generator("sun", num=5, seed=1, output="tensor").mean((1, 2, 3))
    best = max(left, key=lambda index: float(whole[index]))

    steps = []
    choice = generator.best_of(
        "sun", brightness, Choosing(5, prune_at=0.5), seed=1, callback=lambda report: steps.append(len(report["z_t"]))
    )
    assert steps == [5, 5, 3, 3]
    candidates = choice.selections[0].candidates
    assert choice.selections[0].kept == [best]
    assert [c.rank is not None for c in candidates] == [index in left for index in range(5)]
    assert [c.score is None for c in candidates] == [index not in left for index in range(5)]
    torch.testing.assert_close(torch.tensor([c.estimate for c in candidates]), heading.double().float())
    torch.testing.assert_close(choice.latents[0], generator.sample("sun", seed=1 + best)[0], rtol=1e-4, atol=1e-4)


def test_labels_may_be_judged_by_a_function(tmp_path_factory: pytest.TempPathFactory) -> None:
    labelled: ClassToImage = tiny_generator.class_to_image(tmp_path_factory.mktemp("class"))
    assert len(labelled([1, 4], best_of=2, verifier=brightness)) == 2
    with pytest.raises(UserError, match="siglip_score reads text, and this model takes labels"):
        labelled([1, 4], best_of=2, verifier="siglip_score")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"keep": 2}, "keep: is about candidates, and there are none; give best_of"),
        ({"verifier": brightness}, "verifier: is about candidates"),
        ({"best_of": 4}, "best_of: 4 candidates and nobody to judge them; give a verifier"),
        ({"best_of": 4, "keep": 5, "verifier": brightness}, "keep: 5 of 4 candidates"),
        ({"best_of": 0, "verifier": brightness}, "best_of, keep: 0 and 1"),
        ({"best_of": 4, "num": 2, "verifier": brightness}, "num: 2 beside best_of"),
        ({"best_of": 4, "seed": [1, 2], "verifier": brightness}, "num: 4 images per prompt for 2 seeds"),
        ({"best_of": 2, "seed": [1, 1], "verifier": brightness}, "seed: 4 of 2 prompts' candidates"),
        ({"best_of": 4, "prune_at": 1.0, "verifier": brightness}, r"prune_at: 1 is no share of the steps in \(0, 1\)"),
        ({"best_of": 4, "prune_at": 0.5, "steps": 1, "verifier": brightness}, "prune_at: 1 steps leave nothing"),
        ({"best_of": 4, "prune_at": 0.5, "sampler": "rae_published_sde", "verifier": brightness}, "cannot be stopped"),
        ({"best_of": 4, "verifier": "answer_logits"}, "verifier answer_logits: .*load a unified model"),
    ],
)
def test_what_cannot_be_chosen(generator: TextToImage, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        generator(PROMPTS, **options)


@pytest.mark.parametrize(("num_steps", "share", "step"), [(4, 0.5, 2), (50, 0.01, 1), (50, 0.999, 49), (5, 0.3, 2)])
def test_candidates_are_dropped_between_two_steps(num_steps: int, share: float, step: int) -> None:
    assert Choosing(8, prune_at=share).pause(num_steps) == step
    assert Choosing(8).pause(num_steps) is None


def test_half_are_left_or_as_many_as_are_kept() -> None:
    assert [Choosing(n, k, 0.5).num_left for n, k in ((8, 1), (7, 1), (8, 6), (1, 1))] == [4, 4, 6, 1]


def test_options_are_taken_out_of_a_call() -> None:
    options: dict[str, Any] = {"best_of": 3, "verifier": "siglip_score", "keep": None, "steps": 5}
    assert asked_of(options) == ("siglip_score", Choosing(3)) and options == {"steps": 5}
    assert asked_of(options) is None
