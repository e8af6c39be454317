"""Parity of the stochastic sampler with RAE, whose code carries it beside the ODE and fails at its own defaults."""

from __future__ import annotations

import torch
from torch import Tensor

from parity.case import Case, Compute
from parity.cases_generator import labels, load
from raekit.samplers import SAMPLERS
from raekit.samplers.sde import constant, decreasing, drift, increasing_decreasing, published_sbdm, sigma
from raekit.transport import GRIDS

SDE_FORMS = {
    "constant": constant,
    "SBDM": published_sbdm,
    "sigma": sigma,
    "linear": sigma,
    "decreasing": decreasing,
    "inccreasing-decreasing": increasing_decreasing,
}
"""The published names of the diffusion forms, as they are spelt there."""


@torch.no_grad()
def sde_samplers(case: Case) -> dict[str, Tensor]:
    inputs, settings = case.inputs, case.config
    generator = load(case.weights, settings["model"]["depth"][1])
    cond = labels(generator, inputs["y"])
    x, t, steps = inputs["sde_x"], inputs["sde_t"], settings["sde"]
    times = GRIDS["rae_published_sde"](steps["num_steps"], settings["shift"])

    seen: list[Tensor] = []

    def velocity(z_t: Tensor, t: Tensor) -> Tensor:
        seen.append(z_t)
        return generator.backbone(z_t, t, cond)

    def states(method: str) -> Tensor:
        """The state after each noisy step, where the last step of a run that stops there begins; and the last state."""
        found = []
        for stop in range(2, len(times) + 1):
            noise = iter(inputs["sde_noise"]).__next__
            end = SAMPLERS[method](velocity, inputs["z"], times[:stop], noise=noise)
            found.append(seen[-1])
        return torch.stack([*found, end])

    outputs = {
        "sde_time_grid": times,
        "sde_euler_sigma_trajectory": states("rae_published_sde"),
        "sde_euler_linear_trajectory": states("rae_published_sde"),
        "sde_heun_sigma_trajectory": states("rae_published_sde_heun"),
    }
    for name, form in SDE_FORMS.items():
        w = form(t) * (settings["sigma_form_norm_for_drift_values"] if name == "sigma" else 1)
        outputs[f"sde_diffusion_{name}"] = w[:1] if name == "constant" else w
        outputs[f"sde_drift_{name}"] = drift(velocity(x, t), x, t, w)
    return outputs


CASES: dict[str, Compute] = {"rae_05c_samplers": sde_samplers}
