"""The Gram loss on features whose second moments are known on paper."""

from __future__ import annotations

import pytest
import torch

from raekit.losses.gram import gram, gram_distance


def test_constant_channels_have_the_outer_product_of_their_values() -> None:
    values = torch.tensor([1.0, 2.0, -3.0])
    features = values[None, :, None, None].expand(2, 3, 4, 5)
    torch.testing.assert_close(gram(features), (torch.outer(values, values) / 3).expand(2, 3, 3))


def test_distance_is_johnsons() -> None:
    """A moment of 1 against 4 over two channels: one entry differs by 3/2, squared 9/4; a second map adds its own."""
    one, two = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    one[:, 0], two[:, 0] = 1.0, 2.0
    assert gram_distance([one], [two]).item() == pytest.approx(9 / 4)
    assert gram_distance([one, two], [two, one]).item() == pytest.approx(9 / 2)


def test_place_does_not_matter_and_maps_equal_their_tokens() -> None:
    features, other = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    moved = features.flatten(2)[:, :, torch.randperm(25)].view_as(features)
    assert gram_distance([features], [moved]).item() < 1e-12
    tokens = [x.flatten(2).transpose(1, 2) for x in (features, other)]
    torch.testing.assert_close(gram_distance([features], [other]), gram_distance(tokens[:1], tokens[1:]))


def test_a_batch_is_the_mean_of_its_samples() -> None:
    a, b = torch.randn(4, 3, 5, 5), torch.randn(4, 3, 5, 5)
    single = torch.stack([gram_distance([a[i : i + 1]], [b[i : i + 1]]) for i in range(4)])
    torch.testing.assert_close(gram_distance([a], [b]), single.mean())


def test_half_precision_features_are_compared_in_full() -> None:
    a, b = (torch.randn(2, 8, 6, 6).bfloat16() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        distance = gram_distance([a], [b])
    torch.testing.assert_close(distance, gram_distance([a.float()], [b.float()]), rtol=1e-5, atol=0)
