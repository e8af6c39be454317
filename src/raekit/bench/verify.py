"""What judging costs: candidates seen as latents, and the same ones rendered and looked at again.

In: a generator. Out: two :class:`~raekit.bench.report.BenchReport` of the same verifier on the same latents. Seeing a
latent is a change of scale; seeing a picture is a decoder and an encoder. What the language model does then is the
same.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
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


@torch.no_grad()
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
    cost.forget_peak(generator.device)
    flops = [cost.count_flops(call, generator.device) for call in (by_latents, by_pictures)]  # and warms everything up
    seconds = _alternately((by_latents, by_pictures), generator.device, repeats)
    parts = looking | looking_again | thinking
    each = dict(zip(parts, _alternately(list(parts.values()), generator.device, repeats), strict=True))
    by_part = [{name: each[name] for name in (*own, *thinking)} for own in (looking, looking_again)]
    return (
        _report(generator, num, f"{verifier}, {num} latents", (seconds[0], flops[0]), by_part[0]),
        _report(generator, num, f"{verifier}, the same rendered", (seconds[1], flops[1]), by_part[1]),
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


def _alternately(calls: Sequence[Callable[[], object]], device: torch.device, repeats: int) -> list[float]:
    """Median seconds of each call; they take turns, so that whatever else the machine does slows all of them."""
    rounds = [[cost.seconds_of(call, device, 1, warmup=0) for call in calls] for _ in range(repeats)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _report(
    generator: ImageGenerator, num: int, name: str, measured: tuple[float, int], part_seconds: dict[str, float]
) -> BenchReport:
    """The report on a call of so many seconds and operations, with ``num`` candidates."""
    device = generator.device
    precision = pick_precision(generator.precision, device)
    return BenchReport(
        name=name,
        device=device_name(device),
        precision=precision,
        count=num,
        call_seconds=measured[0],
        call_flops=measured[1],
        matmul_tflops=matmul_speed(device, precision),
        peak_bytes=cost.peak_bytes(device),
        part_seconds=part_seconds,
        unit="candidate",
    )
