"""Scores of pixels against transformers' own, and what the bundled model makes of a picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_clip
from raekit.errors import UserError
from raekit.verifiers.contrastive import BUNDLED, CLIPScore, SigLIPScore

PROMPTS = ["a red apple", "sun", "sun"]
IMAGES = torch.rand(3, 3, tiny_clip.IMAGE_SIZE, tiny_clip.IMAGE_SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> CLIPScore:
    path = tiny_clip.saved(tmp_path_factory.mktemp("clip"))
    return CLIPScore(CLIPScore.Config(path=str(path)))


def test_the_clip_score_is_that_of_transformers(clip: CLIPScore) -> None:
    model = tiny_clip.build()
    mean, std = (torch.tensor(value)[:, None, None] for value in (clip.image_mean, clip.image_std))
    with torch.no_grad():
        for image, prompt, score in zip(IMAGES, PROMPTS, clip(IMAGES, PROMPTS), strict=True):
            ids = clip.tokenizer([prompt], return_tensors="pt")["input_ids"]
            logit = model(input_ids=ids, pixel_values=((image - mean) / std)[None]).logits_per_image
            assert score.item() == pytest.approx(100 * (logit / model.logit_scale.exp()).item(), abs=1e-3)


def test_pictures_of_another_size_are_resized(clip: CLIPScore) -> None:
    plain = IMAGES.mean((2, 3), keepdim=True)
    small, large = plain.expand_as(IMAGES), plain.expand(3, 3, 50, 40)
    torch.testing.assert_close(clip(large, "sun"), clip(small, "sun"), rtol=1e-3, atol=1e-2)


def test_the_bundled_model_tells_colours_apart() -> None:
    verifier = SigLIPScore(SigLIPScore.Config())
    fields = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0, 0.6, 0]])[:, :, None, None].expand(3, 3, 64, 64)
    verdict = verifier.judge(fields, "Red Heart")
    assert verdict["score"].argmax() == 0
    assert torch.equal(verdict["score"], verifier(fields, "red heart")), "its text tower knows no capitals"
    scale, bias = verifier.model.logit_scale.exp().double(), verifier.model.logit_bias.double()
    torch.testing.assert_close(verdict["score"], verdict["cosine"] * scale + bias, rtol=1e-4, atol=1e-4)


def test_what_is_cut_off_a_prompt_is_told_once(clip: CLIPScore, caplog: pytest.LogCaptureFixture) -> None:
    verifier, prompt = SigLIPScore(SigLIPScore.Config()), "a red apple on a blue table beside a big green tree " * 3
    length = len(verifier.tokenizer(prompt.lower(), verbose=False)["input_ids"])
    verifier.check(["sun", prompt, prompt])
    verifier(IMAGES, prompt)
    assert [record.getMessage() for record in caplog.records] == [
        f"verifier siglip_score: {prompt[:40]!r}... has {length} tokens and this model reads 16; the last "
        f"{length - 16} are left out"
    ]
    caplog.clear()
    clip.check([f"{prompt} {number}" for number in range(30)])
    assert len(caplog.records) == 20 and "further prompts are cut without" in caplog.records[-1].getMessage()


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="verifier clip_score: '.*encoder' is a 'siglip', not a 'clip'"):
        CLIPScore(CLIPScore.Config(path=BUNDLED))
    with pytest.raises(UserError, match="verifier siglip_score: 'nowhere' is no directory"):
        SigLIPScore(SigLIPScore.Config(path="nowhere"))
    with pytest.raises(UserError, match="verifier siglip_score: .* cannot be read"):
        SigLIPScore(SigLIPScore.Config(path=str(tmp_path)))
