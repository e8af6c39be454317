"""Answer Logits: shown the candidate and told the prompt, does the model say yes?

    system, user: <image> "Does this image align with the prompt: ...?", assistant: Yes

In: candidates as tokens, prompts. Out: a score for each candidate. Scale-RAE, section 5.2.

**Rules.** ``log_odds``, the default: the logarithm of P(yes) / P(no) of the first word, all spellings taken together.
It costs no word of writing, and unlike a raw logit it does not depend on a constant that may differ between pictures.
``yes_logit``: the largest raw logit of a yes as the first word, which is what the paper's text says.
``published``, what the released code does: the answer is written out, greedily; the *raw* logit of a word that was
taken counts if it is a yes or a no (0 if none was); accepted candidates come before all others and are ordered by the
logit of their yes, the others by the logit of their no, smallest first. The score is that order as one number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from raekit.errors import UserError
from raekit.multimodal.session import begin
from raekit.multimodal.unified import UnifiedModel, asked
from raekit.multimodal.writing import Written, write
from raekit.verifiers.base import LatentVerifier, LatentVerifierConfig, Verdict

QUESTION = "Does this image align with the prompt: {prompt}?"
YES, NO = ("yes", "Yes", "YES"), ("no", "No", "NO")
ACCEPTED = 1e6
"""Lifts the score of what was accepted above all that was not; far above any logit, and exact in float64."""


class AnswerLogits(LatentVerifier):
    """Whether the model says that picture and prompt fit."""

    class Config(LatentVerifierConfig):
        """Settings of the answer logits."""

        name: Literal["answer_logits"] = "answer_logits"
        rule: Literal["log_odds", "yes_logit", "published"] = "log_odds"
        """What of the answer is the score."""
        question: str = QUESTION
        """What the model is asked; ``{prompt}`` stands for the prompt."""
        max_tokens: int = Field(64, ge=1)
        """Longest answer, where it is written out (``published``)."""

    config: Config

    def __init__(self, config: Config, model: UnifiedModel) -> None:
        super().__init__(config, model)
        if "{prompt}" not in config.question:
            raise UserError(f"verifier.question: {config.question!r} does not hold {{prompt}}; put it where it belongs")
        yes, no = (self._first_ids(words) for words in (YES, NO))
        # A tokenizer of letters may begin both with the same one, a space.
        self.yes, self.no = sorted(yes - no), sorted(no - yes)

    def weigh(self, tokens: Tensor, prompts: Sequence[str]) -> Verdict:
        """``score``, ``yes_logit`` and ``no_logit``; of a written answer also ``yes_confidence``, ``no_confidence``."""
        rows = self.rows(prompts)
        if self.config.rule == "published":
            return self.published(write(self.model.conditioner, rows, self.config.max_tokens, tokens))
        _, states = begin(self.model.conditioner, rows, tokens)
        logits = self.model.conditioner.logits(states[:, -1])
        yes, no = logits[:, self.yes], logits[:, self.no]
        verdict = {"yes_logit": yes.amax(-1), "no_logit": no.amax(-1)}
        score = verdict["yes_logit"] if self.config.rule == "yes_logit" else yes.logsumexp(-1) - no.logsumexp(-1)
        return {"score": score, **verdict}

    def length(self, prompt: str) -> int:
        # Of an answer that is written out all but the last token is read.
        written = self.config.max_tokens - 1 if self.config.rule == "published" else 0
        return len(self.rows([prompt])[0]) + written

    def rows(self, prompts: Sequence[str]) -> list[list[int]]:
        """Ids of each question, up to where the answer begins."""
        questions = [self.config.question.replace("{prompt}", prompt) for prompt in prompts]
        return [self.model.chat.prompt([asked(question)]) for question in questions]

    def published(self, written: Written) -> Verdict:
        """The verdict of the released code on answers that were written out."""
        yes_logit, yes_confidence = self._of_last(written, self.yes)
        no_logit, no_confidence = self._of_last(written, self.no)
        said_yes = torch.tensor([any(token in self.yes for token in ids) for ids in written.ids]).to(yes_logit.device)
        score = torch.where(said_yes, ACCEPTED + yes_logit, -no_logit)
        verdict = {"yes_logit": yes_logit, "no_logit": no_logit}
        return {"score": score, **verdict, "yes_confidence": yes_confidence, "no_confidence": no_confidence}

    def _of_last(self, written: Written, words: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logit and confidence ``[B]`` float64 of the last of ``words`` in each answer; 0 where there is none."""
        logits, confidence = written.logits.double(), written.confidence.double()
        found = torch.zeros(2, len(written.ids), dtype=torch.float64, device=logits.device)
        for row, ids in enumerate(written.ids):
            places = [place for place, token in enumerate(ids) if token in words]
            if places:
                found[:, row] = torch.stack([logits[row, places[-1]], confidence[row, places[-1]]])
        return found[0], found[1]

    def _first_ids(self, words: Iterable[str]) -> set[int]:
        """First ids of some words, alone and after a space."""
        spelled = [start + word for word in words for start in ("", " ")]
        return {self.model.chat.words(text)[0] for text in spelled}
