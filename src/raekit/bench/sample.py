"""The speed of drawing: a batch of images from prompts, and where its time goes.

In: a generator and prompts. Out: a :class:`~raekit.bench.report.BenchReport`, with reading the prompts, the sampler's
steps, and the decoder, each by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from raekit import cost
from raekit.bench.report import BenchReport
from raekit.bench.step import device_name, matmul_speed
from raekit.device import pick_precision
from raekit.generate import ImageGenerator


def bench_sample(
    generator: ImageGenerator, prompts: Sequence[str | int], steps: int, guidance_scale: float, repeats: int = 3
) -> BenchReport:
    """Time drawing one image of each prompt.

    Args:
        generator: ready for use.
        prompts: captions, or labels.
        steps: of the sampler.
        guidance_scale: 1 is none.
        repeats: timed calls of the whole and of each part.
    """
    device = generator.device
    listed = list(prompts)

    def latents() -> torch.Tensor:
        return generator.sample(listed, steps=steps, guidance_scale=guidance_scale)

    def draw() -> torch.Tensor:
        return generator.decode(latents())

    drawn = latents()
    flops = cost.count_flops(draw)
    cost.forget_peak(device)
    seconds = cost.seconds_of(draw, device, repeats)
    peak = cost.peak_bytes(device)
    with torch.no_grad():
        reading = cost.seconds_of(lambda: generator._read(listed), device, repeats)
    sampling = cost.seconds_of(latents, device, repeats)
    decoding = cost.seconds_of(lambda: generator.decode(drawn), device, repeats)
    precision = pick_precision(generator.precision, device)
    return BenchReport(
        name=f"sample, {len(listed)} images, {steps} steps, guidance {guidance_scale:g}",
        device=device_name(device),
        precision=precision,
        images=len(listed),
        call_seconds=seconds,
        call_flops=flops,
        matmul_tflops=matmul_speed(device, precision),
        peak_bytes=peak,
        part_seconds={"prompts": reading, "sampler": max(sampling - reading, 0.0), "decoder": decoding},
    )
