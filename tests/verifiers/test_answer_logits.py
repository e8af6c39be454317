"""Answer logits against the model's first word, and the released order on answers that are made up."""

from __future__ import annotations

import pytest
import torch

from raekit.errors import UserError
from raekit.multimodal.unified import UnifiedModel, asked
from raekit.multimodal.writing import Written
from raekit.verifiers.answer_logits import AnswerLogits
from tiny_unified import in_rae

LATENTS = torch.randn(3, 32, 4, 4, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a red apple", "sun", "a tree"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> UnifiedModel:
    return in_rae(tmp_path_factory.mktemp("unified"))


def build(model: UnifiedModel, **settings: object) -> AnswerLogits:
    return AnswerLogits(AnswerLogits.Config.model_validate(settings), model)


def first_logits(model: UnifiedModel, latent: torch.Tensor, prompt: str) -> torch.Tensor:
    """Of the first word of the answer, ``[V]``."""
    row = model.chat.prompt([asked(f"Does this image align with the prompt: {prompt}?")])
    embeds = model.conditioner.embed(torch.tensor([row]), model.look(latents=latent[None]))
    return model.conditioner.logits(model.conditioner.read(embeds))[0, -1]


def test_yes_and_no_are_their_first_tokens_in_all_spellings(model: UnifiedModel) -> None:
    verifier = build(model)
    # Of a tokenizer of letters; the space that " yes" and " no" both begin with says nothing.
    assert verifier.yes == model.chat.words("Yy") and verifier.no == model.chat.words("Nn")


def test_log_odds_of_the_first_word(model: UnifiedModel) -> None:
    verifier = build(model)
    scores = verifier(LATENTS, PROMPTS)
    for score, latent, prompt in zip(scores, LATENTS, PROMPTS, strict=True):
        p = first_logits(model, latent, prompt).softmax(-1)
        odds = p[verifier.yes].sum() / p[verifier.no].sum()
        assert score.item() == pytest.approx(odds.log().item(), abs=1e-4)
    assert scores.unique().shape == (3,)


def test_the_raw_logit_of_yes(model: UnifiedModel) -> None:
    verdict = build(model, rule="yes_logit").judge(LATENTS, PROMPTS)
    for index, prompt in enumerate(PROMPTS):
        logits = first_logits(model, LATENTS[index], prompt)
        yes, no = (logits[model.chat.words(word)].max().item() for word in ("Yy", "Nn"))
        assert verdict["score"][index].item() == verdict["yes_logit"][index].item() == pytest.approx(yes, abs=1e-4)
        assert verdict["no_logit"][index].item() == pytest.approx(no, abs=1e-4)


def test_the_published_order(model: UnifiedModel) -> None:
    verifier = build(model, rule="published")
    yes, no, other = verifier.yes[0], verifier.no[0], 5
    ids = [[no], [other, yes, yes], [other], [no], [yes, no]]
    logits = torch.tensor([[9.0, 0, 0], [1, 8, 4], [7, 0, 0], [3, 0, 0], [5, 6, 0]])
    verdict = verifier.published(Written(ids, logits, logits / 10))
    assert verdict["yes_logit"].tolist() == [0, 4, 0, 0, 5]
    assert verdict["no_logit"].tolist() == [9, 0, 0, 3, 6]
    torch.testing.assert_close(verdict["yes_confidence"], torch.tensor([0, 0.4, 0, 0, 0.5]).double(), rtol=1e-6, atol=0)
    # The accepted by the logit of yes; then who said neither, then the refused, the surest last.
    assert verdict["score"].argsort(descending=True).tolist() == [4, 1, 2, 3, 0]


def test_published_answers_are_written_out(model: UnifiedModel) -> None:
    verdict = build(model, rule="published", max_tokens=2).judge(LATENTS, PROMPTS)
    assert set(verdict) == {"score", "yes_logit", "no_logit", "yes_confidence", "no_confidence"}
    assert all(value.shape == (3,) for value in verdict.values())


def test_a_question_of_ones_own(model: UnifiedModel) -> None:
    own = build(model, question="Is this {prompt}?")(LATENTS, PROMPTS)
    assert not torch.allclose(own, build(model)(LATENTS, PROMPTS))
    with pytest.raises(UserError, match="verifier.question: 'Is it good.' does not hold {prompt}"):
        build(model, question="Is it good?")
