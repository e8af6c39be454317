"""Pictures on their way from noise to latents, all of a call's together; they can be stopped and thinned out.

    noise --sampler--> z_t --sampler--> latent
                        '--> x, the clean latent that z_t is heading for

In: a velocity for any of the pictures, a prompt's number and a seed for each. Out: latents. Whoever stops on the way
finds in ``x`` an estimate of each latent in one step from there, which costs nothing: the sampler has just computed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raekit import shares
from raekit.device import keeping_casts
from raekit.errors import UserError
from raekit.samplers import SAMPLERS
from raekit.samplers.integrate import integrate, times_of
from raekit.samplers.ode import VelocityFn
from raekit.samplers.settings import Sampling, SamplingOptions
from raekit.seeds import generators_of, image_seeds, noise
from raekit.variations import Start

Callback = Callable[[dict[str, Any]], None]
"""Called at every step with the sampler's ``step``, ``num_steps``, ``t``, ``z_t`` and ``x``; also ``first``, the index
of the batch's first image, and ``num_images``, how many there are in all."""

WHOLE_ONLY = ("rae_published_sde", "rae_published_sde_heun", "scale_rae_published")
"""Samplers that cannot be stopped: they do more at the end of their grid than walk it."""


class DrawingOptions(SamplingOptions, total=False):
    """All that may be said of a call besides prompts, seeds and form of the result."""

    negative: Any
    """A prompt, or one for each prompt, that classifier-free guidance moves away from in place of the null."""
    image: Any
    """A picture, or one for each prompt, to start from in place of noise: a path, a PIL image, an array or a tensor."""
    prompt_seeds: Sequence[int]
    """One seed a prompt, and one image, in place of ``num`` and ``seed``."""
    strength: float
    """How far a variation leaves ``image``, in (0, 1]; see :mod:`raekit.variations`."""


@dataclass(frozen=True)
class Route:
    """What all pictures of a call have in common.

    Attributes:
        velocity_of: numbers of prompts ``[B]`` to the (guided) velocity of ``B`` pictures of them.
        settings: sampler, grid and so on.
        time_shift: shift factor ``a`` of the grid.
        shape: of a latent, ``(C, h, w)``.
        device: where the velocity is computed; everything else stays on the CPU.
        start: the pictures that variations start from.
    """

    velocity_of: Callable[[Sequence[int]], VelocityFn]
    settings: Sampling
    time_shift: float
    shape: tuple[int, int, int]
    device: torch.device
    start: Start | None = None

    @property
    def strength(self) -> float:
        """Share of the way to noise that is walked."""
        return 1.0 if self.start is None else self.start.strength


class Trajectories:
    """Pictures under way.

    Args:
        route: what they have in common.
        jobs: number of the prompt, and seed, of each.
        batch_size: pictures at once; changes memory and speed only.

    Attributes:
        jobs: of those that are still under way.
        step: how many steps have been taken.
        num_steps: how many there are.
        z: where they are, ``[J, C, h, w]`` float32 on the CPU; None before the first step.
        x: the clean latents they are heading for, shape of ``z``; None before the first step and after the last.

    Raises:
        UserError: no batch size.
    """

    def __init__(self, route: Route, jobs: Sequence[tuple[int, int]], batch_size: int) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size: {batch_size} images at once; give at least 1")
        self.route, self.jobs, self.batch_size = route, list(jobs), batch_size
        self.step, self.num_steps = 0, len(times_of(route.settings, route.time_shift, route.strength)) - 1
        self.z: Tensor | None = None
        self.x: Tensor | None = None
        self._generators = generators_of([seed for _, seed in jobs])

    @torch.no_grad()
    def finish(self, callback: Callback | None = None) -> Tensor:
        """Go to the end; the latents ``[J, C, h, w]``."""
        return self._walk(self.num_steps, callback)

    @torch.no_grad()
    def pause(self, step: int, callback: Callback | None = None) -> Tensor:
        """Go on until ``step`` steps have been taken; the latents that the pictures are heading for, ``x``.

        Args:
            step: between those that have been taken and the last.
            callback: see :data:`Callback`.

        Raises:
            UserError: the sampler cannot be stopped.
        """
        if self.route.settings.sampler in WHOLE_ONLY:
            others = ", ".join(name for name in SAMPLERS if name not in WHOLE_ONLY)
            raise UserError(
                f"sampler: {self.route.settings.sampler!r} cannot be stopped on the way; for prune_at take one of "
                f"{others}"
            )
        if not self.step < step < self.num_steps:
            raise ValueError(f"step: {step} is not between {self.step} and {self.num_steps}")
        self._walk(step, callback)
        assert self.x is not None
        return self.x

    def keep(self, indices: Sequence[int]) -> None:
        """Go on with these pictures only, in this order; the others are left where they are."""
        chosen = list(indices)
        self.jobs = [self.jobs[index] for index in chosen]
        self._generators = [self._generators[index] for index in chosen]
        self.z, self.x = (None if value is None else value[chosen] for value in (self.z, self.x))

    def _walk(self, last: int, callback: Callback | None) -> Tensor:
        is_stopping = last < self.num_steps

        def walk(first: int) -> tuple[Tensor, Tensor | None, list[Tensor]]:
            part = slice(first, first + self.batch_size)
            watch = _Watch(callback, first, len(self.jobs), is_stopping)
            reached = self._leg(part, last, watch)
            return reached, watch.x, [one.get_state() for one in self._generators[part]] if is_stopping else []

        found = list(shares.each(walk, range(0, len(self.jobs), self.batch_size)))
        self.z, self.step = torch.cat([z for z, _, _ in found]), last
        self.x = torch.cat([x for _, x, _ in found if x is not None]) if is_stopping else None
        # Another process may take a picture on, with the noise that comes next.
        for generator, state in zip(self._generators, [one for _, _, states in found for one in states], strict=False):
            generator.set_state(state)
        return self.z

    def _leg(self, part: slice, last: int, watch: _Watch) -> Tensor:
        """Take the pictures of a batch from where they are to step ``last``."""
        route, generators = self.route, self._generators[part]
        rows = [row for row, _ in self.jobs[part]]
        if self.z is None:
            z = noise(generators, route.shape).to(route.device)
            z = z if route.start is None else route.start.noised(rows, z, route.time_shift)
        else:
            z = self.z[part].to(route.device)
        is_whole = (self.step, last) == (0, self.num_steps)
        span = None if is_whole else (self.step, last)
        velocity, callback = route.velocity_of(rows), watch.report if watch.is_needed else None
        with keeping_casts(route.device):
            reached = integrate(
                velocity, z, route.settings, route.time_shift, generators, callback, route.strength, span
            )
        return reached.cpu()


class _Watch:
    """Tells a callback which pictures it is told of, and remembers where they are heading if they will be stopped."""

    def __init__(self, callback: Callback | None, first: int, num_images: int, is_stopping: bool) -> None:
        self._callback, self._extra = callback, {"first": first, "num_images": num_images}
        self._is_stopping = is_stopping
        self.is_needed = is_stopping or callback is not None
        self.x: Tensor | None = None

    def report(self, state: dict[str, Any]) -> None:
        if self._is_stopping:
            self.x = state["x"].cpu()
        if self._callback is not None:
            self._callback({**state, **self._extra})


def jobs_of(num_prompts: int, seeds: Sequence[int], prompt_seeds: Sequence[int] | None = None) -> list[tuple[int, int]]:
    """Prompt and seed of each picture, those of the first prompt first.

    Args:
        num_prompts: how many prompts there are.
        seeds: of each of them.
        prompt_seeds: one a prompt, and one picture, in place of ``seeds``.

    Raises:
        UserError: another number of these than prompts.
    """
    if prompt_seeds is None:
        return [(row, seed) for row in range(num_prompts) for seed in seeds]
    if len(prompt_seeds) != num_prompts:
        raise UserError(f"prompt_seeds: {len(prompt_seeds)} for {num_prompts} prompts; give one for each")
    return list(enumerate(image_seeds(1, prompt_seeds)))
