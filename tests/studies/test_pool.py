"""Candidates are drawn once and judged once, also over several runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_generator
from raekit.errors import UserError
from raekit.generate import TextToImage
from raekit.studies.pool import STRIDE, VERDICTS_FILE, Pool


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    return tiny_generator.text_to_image(tmp_path_factory.mktemp("text"))


def pool(directory: Path, generator: TextToImage, **sampling: object) -> Pool:
    return Pool(directory, generator, dict(sampling), pause=1, seed=7)


def test_candidates_are_the_generators_own(generator: TextToImage, tmp_path: Path) -> None:
    drawn = pool(tmp_path, generator).draw(2, "sun", 3)
    expected = generator.sample("sun", num=3, seed=7 + 2 * STRIDE)
    torch.testing.assert_close(drawn.latents, expected, rtol=1e-4, atol=1e-4)
    way = generator.trajectories("sun", 3, 7 + 2 * STRIDE)
    torch.testing.assert_close(drawn.estimates, way.pause(1))


def test_a_second_run_draws_only_what_is_missing(
    generator: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pool(tmp_path, generator).draw(0, "sun", 2)
    asked = []
    trajectories = TextToImage.trajectories

    def counted(self: TextToImage, prompts: object, num: int, seed: int, **options: object) -> object:
        asked.append((num, seed))
        return trajectories(self, prompts, num, seed, **options)

    monkeypatch.setattr(TextToImage, "trajectories", counted)
    again = pool(tmp_path, generator)
    assert torch.equal(again.draw(0, "sun", 2).latents, first.latents) and asked == []
    more = again.draw(0, "sun", 5)
    assert asked == [(3, 9)] and len(more.latents) == len(more.estimates) == 5
    assert torch.equal(more.latents[:2], first.latents) and more.seconds > first.seconds
    fewer = again.draw(0, "sun", 1)
    assert torch.equal(fewer.latents, first.latents[:1]) and fewer.seconds == pytest.approx(more.seconds / 5)


def test_a_verdict_is_asked_for_once(generator: TextToImage, tmp_path: Path) -> None:
    asked = []

    def look(latents: torch.Tensor, prompt: str) -> list[float]:
        asked.append((len(latents), prompt))
        return latents.mean((1, 2, 3)).tolist()

    latents = torch.randn(4, 32, 4, 4)
    scores, seconds = pool(tmp_path, generator).judge("me", 0, "sun", latents[:2], look)
    again, longer = pool(tmp_path, generator).judge("me", 0, "sun", latents, look)
    assert asked == [(2, "sun"), (2, "sun")] and again[:2] == scores and longer >= seconds > 0
    torch.testing.assert_close(torch.tensor(again), latents.mean((1, 2, 3)))
    pool(tmp_path, generator).judge("another", 0, "sun", latents, look)
    assert asked[2:] == [(4, "sun")]


def test_another_setting_is_refused(generator: TextToImage, tmp_path: Path) -> None:
    pool(tmp_path, generator).draw(0, "sun", 1)
    for other, prompt in ((pool(tmp_path, generator, steps=5), "sun"), (pool(tmp_path, generator), "moon")):
        with pytest.raises(UserError, match="holds candidates of another model, prompt or setting"):
            other.draw(0, prompt, 1)
    (tmp_path / VERDICTS_FILE).write_text("{")
    with pytest.raises(UserError, match="verdicts.json is damaged"):
        pool(tmp_path, generator)
