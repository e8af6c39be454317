"""Stopping on the way changes nothing; what is seen there is where the picture is heading."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tiny_generator
import two_ranks
from raekit import distributed, shares, trajectories
from raekit.errors import UserError
from raekit.generate import TextToImage
from raekit.samplers import SAMPLERS
from raekit.samplers.ode import VelocityFn
from raekit.samplers.settings import Sampling
from raekit.trajectories import WHOLE_ONLY, Route, Trajectories
from raekit.variations import Start

SHAPE = (2, 3, 3)
JOBS = [(0, 5), (1, 6), (0, 7), (1, 8), (2, 9)]


def velocity_of(rows: Sequence[int]) -> VelocityFn:
    """Another field for each prompt."""
    targets = torch.tensor([float(row) for row in rows])[:, None, None, None]
    return lambda z, t: (z - targets) * (1 + t[:, None, None, None].sin())


def under_way(batch_size: int = 2, start: Start | None = None, **settings: object) -> Trajectories:
    sampling = Sampling.model_validate({"steps": 6, **settings})
    return Trajectories(Route(velocity_of, sampling, 2.0, SHAPE, torch.device("cpu"), start), JOBS, batch_size)


class Casts(TorchDispatchMode):
    """Counts how often something of the given shape is rounded to bf16."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        is_cast = func.name() == "aten::_to_copy" and (kwargs or {}).get("dtype") == torch.bfloat16
        self.count += is_cast and args[0].shape == self.shape
        return func(*args, **(kwargs or {}))


def test_weights_are_rounded_once_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a finished generator, whose weights could learn though nothing does."""
    generator = TextToImage.load(tiny_generator.saved(tmp_path), "cpu", precision="bf16")
    weight = generator.backbone.blocks[0].attention.qkv.weight
    drawn, counts = [], []
    for _ in range(2):
        with Casts(weight.shape) as casts:
            drawn.append(generator.sample("a red circle", steps=5, guidance_scale=2.0))
        counts.append(casts.count)
        monkeypatch.setattr(trajectories, "keeping_casts", lambda device: nullcontext())
    assert counts[0] < counts[1] and counts[1] == 5 * counts[0]
    assert torch.equal(*drawn)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name not in WHOLE_ONLY])
def test_a_pause_changes_nothing(sampler: str) -> None:
    straight = under_way(sampler=sampler).finish()
    stopped = under_way(sampler=sampler)
    assert stopped.pause(2).shape == (5, *SHAPE) and stopped.step == 2
    stopped.pause(4)
    # An adaptive sampler chooses its steps anew after a pause; its tolerance is all that it promises.
    tolerance = 1e-3 if sampler == "dopri5" else 1e-6
    torch.testing.assert_close(stopped.finish(), straight, rtol=tolerance, atol=tolerance)
    assert stopped.step == stopped.num_steps == 6 and stopped.x is None


def test_a_variation_may_be_stopped_too() -> None:
    start = Start(torch.ones(3, *SHAPE), 0.5)
    stopped = under_way(start=start)
    stopped.pause(3)
    torch.testing.assert_close(stopped.finish(), under_way(start=start).finish())


def test_what_is_seen_is_one_step_from_where_it_stopped() -> None:
    stopped = under_way()
    x = stopped.pause(3)
    seen = []
    rest = under_way()
    rest.pause(2)
    rest.finish(seen.append)
    expected = torch.cat([report["x"] for report in seen if report["step"] == 2])
    torch.testing.assert_close(x, expected)


def test_those_that_are_kept_go_on_as_if_alone() -> None:
    whole = under_way().finish()
    thinned = under_way(sampler="sde")
    everyone = under_way(sampler="sde").finish()
    thinned.pause(2)
    thinned.keep([3, 0])
    assert thinned.jobs == [(1, 8), (0, 5)]
    torch.testing.assert_close(thinned.finish(), everyone[[3, 0]])
    assert not torch.allclose(whole, everyone)


def test_the_callback_counts_on_after_a_pause() -> None:
    seen: list[tuple[int, int, int, int]] = []
    stopped = under_way(batch_size=4)

    def tell(report: dict) -> None:
        seen.append((report["first"], report["step"], report["num_steps"], report["num_images"]))

    stopped.pause(1, tell)
    stopped.keep([0, 1])
    stopped.finish(tell)
    assert seen == [(0, 0, 6, 5), (4, 0, 6, 5), *((0, step, 6, 2) for step in range(1, 6))]


@pytest.mark.parametrize("step", [0, 6, 9])
def test_a_pause_lies_on_the_way(step: int) -> None:
    with pytest.raises(ValueError, match=f"step: {step} is not between 0 and 6"):
        under_way().pause(step)


def test_a_sampler_of_ones_own_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAMPLERS._rows, "mine", "raekit.samplers.ode:euler")
    stopped = under_way(sampler="mine")
    stopped.pause(2)
    torch.testing.assert_close(stopped.finish(), under_way().finish())


def test_published_samplers_cannot_be_stopped() -> None:
    with pytest.raises(UserError, match="'scale_rae_published' cannot be stopped.*euler, heun, dopri5, sde"):
        under_way(sampler="scale_rae_published", time_grid="scale_rae_published").pause(2)


def take_on() -> None:
    distributed.join(torch.device("cpu"))
    found = []
    for together in (nullcontext(), shares.sharing()):
        with together:
            way = under_way(sampler="sde", steps=4)
            way.pause(2)
            # In batches of two, the pictures that are left come to processes that did not begin them.
            way.keep(range(1, len(way.jobs)))
            found.append(way.finish())
    assert torch.equal(*found)


def test_another_process_takes_a_picture_on_with_its_own_noise() -> None:
    two_ranks.run(take_on)
