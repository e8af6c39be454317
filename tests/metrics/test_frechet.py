"""The Fréchet distance of Gaussians whose distance is known on paper, and sums that merge."""

from __future__ import annotations

import math

import pytest
import torch

from raekit.metrics.frechet import FeatureStatistics, distance, frechet_distance


def collected(features: torch.Tensor, batch_size: int = 1000) -> FeatureStatistics:
    statistics = FeatureStatistics(features.shape[1])
    for batch in features.split(batch_size):
        statistics.update(batch)
    return statistics


def test_one_dimension_is_the_textbook_formula() -> None:
    """``(m1 - m2)^2 + (s1 - s2)^2``."""
    found = frechet_distance(torch.tensor([1.0]), torch.tensor([[4.0]]), torch.tensor([-2.0]), torch.tensor([[25.0]]))
    assert found == pytest.approx(3**2 + (2 - 5) ** 2)


def test_covariances_that_do_not_commute() -> None:
    """``tr (A B)^(1/2)`` of 2 x 2 matrices is ``sqrt(tr AB + 2 sqrt(det AB))`` (Cayley and Hamilton)."""
    a, b = torch.tensor([[2.0, 1.0], [1.0, 3.0]]), torch.tensor([[5.0, -2.0], [-2.0, 1.0]])
    product = a @ b
    root_trace = math.sqrt(product.trace() + 2 * math.sqrt(torch.det(product)))
    expected = 5 + 6 - 2 * root_trace
    zero = torch.zeros(2)
    assert frechet_distance(zero, a, zero, b) == pytest.approx(expected, abs=1e-6)
    assert frechet_distance(zero, b, zero, a) == pytest.approx(expected, abs=1e-6)


def test_a_set_has_no_distance_to_itself_and_a_shift_costs_its_square() -> None:
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    assert distance(collected(features), collected(features)).value == pytest.approx(0, abs=1e-9)
    assert distance(collected(features), collected(features + 3)).value == pytest.approx(4 * 9, abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batches_and_merging_do_not_show(batch_size: int) -> None:
    features = 1e3 + torch.randn(21, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = collected(features[:13], batch_size)
    whole.merge(collected(features[13:], batch_size))
    whole.merge(FeatureStatistics(5))
    whole.update(features[:0])
    assert whole.count == 21
    torch.testing.assert_close(whole.mean, features.mean(dim=0), rtol=1e-12, atol=0)
    torch.testing.assert_close(whole.covariance, torch.cov(features.T), rtol=1e-9, atol=1e-9)


def test_too_few_pictures_are_said_to_be() -> None:
    few, enough = collected(torch.randn(4, 4)), collected(torch.randn(5, 4))
    found = distance(enough, few)
    assert (found.num_images, found.width, found.is_rank_deficient) == (4, 4, True)
    assert not distance(enough, enough).is_rank_deficient
    with pytest.raises(ValueError, match="covariance of 1 pictures"):
        assert collected(torch.randn(1, 4)).covariance is not None
