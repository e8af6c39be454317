"""What all verifiers share: who is judged, in which batches, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from raekit.errors import UserError
from raekit.multimodal.unified import UnifiedModel
from raekit.verifiers.base import LatentVerifier, PixelVerifier, Verdict, VerifierConfig
from tiny_unified import in_rae, in_vae

LATENTS = torch.randn(5, 32, 4, 4, generator=torch.Generator().manual_seed(0))


class MeanOf(LatentVerifier):
    """Mean of the tokens, and how long the prompt is."""

    class Config(VerifierConfig):
        name: Literal["mean_of"] = "mean_of"

    def __init__(self, config: VerifierConfig, model: UnifiedModel) -> None:
        super().__init__(config, model)
        self.sizes: list[int] = []

    def weigh(self, tokens: Tensor, prompts: Sequence[str]) -> Verdict:
        self.sizes.append(len(tokens))
        return {"score": tokens.mean((1, 2)), "length": torch.tensor([len(prompt) for prompt in prompts])}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> UnifiedModel:
    return in_rae(tmp_path_factory.mktemp("unified"))


def test_candidates_are_judged_in_batches(model: UnifiedModel) -> None:
    verifier = MeanOf(MeanOf.Config(batch_size=2), model)
    verdict = verifier.judge(LATENTS, ["a", "bc", "def", "a", "bc"])
    assert verifier.sizes == [2, 2, 1]
    assert verdict["length"].tolist() == [1, 2, 3, 1, 2]
    torch.testing.assert_close(verdict["score"].float(), LATENTS.mean((1, 2, 3)))
    assert torch.equal(verifier(LATENTS, "sun"), verdict["score"])
    assert verdict["score"].dtype == torch.float64


@pytest.mark.parametrize(
    ("latents", "prompts", "message"),
    [
        (LATENTS, ["a", "b"], "verifier: 2 prompts for 5 pictures"),
        (LATENTS[:0], "a", "verifier: 0 prompts for 0 pictures"),
        (LATENTS[:2], ["a", " "], "verifier: a prompt is empty"),
        (LATENTS[:, :8], "a", r"latent: \[8, 4, 4\] is none of this model's"),
    ],
)
def test_what_cannot_be_judged(model: UnifiedModel, latents: Tensor, prompts, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MeanOf(MeanOf.Config(), model)(latents, prompts)


def test_a_judge_that_cannot_see_latents_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="latent space of a VAE"):
        MeanOf(MeanOf.Config(), in_vae(tmp_path))


class Redness(PixelVerifier):
    """How red a picture is."""

    class Config(VerifierConfig):
        name: Literal["redness"] = "redness"

    def weigh(self, tokens: Tensor, prompts: Sequence[str]) -> Verdict:
        return {"score": tokens[:, 0].mean((1, 2))}


def test_a_verifier_of_pixels_needs_no_model() -> None:
    images = torch.rand(5, 3, 8, 8)
    scores = Redness(Redness.Config(batch_size=2))(images.half(), "sun")
    torch.testing.assert_close(scores.float(), images[:, 0].mean((1, 2)), rtol=0, atol=1e-3)
    with pytest.raises(UserError, match="redness reads text, and this model takes labels"):
        Redness(Redness.Config())(images, [1, 2, 3, 4, 5])
