"""Guidance formulas, their interval, and that no forward pass is wasted."""

import pytest
import torch
from torch import Tensor

from raekit.conditioning.base import Cond
from raekit.samplers.guidance import AutoGuidance, ClassifierFree, published_guide_outside

B = 3


class Model:
    """A velocity that is its condition; counts calls and rows."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, z_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        self.rows.append(len(z_t))
        return cond.vector.view(-1, 1, 1, 1) * torch.ones_like(z_t)


@pytest.fixture
def model() -> Model:
    return Model()


def guided(model: Model, scale: float, **settings: object) -> ClassifierFree:
    cond, null = Cond(vector=torch.arange(1.0, B + 1)[:, None]), Cond(vector=torch.full((B, 1), -1.0))
    return ClassifierFree(model, cond, null, scale, **settings)


def run(velocity_fn: object, *t: float) -> Tensor:
    return velocity_fn(torch.zeros(B, 2, 1, 1), torch.tensor(t if len(t) > 1 else t * B))[:, 0, 0, 0]


def test_formula_and_one_doubled_call(model: Model) -> None:
    torch.testing.assert_close(run(guided(model, 3.0), 0.5), torch.tensor([5.0, 8.0, 11.0]))
    assert model.rows == [2 * B]


def test_scale_1_is_the_condition_alone(model: Model) -> None:
    torch.testing.assert_close(run(guided(model, 1.0), 0.5), torch.tensor([1.0, 2.0, 3.0]))
    assert model.rows == [B]


def test_scale_0_is_the_null(model: Model) -> None:
    torch.testing.assert_close(run(guided(model, 0.0), 0.5), torch.full((B,), -1.0))


@pytest.mark.parametrize(("t", "rows"), [(0.1, B), (0.2, 2 * B), (0.5, 2 * B), (0.75, 2 * B), (0.76, B)])
def test_interval_includes_its_ends_and_saves_calls_outside(model: Model, t: float, rows: int) -> None:
    velocity = run(guided(model, 2.0, interval=(0.2, 0.75)), t)
    assert model.rows == [rows]
    torch.testing.assert_close(velocity[0].item(), 3.0 if rows > B else 1.0)


def test_interval_is_read_per_sample(model: Model) -> None:
    velocity = run(guided(model, 2.0, interval=(0.2, 0.7)), 0.1, 0.5, 0.9)
    torch.testing.assert_close(velocity, torch.tensor([1.0, 5.0, 3.0]))


def test_published_law_is_inverted(model: Model) -> None:
    velocity = run(guided(model, 2.0, interval=(0.2, 0.7), law=published_guide_outside), 0.1, 0.5, 0.9)
    torch.testing.assert_close(velocity, torch.tensor([3.0, 2.0, 7.0]))


def test_published_default_interval_of_scale_rae_never_guides(model: Model) -> None:
    velocity = run(guided(model, 5.0, interval=(-1e4, 1e4), law=published_guide_outside), 0.5)
    torch.testing.assert_close(velocity, torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(("t", "weak_calls", "expected"), [(0.5, 1, 4.0), (0.05, 0, 2.0)])
def test_autoguidance_runs_the_weak_model_only_where_it_matters(t: float, weak_calls: int, expected: float) -> None:
    calls = {"good": 0, "weak": 0}

    def constant(name: str, value: float) -> object:
        def velocity(z_t: Tensor, t: Tensor) -> Tensor:
            calls[name] += 1
            return torch.full_like(z_t, value)

        return velocity

    guide = AutoGuidance(constant("good", 2.0), constant("weak", 1.0), scale=3.0, interval=(0.1, 1.0))
    torch.testing.assert_close(run(guide, t), torch.full((B,), expected))
    assert calls == {"good": 1, "weak": weak_calls}
