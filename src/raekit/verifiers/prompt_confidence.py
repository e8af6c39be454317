"""Prompt Confidence: shown the candidate, how sure is the model of the prompt's words?

    system, user: <image> "Describe this image.", assistant: p_1 p_2 ... p_n

In: candidates as tokens, prompts. Out: the mean over the prompt's words of ``KL(uniform || p)`` of the distribution
each is predicted with (``self_certainty``). Scale-RAE, section 5.2.

**Published.** The released code reads the distributions *at* the words p_1 .. p_n: they predict p_2 .. p_n and what
would come after, and the one that predicts p_1 is not among them. ``window: published`` does so; the default takes
those that predict p_1 .. p_n. Confidence does not ask whether it is p_i that the model is confident of. ``score:
likelihood`` does: the mean logarithm of the probability of each word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from raekit.errors import UserError
from raekit.multimodal.session import begin
from raekit.multimodal.unified import asked
from raekit.multimodal.writing import self_certainty
from raekit.verifiers.base import LatentVerifier, LatentVerifierConfig, Verdict

REQUEST = "Describe this image."


class PromptConfidence(LatentVerifier):
    """How sure the model is of the prompt's words when it sees the picture."""

    class Config(LatentVerifierConfig):
        """Settings of the prompt confidence."""

        name: Literal["prompt_confidence"] = "prompt_confidence"
        score: Literal["confidence", "likelihood"] = "confidence"
        """What is averaged over words: how peaked the prediction is, or how likely it makes the word."""
        window: Literal["predictive", "published"] = "predictive"
        """Which predictions: those of the prompt's n words, or those made n words long from the first word on."""

    config: Config

    def weigh(self, tokens: Tensor, prompts: Sequence[str]) -> Verdict:
        """``score``, ``confidence`` and ``likelihood`` (nats a word)."""
        rows, words = self.rows(prompts)
        _, states = begin(self.model.conditioner, rows, tokens)
        found = [self._of_one(row, ids) for row, ids in zip(states, words, strict=True)]
        verdict = {name: torch.stack([one[name] for one in found]) for name in ("confidence", "likelihood")}
        return {"score": verdict[self.config.score], **verdict}

    def length(self, prompt: str) -> int:
        return len(self.rows([prompt])[0][0])

    def rows(self, prompts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Ids of each whole sequence, and of the prompt at its end.

        Raises:
            UserError: a prompt of a single word, of which the published window leaves no prediction to check.
        """
        chat = self.model.chat
        words = [chat.words(prompt) for prompt in prompts]
        if self.config.window == "published" and min(map(len, words)) < 2:
            raise UserError(
                "verifier: a prompt of one token has no published prompt likelihood; set window: predictive"
            )
        return [chat.prompt([asked(REQUEST)]) + ids for ids in words], words

    def _of_one(self, states: Tensor, words: list[int]) -> dict[str, Tensor]:
        """Of one sequence's states ``[L, H]``, which end with those of its prompt."""
        is_published = self.config.window == "published"
        window = states[-len(words) :] if is_published else states[-len(words) - 1 : -1]
        logits = self.model.conditioner.logits(window)
        predicted, targets = (logits[:-1], words[1:]) if is_published else (logits, words)
        likelihood = predicted.log_softmax(-1).gather(1, torch.tensor(targets, device=logits.device)[:, None])
        return {"confidence": self_certainty(logits).mean(), "likelihood": likelihood.mean()}
