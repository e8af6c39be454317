"""Drawing taken apart; guidance costs what it should."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_generator
from raekit import cost
from raekit.bench.sample import bench_sample
from raekit.generate import load_generator


def test_guidance_doubles_the_samplers_operations_and_nothing_else() -> None:
    generator = load_generator(None, "cpu")
    prompts = ["a red apple", "a cat"]
    one, two = (bench_sample(generator, prompts, steps, 1.0, repeats=1).call_flops for steps in (1, 2))
    guided = bench_sample(generator, prompts, 1, 3.0, repeats=1)
    assert guided.call_flops - one == two - one
    assert set(guided.part_seconds) == {"prompts", "sampler", "decoder"} and guided.count == 2


def test_each_part_is_timed_by_itself_however_slow_the_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, laps = tiny_generator.text_to_image(tmp_path), iter((1.0, 0.5, 0.25, 0.125))
    monkeypatch.setattr(cost, "seconds_of", lambda call, *_: (call(), next(laps))[1])
    report = bench_sample(generator, ["a red apple"], 1, 1.0, repeats=1)
    assert report.call_seconds == 1.0
    assert report.part_seconds == {"prompts": 0.5, "sampler": 0.25, "decoder": 0.125}
