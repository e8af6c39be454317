"""Drawing taken apart; guidance costs what it should."""

from __future__ import annotations

from raekit.bench.sample import bench_sample
from raekit.generate import load_generator


def test_guidance_doubles_the_samplers_operations_and_nothing_else() -> None:
    generator = load_generator(None, "cpu")
    prompts = ["a red apple", "a cat"]
    one, two = (bench_sample(generator, prompts, steps, 1.0, repeats=1).call_flops for steps in (1, 2))
    guided = bench_sample(generator, prompts, 1, 3.0, repeats=1)
    assert guided.call_flops - one == two - one
    assert set(guided.part_seconds) == {"prompts", "sampler", "decoder"} and guided.images == 2
