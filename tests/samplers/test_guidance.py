"""Guidance formulas, their interval, and that no forward pass is wasted."""

import pytest
import torch
from torch import Tensor

from raekit.conditioning.base import Cond
from raekit.errors import UserError
from raekit.samplers.guidance import (
    AutoGuidance,
    ClassifierFree,
    Guided,
    InternalGuidance,
    guide,
    published_guide_outside,
)
from raekit.samplers.ode import euler
from raekit.samplers.settings import Sampling
from raekit.transport.timesteps import linear_grid

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


class TwoHeads:
    """A model that says 2, and 1 at its early head; counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def velocity(self, z_t: Tensor, t: Tensor, cond: Cond | None = None) -> Tensor:
        self.asked.append("output")
        return torch.full_like(z_t, 2.0)

    def velocities(self, z_t: Tensor, t: Tensor, cond: Cond | None = None) -> tuple[Tensor, Tensor]:
        self.asked.append("both")
        return torch.full_like(z_t, 2.0), torch.full_like(z_t, 1.0)


@pytest.mark.parametrize(("t", "asked", "expected"), [(0.5, "both", 2 + 0.78 * (2 - 1)), (0.05, "output", 2.0)])
def test_internal_guidance_is_one_pass(t: float, asked: str, expected: float) -> None:
    """RAEv2's setting: 1.78 on t > 0.1, and full + w (full - early) with w = 0.78."""
    model = TwoHeads()
    guided = InternalGuidance(model.velocity, model.velocities, 1.78, (0.1, 1.0))
    torch.testing.assert_close(run(guided, t), torch.full((B,), expected))
    assert model.asked == [asked]


@pytest.mark.parametrize("kind", ["cfg", "internal", "auto"])
def test_scale_1_asks_for_nothing_but_the_model(kind: str) -> None:
    model, calls = TwoHeads(), []
    parts = Guided(model.velocity, Cond(vector=torch.ones(B, 1)), None, None, lambda z_t, t: calls.append("weak"))
    settings = Sampling(guidance=kind, guidance_scale=1.0, guide="weak")
    torch.testing.assert_close(run(guide(parts, settings), 0.5), torch.full((B,), 2.0))
    assert model.asked == ["output"] and not calls


def test_settings_choose_the_kind() -> None:
    model, two = Model(), TwoHeads()
    cond, null = Cond(vector=torch.full((B, 1), 2.0)), Cond(vector=torch.full((B, 1), -1.0))
    parts = Guided(model, cond, null, two.velocities, lambda z_t, t: torch.full_like(z_t, 0.5))

    def first(**settings: object) -> float:
        return run(guide(parts, Sampling(guidance_scale=3.0, guide="weak", **settings)), 0.5)[0].item()

    assert first(guidance="none") == 2
    assert first(guidance="cfg") == -1 + 3 * 3
    assert first(guidance="internal") == 1 + 3 * 1
    assert first(guidance="auto") == 0.5 + 3 * 1.5
    assert first(guidance="auto", guidance_interval=(0.6, 1.0)) == 2


@pytest.mark.parametrize(
    ("kind", "need"), [("cfg", "condition.dropout"), ("internal", "early_block"), ("auto", "weaker generator")]
)
def test_what_a_kind_needs_is_named(kind: str, need: str) -> None:
    with pytest.raises(UserError, match=f"guidance: '{kind}' needs .*{need}"):
        guide(Guided(Model(), Cond()), Sampling(guidance=kind, guide="weak"))


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5, 7.0])
def test_guidance_of_linear_fields_has_its_closed_form(scale: float) -> None:
    """Fields a z with the condition, b z without: dz/dt = r z, r = b + s (a - b), so z(0) = z(1) exp(-r)."""
    rates = {"cond": 0.5, "null": -0.25}

    def velocity(z_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return cond.vector.view(-1, 1, 1, 1) * z_t

    conds = [Cond(vector=torch.full((B, 1), rate, dtype=torch.float64)) for rate in rates.values()]
    z = torch.randn(B, 2, 1, 1, dtype=torch.float64)
    drawn = euler(ClassifierFree(velocity, *conds, scale), z, linear_grid(2000))
    rate = rates["null"] + scale * (rates["cond"] - rates["null"])
    torch.testing.assert_close(drawn, z * torch.tensor(-rate).exp(), rtol=2e-2, atol=1e-3)
