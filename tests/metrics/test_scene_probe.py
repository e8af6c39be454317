"""The learned checker: the readout against its formula, and the whole on shapes seen through a random encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_encoders
import tiny_sprites
from raekit.data.scene_plan import assorted
from raekit.errors import UserError
from raekit.metrics.scene_probe import SHRINKAGE, Discriminant, SceneProbe, build_encoder
from raekit.metrics.scene_templates import TemplateChecker
from raekit.metrics.templates import Templates


@pytest.mark.parametrize("width", [3, 40])
def test_the_readout_is_linear_discriminant_analysis(width: int) -> None:
    names = ["b", "a", "c"] * 8
    features = torch.randn(24, width) + torch.tensor([[0.0], [2.0], [4.0]]).repeat(8, 1) * torch.randn(width)
    found = Discriminant(features, names)(features[:5])
    values = features.double()
    centroids = torch.stack([values[[n == name for n in names]].mean(0) for name in "abc"])
    within = values - centroids[[ord(name) - ord("a") for name in names]]
    scatter = within.T @ within / 24
    scatter += SHRINKAGE * scatter.diagonal().mean() * torch.eye(width)
    far = values[:5, None] - centroids
    odds = -0.5 * torch.einsum("ncd,de,nce->nc", far, torch.linalg.inv(scatter), far)
    torch.testing.assert_close(found, odds.softmax(dim=1), atol=1e-6, rtol=1e-5)


def test_shapes_are_named_by_their_tokens(tmp_path: Path) -> None:
    scenes = tiny_sprites.scenes(tmp_path)
    kinds = sorted(scenes.sprites[tiny_sprites.STYLE])
    generator = np.random.default_rng(0)
    practice = [
        scenes.draw(objects, tiny_sprites.STYLE, generator) for _ in range(6) for objects in assorted(kinds, generator)
    ]
    encoder = tiny_encoders.build("nano", tmp_path / "encoder")
    probe = SceneProbe(TemplateChecker(Templates.of(scenes)), encoder, practice)
    assert probe.describe()["crops"] == 6 * 2 * len(kinds)
    tests = [scenes.draw(objects, tiny_sprites.STYLE, generator) for objects in assorted(kinds, generator)]
    blank = np.full((64, 64, 3), 250, np.uint8)
    *found, nothing = probe.look([*(image for image, _ in tests), blank])
    assert nothing == [] and probe.look([blank]) == [[]]
    right = total = 0
    for things, (_, truth) in zip(found, tests, strict=True):
        for thing in truth:
            centre = [(thing["box"][i] + thing["box"][i + 2]) / 128 for i in (0, 1)]
            at = [t for t in things if t.box[0] <= centre[0] <= t.box[2] and t.box[1] <= centre[1] <= t.box[3]]
            right += any(each.kind == thing["class"] for each in at)
            total += 1
    assert right > 0.5 * total  # of eleven classes, in eleven tints, by an encoder that was never trained


def test_encoders_by_name(tmp_path: Path) -> None:
    directory = tiny_encoders.save("nano", tmp_path / "nano")
    assert build_encoder(f"nano={directory}").width == tiny_encoders.build("nano", tmp_path / "again").width
    with pytest.raises(UserError, match="encoder: unknown name 'nanoo'; did you mean 'nano'"):
        build_encoder("nanoo")
