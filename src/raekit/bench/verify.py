"""What judging costs: candidates seen as latents, and the same ones rendered and looked at again.

In: a generator. Out: two :class:`~raekit.bench.report.BenchReport` of the same verifier on the same latents. Seeing a
latent is a change of scale; seeing a picture is a decoder and an encoder. What the language model does then is the
same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from raekit import cost
from raekit.bench.report import BenchReport
from raekit.bench.step import Parts, device_name, matmul_speed
from raekit.device import pick_precision
from raekit.errors import UserError
from raekit.generate import ImageGenerator, TextToImage, build_generator
from raekit.multimodal.conditioner import UnifiedConditioner
from raekit.verifiers.base import LatentVerifier
from raekit.verifiers.judge import build_verifier

PROMPT = "a photo of two red apples left of a green frog"


def bench_verify(
    generator: ImageGenerator, num: int = 16, verifier: str = "answer_logits", prompt: str = PROMPT, repeats: int = 3
) -> tuple[BenchReport, BenchReport]:
    """Time judging ``num`` candidates of a prompt, by their latents and by their pictures.

    Args:
        generator: a unified model, or one that reads with a language model; see :func:`stand_in`.
        num: candidates; noise, since what they show costs nothing.
        verifier: row of :data:`raekit.verifiers.VERIFIERS`, one that sees latents.
        prompt: what they are asked about.
        repeats: timed calls of the whole and of each part.

    Raises:
        UserError: a generator or a verifier that does not see latents.
    """
    if not isinstance(generator.conditioner, UnifiedConditioner):
        generator = stand_in(generator)
    judge = build_verifier({"name": verifier, "batch_size": num}, generator)
    if not isinstance(judge, LatentVerifier):
        raise UserError(f"verifier: {verifier!r} sees pixels only, so there is nothing to compare; give answer_logits")
    model = judge.model
    latents = torch.randn(num, *generator.latent_space.shape, generator=torch.Generator().manual_seed(0))
    seen = model.look(latents=latents)

    def language_model() -> Any:
        return judge.weigh(seen, [prompt] * num)

    def by_latents() -> Any:
        return judge.judge(latents, prompt)

    def by_pictures() -> Any:
        return judge.weigh(model.look(images=generator.decode(latents, num)), [prompt] * num)

    images = generator.decode(latents, num)
    looking: Parts = {"looking at latents": lambda: model.look(latents=latents)}
    looking_again: Parts = {
        "rendering": lambda: generator.decode(latents, num),
        "looking again": lambda: model.look(images=images),
    }
    thinking: Parts = {"language model": language_model}
    return (
        _report(generator, num, f"{verifier}, {num} latents", by_latents, looking | thinking, repeats),
        _report(generator, num, f"{verifier}, the same rendered", by_pictures, looking_again | thinking, repeats),
    )


def stand_in(generator: ImageGenerator) -> ImageGenerator:
    """A unified model of this generator's sizes, with a projector that has learned nothing: its cost is that of a
    trained one.

    Raises:
        UserError: the generator reads no text.
    """
    if not isinstance(generator, TextToImage):
        raise UserError(f"model: takes {generator.prompt_kind}, so there is no language model to judge with")
    told = generator.config.condition.model_dump()
    condition = {"name": "unified", **{key: told[key] for key in ("language_model", "precision", "width")}}
    settings = {**generator.config.model_dump(), "condition": condition}
    config = ImageGenerator.Config.model_validate(settings)
    return build_generator(config, generator.latent_space, generator.device, generator.precision)


@torch.no_grad()
def _report(
    generator: ImageGenerator, num: int, name: str, call: Callable[[], Any], parts: Parts, repeats: int
) -> BenchReport:
    """Time a call and its parts on ``num`` candidates."""
    device = generator.device
    flops = cost.count_flops(call)  # and warms everything up
    cost.forget_peak(device)
    seconds = cost.seconds_of(call, device, repeats, warmup=0)
    peak = cost.peak_bytes(device)
    precision = pick_precision(generator.precision, device)
    return BenchReport(
        name=name,
        device=device_name(device),
        precision=precision,
        images=num,
        call_seconds=seconds,
        call_flops=flops,
        matmul_tflops=matmul_speed(device, precision),
        peak_bytes=peak,
        part_seconds={part: cost.seconds_of(run, device, repeats, warmup=0) for part, run in parts.items()},
    )
