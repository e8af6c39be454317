"""One way to ask whoever judges: by name, by settings, at hand, or any function of pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_generator
from raekit.errors import UserError
from raekit.generate import TextToImage
from raekit.multimodal.unified import UnifiedModel
from raekit.verifiers.answer_logits import AnswerLogits
from raekit.verifiers.contrastive import SigLIPScore
from raekit.verifiers.judge import Judge
from tiny_unified import in_rae, in_vae

LATENTS = torch.randn(3, 32, 4, 4, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a red apple", "sun", "a tree"]


class Asked:
    """A unified model with what a judge needs of a generator besides."""

    device = torch.device("cpu")

    def __init__(self, model: UnifiedModel) -> None:
        self.conditioner, self.backbone, self.transport = model.conditioner, model.backbone, model.transport
        self.latent_space = model.latent_space

    def decode(self, latents: Tensor) -> Tensor:
        pytest.fail("a verifier of latents had them rendered")

    def neighbour(self, path: str) -> Any:
        pytest.fail("nobody else was asked for")


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    return tiny_generator.text_to_image(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked(in_rae(tmp_path_factory.mktemp("unified")))


def test_latents_are_judged_without_a_pixel(asked: Asked) -> None:
    judge = Judge.of("answer_logits", asked)
    own = AnswerLogits(AnswerLogits.Config(), UnifiedModel.of(asked))
    judge.check(PROMPTS)
    verdict = judge(LATENTS, PROMPTS)
    assert torch.equal(verdict["score"], own(LATENTS, PROMPTS)) and set(verdict) == {"score", "yes_logit", "no_logit"}
    assert (judge.name, judge.sees) == ("answer_logits", "latents")
    assert judge.describe()["rule"] == "log_odds"
    by_settings = Judge.of({"name": "answer_logits", "rule": "yes_logit"}, asked)
    assert torch.equal(by_settings(LATENTS, PROMPTS)["score"], verdict["yes_logit"])
    assert torch.equal(Judge.of(own, asked)(LATENTS, PROMPTS)["score"], verdict["score"])


def test_a_model_that_only_reads_has_its_latents_judged_by_another(
    generator: TextToImage, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "_neighbours", {"unified": asked})
    judge = Judge.of("answer_logits=unified", generator)
    expected = Judge.of("answer_logits", asked)(LATENTS, PROMPTS)["score"]
    assert torch.equal(judge(LATENTS, PROMPTS)["score"], expected)
    assert judge.describe()["path"] == "unified"


LONG = ["red " * 200]


@pytest.mark.parametrize(
    ("choice", "prompts", "complaint"),
    [
        ("answer_logits", LONG, r"verifier answer_logits: .*'red .* tokens long, and the model that judges reads 512"),
        ("prompt_confidence", LONG, r"verifier prompt_confidence: .* tokens long, .* reads 512; say it more briefly"),
        ({"name": "answer_logits", "rule": "published", "max_tokens": 500}, PROMPTS, "tokens long, .* reads 512"),
        ("answer_logits", [3], "answer_logits reads text, and this model takes labels"),
        ("answer_logits", ["sun", " "], "verifier: a prompt is empty"),
    ],
)
def test_prompts_that_cannot_be_judged_by_are_refused_before_the_drawing(
    asked: Asked, choice: Any, prompts: list[Any], complaint: str
) -> None:
    judge = Judge.of(choice, asked)
    with pytest.raises(UserError, match=complaint):
        judge.check(prompts)


def test_a_call_checks_its_prompts_first(tmp_path: Path) -> None:
    generator = tiny_generator.unified(tmp_path)
    with pytest.raises(UserError, match="the model that judges reads 512"):
        generator(LONG, best_of=2, verifier="answer_logits", callback=lambda state: pytest.fail("it drew"))
    Judge.of(lambda images, prompts: [0.0], generator).check([3, *LONG])


def test_pixels_are_rendered_for_those_who_see_them(generator: TextToImage) -> None:
    images = generator.decode(LATENTS)
    by_name = Judge.of("siglip_score", generator)
    expected = SigLIPScore(SigLIPScore.Config())(images, PROMPTS)
    torch.testing.assert_close(by_name(LATENTS, PROMPTS)["score"], expected)
    assert by_name.sees == "images"

    def darkness(images: Tensor, prompts: list[Any]) -> list[float]:
        assert prompts == PROMPTS
        return [-float(image.mean()) for image in images]

    judge = Judge.of(darkness, generator)
    assert (judge.name, judge.describe()) == ("darkness", {"name": "darkness", "sees": "images"})
    torch.testing.assert_close(judge(LATENTS, PROMPTS)["score"], -images.double().mean((1, 2, 3)))


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        ("answr_logits", "verifier: unknown name 'answr_logits'; did you mean 'answer_logits'"),
        ({"rule": "yes_logit"}, "verifier: unknown name 'None'"),
        ({"name": "siglip_score", "batch_size": 0}, "verifier 'siglip_score': batch_size"),
        ("answer_logits=somewhere", "model 'somewhere' is no directory"),
        ("answer_logits", "verifier answer_logits: model: its condition is 'query', .*load a unified model .* judge "
         "pixels with clip_score or siglip_score"),
    ],
)  # fmt: skip
def test_who_cannot_judge_is_refused_at_once(generator: TextToImage, choice: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Judge.of(choice, generator)


def test_a_class_model_cannot_be_asked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="verifier answer_logits: model: its condition is 'label', which only reads cl"):
        Judge.of("answer_logits", tiny_generator.class_to_image(tmp_path))


def test_the_latents_of_a_vae_cannot_be_judged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="verifier prompt_confidence: .*latent space of a VAE.*siglip_score"):
        Judge.of("prompt_confidence", Asked(in_vae(tmp_path)))


@pytest.mark.parametrize(
    ("scores", "complaint"),
    [
        (torch.zeros(2), r"verifier score: scores of shape \[2\] for 3 pictures"),
        ([0.0, float("nan"), 1.0], "verifier score: a score is no number"),
    ],
)
def test_scores_that_cannot_be_compared(generator: TextToImage, scores: Any, complaint: str) -> None:
    def score(images: Tensor, prompts: list[Any]) -> Any:
        return scores

    with pytest.raises(UserError, match=complaint):
        Judge.of(score, generator)(LATENTS, PROMPTS)
