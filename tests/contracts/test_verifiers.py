"""Every verifier of the registry keeps the contract of ``verifiers/base.py``; a new row is tested at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_clip
from raekit.multimodal.unified import UnifiedModel
from raekit.verifiers import VERIFIERS
from raekit.verifiers.base import LatentVerifier, Verifier
from tiny_unified import in_rae

LATENTS = torch.randn(3, 32, 4, 4, generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a red apple", "sun", "a tree on a hill"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> UnifiedModel:
    return in_rae(tmp_path_factory.mktemp("unified"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.saved(tmp_path_factory.mktemp("clip"))


@pytest.fixture(params=list(VERIFIERS))
def verifier(request: pytest.FixtureRequest, model: UnifiedModel, clip: Path) -> Verifier:
    kind = VERIFIERS[request.param]
    settings = {"path": str(clip)} if request.param == "clip_score" else {}
    config = kind.Config.model_validate(settings)
    built: Verifier = VERIFIERS.build(config, model) if issubclass(kind, LatentVerifier) else VERIFIERS.build(config)
    return built


@pytest.fixture
def candidates(verifier: Verifier) -> torch.Tensor:
    return LATENTS if isinstance(verifier, LatentVerifier) else IMAGES


def test_one_finite_score_for_each(verifier: Verifier, candidates: torch.Tensor) -> None:
    scores = verifier(candidates, PROMPTS)
    assert scores.shape == (3,) and scores.isfinite().all() and scores.unique().shape == (3,)
    assert not scores.requires_grad and scores.device.type == "cpu" and scores.dtype == torch.float64
    verdict = verifier.judge(candidates, PROMPTS)
    assert torch.equal(verdict["score"], scores)
    assert all(value.shape == (3,) for value in verdict.values())


def test_a_score_does_not_depend_on_the_others(verifier: Verifier, candidates: torch.Tensor) -> None:
    together = verifier(candidates, PROMPTS)
    alone = torch.cat([verifier(candidates[i : i + 1], PROMPTS[i]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


def test_it_depends_on_picture_and_prompt(verifier: Verifier, candidates: torch.Tensor) -> None:
    same_prompt = verifier(candidates, "sun")
    assert same_prompt.unique().shape == (3,)
    same_picture = verifier(candidates[:1].expand(3, -1, -1, -1), PROMPTS)
    assert same_picture.unique().shape == (3,)
