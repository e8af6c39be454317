"""Weights for a generator's networks, which may be outlines: taken at once or when they are filled, refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_recipes
from raekit.errors import UserError
from raekit.training.stage2 import Stage2

CPU = torch.device("cpu")


def stage(folder: Path, is_outlined: bool, monkeypatch: pytest.MonkeyPatch) -> Stage2:
    monkeypatch.setattr("raekit.training.stage2.may_be_cut", lambda config: is_outlined)
    return Stage2(tiny_recipes.resolve(tiny_recipes.stage2(folder, is_llm_trained=True)), CPU)


@pytest.fixture(params=[False, True], ids=["built", "outlined"])
def own(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage2:
    return stage(tmp_path, request.param, monkeypatch)


def test_weights_arrive_and_what_was_not_given_stays(
    own: Stage2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditioner = own.generator.conditioner
    connector = torch.randn_like(conditioner.connector.weight)
    kept = frozenset(conditioner.state_dict()) - {"connector.weight"}
    own.outlines.give(conditioner, {"connector.weight": connector}, "test", kept)
    assert torch.equal(conditioner.connector.weight, connector) != own.outlines.is_used
    own.fill()
    assert torch.equal(conditioner.connector.weight, connector)
    whole = stage(tmp_path, False, monkeypatch).state()
    found = own.state()
    assert not [name for name in whole if "connector.weight" not in name and not torch.equal(found[name], whole[name])]


def test_weights_that_do_not_fit_are_refused_before_anything_is_cut(own: Stage2) -> None:
    backbone = own.generator.backbone
    with pytest.raises(UserError, match=r"somewhere: does not fit this DiT: \d+ missing keys"):
        own.outlines.give(backbone, {}, "somewhere")
    wrong = {name: torch.zeros(3) for name in backbone.state_dict()}
    with pytest.raises(UserError, match=r"is \[3\], expected"):
        own.outlines.give(backbone, wrong, "somewhere")
