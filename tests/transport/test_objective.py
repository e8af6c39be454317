"""The loss is what the formula says, is zero for a perfect model, and reads outputs as velocities."""

import pytest
import torch
from torch import Tensor

from raekit.transport import TIMESTEPS
from raekit.transport.objective import FlowMatching
from raekit.transport.path import path_sample
from raekit.transport.timesteps import rae_uniform

DIM = 2 * 3 * 3


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(5, 2, 3, 3), torch.linspace(0.01, 0.99, 5), torch.randn(5, 2, 3, 3)


def objective(**settings: object) -> FlowMatching:
    return FlowMatching(FlowMatching.Config(**settings), latent_dim=DIM)


def test_velocity_loss_is_the_mean_square_per_sample(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    z, t, eps = batch
    output = torch.randn_like(z)
    loss = objective().loss(lambda z_t, t, cond: output, z, None, t, eps)
    torch.testing.assert_close(loss, (output - (eps - z)).square().mean((1, 2, 3)))


def test_x_loss_is_the_velocity_loss_above_the_floor(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    z, t, eps = batch
    x = torch.randn_like(z)
    loss = objective(prediction="x", t_eps=0.05).loss(lambda z_t, t, cond: x, z, None, t, eps)
    z_t, velocity, _ = path_sample(z, eps, t)
    expected = ((z_t - x) / t.view(-1, 1, 1, 1) - velocity).square().mean((1, 2, 3))
    torch.testing.assert_close(loss[1:], expected[1:], rtol=1e-4, atol=1e-5)
    assert loss[0] < expected[0]  # t = 0.01 lies below the floor


@pytest.mark.parametrize("prediction", ["velocity", "x"])
def test_a_perfect_model_has_no_loss_at_any_time(prediction: str, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    z, t, eps = batch
    perfect = {"velocity": eps - z, "x": z}[prediction]
    loss = objective(prediction=prediction).loss(lambda z_t, t, cond: perfect, z, None, t, eps)
    torch.testing.assert_close(loss, torch.zeros(5), rtol=0, atol=1e-10)


@pytest.mark.parametrize("prediction", ["velocity", "x"])
def test_velocity_reads_a_perfect_output(prediction: str, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    z, t, eps = batch
    point = path_sample(z, eps, t)
    perfect = {"velocity": eps - z, "x": z}[prediction]
    velocity = objective(prediction=prediction).velocity_of(lambda z_t, t, cond: perfect)(point.z_t, t, None)
    torch.testing.assert_close(velocity, point.velocity, rtol=1e-3, atol=1e-4)


def test_loss_of_half_precision_latents_is_float32(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    z, t, eps = batch
    loss = objective().loss(lambda z_t, t, cond: z_t.bfloat16(), z.bfloat16(), None, t, eps.bfloat16())
    assert loss.dtype == torch.float32


def test_shift_follows_from_the_latent_dimension_unless_it_is_given() -> None:
    assert objective().time_shift == pytest.approx((DIM / 4096) ** 0.5)
    assert objective(base_dim=DIM).time_shift == 1
    assert objective(time_shift=3.0).time_shift == 3


def test_sample_t_applies_law_then_shift() -> None:
    flow = objective(timesteps="uniform", time_shift=2.0)
    torch.testing.assert_close(flow.sample_t(torch.tensor([0.0, 0.5])), torch.tensor([0.0, 2 / 3]))


def test_normal_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="uniform draws"):
        objective().sample_t(torch.tensor([0.5, -1.3]))


def test_every_registered_law_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TIMESTEPS._rows, "mine", "raekit.transport.timesteps:rae_uniform")
    assert objective(timesteps="mine").time_law is rae_uniform
    assert FlowMatching.Config.model_json_schema()["properties"]["timesteps"]["enum"] == list(TIMESTEPS)
    with pytest.raises(ValueError, match="unknown name; did you mean 'uniform'"):
        objective(timesteps="unifrom")


@pytest.mark.parametrize("prediction", ["velocity", "x"])
def test_both_heads_answer_to_the_same_target(prediction: str, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    z, t, eps = batch
    late, early, flow = torch.randn_like(z), torch.randn_like(z), objective(prediction=prediction, self_weight=0.25)
    terms = flow.losses(lambda z_t, t, cond: (late, early), z, None, t, eps)
    torch.testing.assert_close(terms["flow"], flow.loss(lambda z_t, t, cond: late, z, None, t, eps))
    torch.testing.assert_close(terms["self"], flow.loss(lambda z_t, t, cond: early, z, None, t, eps))
    torch.testing.assert_close(terms["loss"], terms["flow"] + 0.25 * terms["self"])
    assert objective().config.self_weight == 0.5


def test_velocities_of_both_heads(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    z, t, eps = batch
    point, flow = path_sample(z, eps, t), objective(prediction="x")
    exact, half = flow.velocities_of(lambda z_t, t, cond: (z, z / 2))(point.z_t, t, None)
    torch.testing.assert_close(exact, point.velocity, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(half, flow.velocity(z / 2, point.z_t, t))


def test_x_prediction_has_bounded_gradients_near_data() -> None:
    """At t -> 0 the weight of a sample is 1 / t_eps^2 and no more."""
    z, eps, t = torch.randn(3, 2, 3, 3), torch.randn(3, 2, 3, 3), torch.tensor([0.0, 1e-6, 0.05])
    x = (z + 0.1).requires_grad_()
    objective(prediction="x").loss(lambda z_t, t, cond: x, z, None, t, eps).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(z, 2 * 0.1 / 0.05**2 / DIM), rtol=1e-3, atol=0)
