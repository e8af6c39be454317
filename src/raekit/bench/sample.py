"""The speed of drawing: a batch of images from prompts, and where its time goes.

In: a generator and prompts. Out: a :class:`~raekit.bench.report.BenchReport`, with reading the prompts, the sampler's
steps, and the decoder, each by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from raekit import cost, shipped
from raekit.autoencoder.base import load_autoencoder
from raekit.bench.report import BenchReport
from raekit.bench.stand_ins import stand_ins
from raekit.bench.step import device_name, matmul_speed, of_stage
from raekit.conditioning.prompt import PromptConditioner
from raekit.device import pick_device, pick_precision
from raekit.generate import ImageGenerator, build_generator, load_generator
from raekit.training.recipe import load_recipe
from raekit.training.stage import Recipe
from raekit.training.stage2 import Stage2, generator_config
from raekit.training.unified import Unified
from raekit.trajectories import Trajectories


def random_generator(recipe: Recipe, device: str = "auto") -> ImageGenerator:
    """A generator of a recipe's sizes with random weights, its language model and latent space included.

    Raises:
        UserError: a recipe of another stage, or one that has no stand-ins.
    """
    own = pick_device(device)
    with stand_ins(of_stage(recipe, Stage2.Config, "sample", Unified.Config)) as standing:
        latent_space = load_autoencoder(standing.latent_space, own)
        generator = build_generator(generator_config(standing), latent_space, own, standing.train.precision)
        generator.backbone.requires_grad_(False)
        if isinstance(generator.conditioner, PromptConditioner):
            generator.conditioner.reader  # noqa: B018 - read while its files are there
    return generator


def measured_generator(model: str | None, device: str = "auto", bundled: str | None = None) -> ImageGenerator:
    """What a bench measures by its name: a generator that is here, or one of a recipe's sizes.

    Args:
        model: a directory or hub id, or the path of a recipe, which ends in ``.yaml``.
        device: where it runs.
        bundled: without a name, which of those inside the package; None: the nano generator.

    Raises:
        UserError: as :func:`random_generator`, or no such model.
    """
    if model is not None and model.endswith(".yaml"):
        return random_generator(load_recipe(model), device)
    return load_generator(shipped.PACKAGE / bundled if model is None and bundled else model, device)


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

    # On the way, prompts are read already: what is left is the sampler by itself.
    way = generator.trajectories(listed, steps=steps, guidance_scale=guidance_scale)
    drawn = latents()
    flops = cost.count_flops(draw, device)
    cost.forget_peak(device)
    seconds = cost.seconds_of(draw, device, repeats)
    peak = cost.peak_bytes(device)
    with torch.no_grad():
        reading = cost.seconds_of(lambda: generator._read(listed), device, repeats)
    sampling = cost.seconds_of(lambda: Trajectories(way.route, way.jobs, way.batch_size).finish(), device, repeats)
    decoding = cost.seconds_of(lambda: generator.decode(drawn), device, repeats)
    precision = pick_precision(generator.precision, device)
    return BenchReport(
        name=f"sample, {len(listed)} images, {steps} steps, guidance {guidance_scale:g}",
        device=device_name(device),
        precision=precision,
        count=len(listed),
        call_seconds=seconds,
        call_flops=flops,
        matmul_tflops=matmul_speed(device, precision),
        peak_bytes=peak,
        part_seconds={"prompts": reading, "sampler": sampling, "decoder": decoding},
    )
