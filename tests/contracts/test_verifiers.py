"""Every verifier of the registry keeps the contract of ``verifiers/base.py``; a new row is tested at once."""

from __future__ import annotations

import pytest
import torch

from raekit.multimodal.unified import UnifiedModel
from raekit.verifiers import VERIFIERS
from raekit.verifiers.base import Verifier
from tiny_unified import in_rae

LATENTS = torch.randn(3, 32, 4, 4, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a red apple", "sun", "a tree on a hill"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> UnifiedModel:
    return in_rae(tmp_path_factory.mktemp("unified"))


@pytest.fixture(params=list(VERIFIERS))
def verifier(request: pytest.FixtureRequest, model: UnifiedModel) -> Verifier:
    built: Verifier = VERIFIERS.build(VERIFIERS[request.param].Config(), model)
    return built


def test_one_finite_score_for_each(verifier: Verifier) -> None:
    scores = verifier(LATENTS, PROMPTS)
    assert scores.shape == (3,) and scores.isfinite().all() and scores.unique().shape == (3,)
    assert not scores.requires_grad and scores.device.type == "cpu"
    verdict = verifier.judge(LATENTS, PROMPTS)
    assert torch.equal(verdict["score"], scores)
    assert all(value.shape == (3,) for value in verdict.values())


def test_a_score_does_not_depend_on_the_others(verifier: Verifier) -> None:
    together = verifier(LATENTS, PROMPTS)
    alone = torch.cat([verifier(LATENTS[i : i + 1], PROMPTS[i]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


def test_it_depends_on_picture_and_prompt(verifier: Verifier) -> None:
    same_prompt = verifier(LATENTS, "sun")
    assert same_prompt.unique().shape == (3,)
    same_picture = verifier(LATENTS[:1].expand(3, -1, -1, -1), PROMPTS)
    assert same_picture.unique().shape == (3,)
