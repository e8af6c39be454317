"""Every conditioner of the registry keeps the contract of ``conditioning/base.py``; a new row is tested at once."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from raekit.conditioning import CONDITIONERS
from raekit.conditioning.base import Cond, Conditioner
from tiny_language_model import saved

N, WIDTH = 4, 12
PROMPTS = ["a red apple", "sun", "a green tree"]
CASES = {
    "label": ({"width": WIDTH, "num_classes": 5}, torch.tensor([0, 3, 4])),
    "query": ({"width": WIDTH, "precision": "fp32"}, PROMPTS),
    "text": ({"width": WIDTH, "precision": "fp32", "has_pooled_vector": True}, PROMPTS),
    "unified": ({"width": WIDTH, "precision": "fp32"}, PROMPTS),
}
"""Settings that make a conditioner small, and three different inputs for it."""
WORDS = {"context", "mask"}
"""Fields whose second axis is as long as the prompt."""


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.getbasetemp() / "language_model")


@pytest.fixture(params=list(CONDITIONERS))
def case(request: pytest.FixtureRequest, language_model: str) -> tuple[Conditioner, list[str] | Tensor]:
    settings, prompts = CASES[request.param]
    owner = CONDITIONERS[request.param]
    if "language_model" in owner.Config.model_fields:
        settings = {**settings, "language_model": language_model}
    torch.manual_seed(0)
    return CONDITIONERS.build(owner.Config(**settings), num_tokens=N), prompts


def tensors(cond: Cond) -> dict[str, Tensor]:
    return {f.name: value for f in fields(cond) if (value := getattr(cond, f.name)) is not None}


def test_cond_and_null_have_the_same_fields_and_shapes(case: tuple[Conditioner, list[str] | Tensor]) -> None:
    conditioner, prompts = case
    cond, null = tensors(conditioner(prompts)), tensors(conditioner.null(3))
    assert cond and cond.keys() == null.keys()
    for name, value in cond.items():
        assert name in WORDS or value.shape == null[name].shape
        assert len(value) == len(null[name]) == 3
        assert name == "mask" or value.shape[-1] == conditioner.width == WIDTH
        assert name != "tokens" or value.shape[1] == N


def test_same_input_same_cond_other_input_other_cond(case: tuple[Conditioner, list[str] | Tensor]) -> None:
    conditioner, prompts = case
    first, again = tensors(conditioner(prompts)), tensors(conditioner(prompts))
    for name, value in first.items():
        assert torch.equal(value, again[name])
        if name != "mask":
            assert not torch.allclose(value[0], value[1])


def test_a_sample_does_not_depend_on_its_batch(case: tuple[Conditioner, list[str] | Tensor]) -> None:
    conditioner, prompts = case
    together, alone = tensors(conditioner(prompts)), tensors(conditioner(prompts[1:2]))
    for name in together.keys() - {"mask"}:
        length = slice(alone[name].shape[1]) if name == "context" else slice(None)
        torch.testing.assert_close(together[name][1:2, length], alone[name], rtol=0, atol=1e-5)


def test_dropout_takes_the_null_where_the_draw_falls_below_it(case: tuple[Conditioner, list[str] | Tensor]) -> None:
    conditioner, prompts = case
    assert conditioner.dropout == pytest.approx(0.1)
    cond, null = conditioner(prompts), conditioner.null(3)
    dropped = tensors(conditioner.drop(cond, torch.tensor([0.05, 0.1, 0.9])))
    for name, value in dropped.items():
        absent = tensors(null)[name][0]
        length = slice(len(absent)) if name in WORDS else slice(None)
        assert torch.equal(value[0][length], absent)
        assert name != "mask" or not value[0][len(absent) :].any()
        assert torch.equal(value[1:], tensors(cond)[name][1:])


def test_its_form_names_its_width(case: tuple[Conditioner, list[str] | Tensor]) -> None:
    assert f"x {WIDTH}" in case[0].form


def test_every_trained_parameter_gets_a_gradient(case: tuple[Conditioner, list[str] | Tensor]) -> None:
    conditioner, prompts = case
    parts = [*tensors(conditioner(prompts)).values(), *tensors(conditioner.null(1)).values()]
    sum(part.square().sum() + part.sum() for part in parts if part.is_floating_point()).backward()
    without = [name for name, p in conditioner.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


def test_state_dict_round_trip(case: tuple[Conditioner, list[str] | Tensor]) -> None:
    conditioner, prompts = case
    expected = tensors(conditioner(prompts))
    state = {name: value.clone() for name, value in conditioner.state_dict().items()}
    with torch.no_grad():
        for parameter in conditioner.parameters():
            parameter.add_(1)
    conditioner.load_state_dict(state)
    for name, value in tensors(conditioner(prompts)).items():
        assert torch.equal(value, expected[name])
