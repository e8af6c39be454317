"""Whether to keep latents on disk: what encoding costs at every step, what a cache weighs, and when it has paid.

In: a stage-2 recipe, and perhaps the machine that it is for. Out: rows of ``raekit explain``, by counting; nothing is
measured. Writing a cache costs one round
of encoding and the writing; from then on a step reads a latent instead of computing it. So a cache pays as soon as

    epochs > (encode + write) / (encode - read)

with the seconds of one picture in each place. That is little more than one epoch wherever encoding takes longer than
reading, and never where it does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raekit.conditioning.language_model import language_model_settings
from raekit.conditioning.prompt import PromptConditioner
from raekit.conditioning.query import QueryConditioner
from raekit.data import DATASETS
from raekit.data.sample import Endless
from raekit.data.storage import BYTES
from raekit.data.transforms import CHANCE_CROPS
from raekit.training.planning import plan
from raekit.training.planning.latent_outline import latent_of
from raekit.training.planning.machines import Machine
from raekit.training.planning.memory import arithmetic_of
from raekit.training.planning.work import Rows

if TYPE_CHECKING:
    from raekit.training.stage2 import Stage2


USUAL = Machine("h100")
"""What encoding is reckoned with where no GPU is named."""
GIGABYTES_PER_SECOND = 1.0
"""Speed of the disk for each GPU."""
SMALL_SHARE = 0.05
"""Of a step; below it a cache is not worth its disk."""
FROZEN_PARTS = ("encoder", "language model")
"""Parts of a step whose results a cache holds."""


@dataclass(frozen=True)
class Economics:
    """What a cache would cost and save.

    Attributes:
        encode: operations on a picture and its caption by each frozen network, by name.
        total: of a training step, on a picture, these included.
        latent_bytes: of a picture's latent on disk, by precision.
        text_bytes: of a caption's features on disk.
        tflops: speed of encoding, in 10^12 operations a second of one GPU.
        rests_on: where that speed is from, in words.
        num_pictures: of the data set; None = not stated.
        epochs: that the run takes; None = not stated.
        obstacle: why there can be no cache; None = there can.
    """

    encode: dict[str, int]
    total: int
    latent_bytes: dict[str, int]
    text_bytes: int
    tflops: float
    rests_on: str
    num_pictures: int | None = None
    epochs: float | None = None
    obstacle: str | None = None

    @property
    def share(self) -> float:
        """Of a step's operations that a cache saves, in [0, 1]."""
        return sum(self.encode.values()) / self.total

    def break_even(self, precision: str) -> float:
        """Epochs from which on a cache has paid; infinite where reading takes as long as encoding."""
        encoding, disk = sum(self.encode.values()) / (self.tflops * 1e12), self._reading(precision)
        return (encoding + disk) / (encoding - disk) if encoding > disk else math.inf

    def paying_tflops(self, precision: str) -> float:
        """Speed of a device, in 10^12 operations a second, at which reading takes as long as encoding."""
        return sum(self.encode.values()) / self._reading(precision) / 1e12

    def _reading(self, precision: str) -> float:
        """Seconds for a picture and its caption."""
        return (self.latent_bytes[precision] + self.text_bytes) / (GIGABYTES_PER_SECOND * 1e9)

    def rows(self, precision: str, is_cached: bool) -> Rows:
        """For a terminal.

        Args:
            precision: of the recipe.
            is_cached: whether the recipe has a cache.
        """
        each = ", ".join(f"{name} {_giga(count)}" for name, count in self.encode.items())
        pays = self.break_even(precision)
        terms = (
            f"encoding at {self.tflops:.4g} TFLOP/s, {self.rests_on}; disk {GIGABYTES_PER_SECOND:g} GB/s for each GPU"
        )
        when = "never" if math.isinf(pays) else f"from {pays:.2f} epochs on"
        course = f"; this run takes {self.epochs:.4g}" if self.epochs else ""
        return [
            ("encode share", f"{self.share:.0%} of a step: {each}, of {_giga(self.total)} operations a picture"),
            ("cache size", self._sizes()),
            ("cache pays", f"in {precision} {when}{course} ({terms})"),
            ("advice", self._advice(precision, is_cached)),
        ]

    def _sizes(self) -> str:
        count = self.num_pictures or 10**6
        each = ", ".join(f"{name} {_bytes(size * count)}" for name, size in self.latent_bytes.items())
        text = f"; text {_bytes(self.text_bytes * count)} at one caption each" if self.text_bytes else ""
        return f"{each}{text}; for {count:,} pictures" + ("" if self.num_pictures else " (their number is not stated)")

    def _advice(self, precision: str, is_cached: bool) -> str:
        pays = self.break_even(precision)
        if self.obstacle:
            return f"encode at every step: {self.obstacle}"
        if math.isinf(pays):
            smaller = next((name for name in self.latent_bytes if not math.isinf(self.break_even(name))), None)
            hint = f"; cache_precision: {smaller} would pay" if smaller else ""
            slow = f"a device that reaches less than {self.paying_tflops(precision):.3g} TFLOP/s had better read them"
            return f"encode at every step: reading a latent takes longer than computing it{hint}; {slow}"
        if self.epochs is not None and self.epochs < pays:
            return f"encode at every step: the run is too short for a cache ({self.epochs:.2g} epochs)"
        if self.share < SMALL_SHARE:
            return f"encode at every step: it is {self.share:.1%} of the work"
        saved = f"it saves {self.share:.0%} of a step's operations"
        return f"the cache is right: {saved}" if is_cached else f"set cache: {saved}"


def economics_of(config: Stage2.Config, machine: Machine | None = None) -> Economics | None:
    """What a cache means for a recipe; None where its parts are not counted.

    Args:
        config: of the recipe.
        machine: whose GPUs encode; None: :data:`USUAL`.
    """
    parts = plan.parts(config.model_copy(update={"cache": None}))
    # What a gradient passes through on its way to something trained has a backward pass, and must run each time.
    frozen = [part for part in parts if part.name in FROZEN_PARTS and part.work.training == part.work.forward]
    encode = {part.name: part.work.forward for part in frozen if part.work.forward}
    if not encode:
        return None
    channels, height, width = latent_of(config).shape
    numbers = channels * height * width
    train, own = config.train, machine or USUAL
    arithmetic = arithmetic_of(train)
    unnamed = "" if machine else ", as no --gpu is named"
    return Economics(
        encode=encode,
        total=sum(part.operations() for part in parts),
        latent_bytes={name: numbers * size + (4 * channels if name == "int8" else 0) for name, size in BYTES.items()},
        text_bytes=_text_numbers(config) * BYTES[config.cache_text_precision],
        tflops=own.peak(arithmetic) * own.mfu / 1e12,
        rests_on=f"assumed: {own.mfu:.0%} of the peak of {own.gpu} in {arithmetic}{unnamed}",
        num_pictures=train.images_per_epoch,
        epochs=train.steps * train.batch_size / train.images_per_epoch if train.images_per_epoch else None,
        obstacle=_obstacle(config),
    )


def rows(config: Stage2.Config, machine: Machine | None = None) -> Rows:
    """The rows of ``raekit explain``."""
    found = economics_of(config, machine)
    return [] if found is None else found.rows(config.cache_precision, config.cache is not None)


def _obstacle(config: Stage2.Config) -> str | None:
    """The first setting that keeps latents or features from being the same each time."""
    data, condition = config.data, config.condition
    endless = next((source.name for source in data.mixture if issubclass(DATASETS[source.name], Endless)), None)
    if endless is not None:
        return f"source {endless} never gives the same picture twice"
    for name, changes in (
        ("crop", data.crop in CHANCE_CROPS),
        ("mirror", data.mirror),
        ("background", data.background == "random"),
    ):
        if changes:
            return f"data.{name} changes the pictures each epoch"
    if isinstance(condition, QueryConditioner.Config) and condition.are_queries_trained:
        return "the queries are trained, so what the language model says changes"
    if isinstance(condition, PromptConditioner.Config) and (condition.is_llm_trained or condition.lora is not None):
        return "the language model is trained" if condition.is_llm_trained else "the language model is adapted"
    return None


def _text_numbers(config: Stage2.Config) -> int:
    """Numbers in the features of a caption."""
    condition = config.condition
    if not isinstance(condition, PromptConditioner.Config):
        return 0
    width: int = language_model_settings(condition.language_model).hidden_size
    if isinstance(condition, QueryConditioner.Config):
        return len(plan.outline_condition(config, latent_of(config).shape).queries) * width  # type: ignore[arg-type]
    return condition.max_prompt_tokens * width


def _giga(count: float) -> str:
    """Operations in words: three digits, and all those before the point."""
    billions = count / 1e9
    return f"{billions:,.0f} G" if billions >= 100 else f"{billions:.3g} G"


def _bytes(count: int) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
