"""Figures of pictures whose figures are known on paper."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raekit.evaluate.figures import PIXELS, Instruments, Ledger, Mean, PixelRule
from raekit.metrics.features import FeatureNetwork
from raekit.metrics.readers import Reader


class Brightness(FeatureNetwork):
    """A picture's mean, and its square."""

    metric, width = "fd_brightness", 2

    @property
    def source(self) -> str:
        return "made up"

    def forward(self, image: Tensor) -> Tensor:
        mean = image.flatten(1).mean(dim=1, keepdim=True)
        return torch.cat([mean, mean.square()], dim=1)


class Literate(Reader):
    """Reads a word in white pictures."""

    @classmethod
    def is_available(cls) -> bool:
        return True

    def describe(self) -> str:
        return "literate"

    def read(self, pixels) -> str:
        return "white" if pixels.min() == 255 else ""


INSTRUMENTS = Instruments({"fd_brightness": Brightness()}, reader=Literate())


def plain(*levels: float) -> Tensor:
    return torch.stack([torch.full((3, 8, 8), level) for level in levels])


def entered(ledger: Ledger, real: Tensor, made: Tensor, domains: list[str], texts: list[str]) -> Ledger:
    seen = INSTRUMENTS.look(real, texts), INSTRUMENTS.look(made, texts)
    ledger.add(domains, texts, *seen, INSTRUMENTS.compare(made, real))
    return ledger


def test_a_mean_has_its_error() -> None:
    found = Mean.of(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert found.value == 3
    assert found.standard_error == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3 / 4))
    assert Mean.of(torch.tensor([5.0])) == Mean(5, 0)


def test_figures_by_domain_and_over_all() -> None:
    real, made = plain(0.5, 1.0, 0.25, 1.0), plain(0.6, 1.0, 0.25, 0.9)
    domains, texts = ["a", "b", "a", "b"], ["", "white", "", "white"]
    ledger = entered(Ledger("r"), real, made, domains, texts)
    found, overall = ledger.domains(), ledger.overall()
    assert found["a"].means["psnr"].value == pytest.approx((20 + 100) / 2, abs=1e-4)
    assert overall.means["psnr"].value == pytest.approx((20 + 100 + 100 + 20) / 4, abs=1e-4)
    assert (found["a"].num_images, overall.num_images) == (2, 4)
    assert found["a"].recall is None
    assert overall.recall == found["b"].recall
    assert (overall.recall.value, overall.recall.ceiling) == (0.5, 1.0)
    assert set(overall.distances) == {"rfd_brightness"}
    assert overall.distances["rfd_brightness"].value > 0
    assert found["a"].sharpness == 1


@pytest.mark.parametrize("split", [1, 3])
def test_batches_do_not_show(split: int) -> None:
    generator = torch.Generator().manual_seed(0)
    real, made = torch.rand(7, 3, 8, 8, generator=generator), torch.rand(7, 3, 8, 8, generator=generator)
    domains, texts = list("abaabba"), [""] * 7
    whole, parts = entered(Ledger(), real, made, domains, texts), Ledger()
    for first in range(0, 7, split):
        rows = slice(first, first + split)
        entered(parts, real[rows], made[rows], domains[rows], texts[rows])
    for name in "ab":
        assert_close(whole.domains()[name], parts.domains()[name])
    assert_close(whole.overall(), parts.overall())


def assert_close(a, b) -> None:
    assert a.num_images == b.num_images
    assert a.sharpness == pytest.approx(b.sharpness, rel=1e-9)
    for name in a.means:
        assert a.means[name].value == pytest.approx(b.means[name].value, rel=1e-6)
    for name in a.distances:
        assert a.distances[name].value == pytest.approx(b.distances[name].value, rel=1e-6)


def test_one_picture_of_a_domain_has_no_distance() -> None:
    ledger = entered(Ledger(), plain(0.1, 0.2, 0.3), plain(0.1, 0.2, 0.3), ["a", "a", "b"], [""] * 3)
    assert ledger.domains()["b"].distances == {}
    assert ledger.overall().distances["fd_brightness"].value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("pixels", "level"), [("rounded", 2 / 255), ("truncated", 1 / 255), ("exact", 1.7 / 255)])
def test_what_becomes_of_a_decoders_output(pixels: PixelRule, level: float) -> None:
    assert set(PIXELS) == {"rounded", "truncated", "exact"}
    shown = Instruments(pixels=pixels).as_shown(torch.tensor([-1.0, 1.7 / 255, 2.0]))
    assert shown.tolist() == pytest.approx([0, level, 1], abs=1e-7)
