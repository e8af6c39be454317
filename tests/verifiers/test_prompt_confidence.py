"""Prompt confidence against the same sums over whole sequences, written out."""

from __future__ import annotations

import pytest
import torch

from raekit.errors import UserError
from raekit.multimodal.unified import UnifiedModel, asked
from raekit.multimodal.writing import self_certainty
from raekit.verifiers.prompt_confidence import PromptConfidence
from tiny_unified import in_rae

LATENTS = torch.randn(3, 32, 4, 4, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a red apple", "sun", "a tree"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> UnifiedModel:
    return in_rae(tmp_path_factory.mktemp("unified"))


def build(model: UnifiedModel, **settings: object) -> PromptConfidence:
    return PromptConfidence(PromptConfidence.Config.model_validate(settings), model)


def log_probabilities(model: UnifiedModel, latent: torch.Tensor, prompt: str) -> tuple[torch.Tensor, list[int]]:
    """Of the whole sequence ``[L, V]``, and the prompt's ids, which it ends with."""
    words = model.chat.words(prompt)
    row = model.chat.prompt([asked("Describe this image.")]) + words
    embeds = model.conditioner.embed(torch.tensor([row]), model.look(latents=latent[None]))
    return model.conditioner.logits(model.conditioner.read(embeds))[0].log_softmax(-1), words


def test_predictions_of_the_prompts_words(model: UnifiedModel) -> None:
    verdict = build(model).judge(LATENTS, PROMPTS)
    for index, prompt in enumerate(PROMPTS):
        whole, words = log_probabilities(model, LATENTS[index], prompt)
        window = whole[-len(words) - 1 : -1]
        likelihood = window[range(len(words)), words].mean()
        assert verdict["confidence"][index].item() == pytest.approx(self_certainty(window).mean().item(), abs=1e-5)
        assert verdict["likelihood"][index].item() == pytest.approx(likelihood.item(), abs=1e-5)
    assert torch.equal(verdict["score"], verdict["confidence"])
    assert torch.equal(build(model, score="likelihood")(LATENTS, PROMPTS), verdict["likelihood"])


def test_the_published_window_is_one_word_late(model: UnifiedModel) -> None:
    verdict = build(model, window="published").judge(LATENTS, PROMPTS)
    for index, prompt in enumerate(PROMPTS):
        whole, words = log_probabilities(model, LATENTS[index], prompt)
        window = whole[-len(words) :]
        likelihood = window[range(len(words) - 1), words[1:]].mean()
        assert verdict["confidence"][index].item() == pytest.approx(self_certainty(window).mean().item(), abs=1e-5)
        assert verdict["likelihood"][index].item() == pytest.approx(likelihood.item(), abs=1e-5)
    with pytest.raises(UserError, match="a prompt of one token has no published prompt likelihood"):
        build(model, window="published")(LATENTS[:1], "a")
    assert build(model)(LATENTS[:1], "a").isfinite().all()
