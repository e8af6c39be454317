"""Parity of backbones, transport, samplers and guidance with RAE and Scale-RAE."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from parity.case import Case, Compute
from raekit.autoencoder.latent import LatentStatistics, to_grid, to_tokens
from raekit.conditioning.base import Cond
from raekit.conditioning.label import LabelConditioner
from raekit.interop.dit import Generator, dit_from, dit_to
from raekit.samplers import SAMPLERS
from raekit.samplers.guidance import AutoGuidance, ClassifierFree, published_guide_outside
from raekit.transport import GRIDS
from raekit.transport.objective import FlowMatching
from raekit.transport.path import PATHS, from_velocity, path_sample, score
from raekit.transport.timesteps import rae_logit_normal, shift_times, sigmoid_of_normal, time_shift

ALL_TIMES = (-1e4, 1e4)
"""Scale-RAE's default guidance interval, under which its released guidance never acts."""


def load(weights: dict[str, Tensor], head_depth: int | None = None) -> Generator:
    """A published generator; on the way, that writing it back gives the same tensors."""
    generator = dit_from(weights, head_depth=head_depth)
    back = {key.removeprefix("diff_head.model."): value for key, value in dit_to(generator).items()}
    assert back.keys() == {key.removeprefix("model.") for key in weights}
    assert all(torch.equal(back[key.removeprefix("model.")], value) for key, value in weights.items())
    return generator


def labels(generator: Generator, y: Tensor) -> Cond:
    """The published label embedding: a row of the table, the last one for no label."""
    assert generator.condition is not None
    return Cond(vector=generator.condition[y])


def twice(velocity: Tensor) -> Tensor:
    """The published guidance answers with one half of its doubled batch, repeated."""
    return torch.cat((velocity, velocity))


# --- RAE's backbones -------------------------------------------------------------------------------------------------


def ddt(case: Case) -> dict[str, Tensor]:
    inputs, settings = case.inputs, case.config
    generator = load(case.weights, settings["model"]["depth"][1])
    guide = load(case.group("weights_guide/"), settings["guide_model"]["depth"][1])
    gradients = ddt_gradients(load(case.weights, settings["model"]["depth"][1]), inputs, case.outputs)
    with torch.no_grad():
        backbone, x, t, cond = generator.backbone, inputs["x"], inputs["t"], labels(generator, inputs["y"])
        forward, guide_forward = backbone(x, t, cond), guide.backbone(x, t, labels(guide, inputs["y"]))
        return gradients | {
            "forward": forward,
            "forward_given_s": backbone.head(x, inputs["s"]),
            "t_embedding": backbone.time_embed(t),
            "forward_label_dropout": backbone(x, t, dropped(generator, settings["model"], inputs)),
            "guide_forward": guide_forward,
            "mse_loss": (forward - inputs["target"]).square().mean(),
            **ddt_guidance(case, generator, guide),
        }


def ddt_guidance(case: Case, generator: Generator, guide: Generator) -> dict[str, Tensor]:
    inputs, settings = case.inputs, case.config
    x, t, (y, null) = inputs["x_cfg"].chunk(2)[0], inputs["t_cfg"].chunk(2)[0], inputs["y_cfg"].chunk(2)
    free = partial(
        ClassifierFree, generator.backbone, labels(generator, y), labels(generator, null), settings["cfg_scale"]
    )
    auto = partial(
        AutoGuidance,
        lambda z_t, t: generator.backbone(z_t, t, labels(generator, inputs["y"])),
        lambda z_t, t: guide.backbone(z_t, t, labels(guide, inputs["y"])),
        settings["ag_scale"],
    )
    return {
        "cfg_full": twice(free()(x, t)),
        "cfg_interval": twice(free(interval=settings["cfg_interval"])(x, t)),
        "autoguidance": auto()(inputs["x"], inputs["t"]),
        "autoguidance_interval": auto(interval=settings["ag_interval"])(inputs["x"], inputs["t"]),
    }


def dropped(generator: Generator, settings: dict[str, float], inputs: dict[str, Tensor]) -> Cond:
    """Labels after dropout with the given uniform draws."""
    assert generator.condition is not None
    num_classes, width = settings["num_classes"], generator.condition.shape[1]
    config = LabelConditioner.Config(num_classes=num_classes, width=width, dropout=settings["class_dropout_prob"])
    conditioner = LabelConditioner(config)
    conditioner.load_state_dict({"table.weight": generator.condition})
    return conditioner.drop(labels(generator, inputs["y"]), inputs["dropout_u"])


def ddt_gradients(generator: Generator, inputs: dict[str, Tensor], stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of the loss by official names, with the fixed tables trainable as in the published training."""
    backbone, table = generator.backbone, generator.condition
    assert table is not None
    tables = [value for name, value in backbone.named_buffers() if "rope" not in name]
    trainable = [*backbone.parameters(), *tables, table]
    for value in trainable:
        value.requires_grad_(True)
    output = backbone(inputs["x"], inputs["t"], labels(generator, inputs["y"]))
    gradients = torch.autograd.grad((output - inputs["target"]).square().mean(), trainable)
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    with torch.no_grad():
        for value, gradient in zip(trainable, gradients, strict=True):
            value.copy_(gradient)  # a model that holds gradients: written out, they carry the official names
    official = dit_to(generator)
    wanted = [name.removeprefix("grad/") for name in stored if name.startswith("grad/")]
    return {f"grad/{name}": official[name] for name in wanted} | {"grad_global_norm": norm}


@torch.no_grad()
def lightning_dit(case: Case) -> dict[str, Tensor]:
    inputs, settings = case.inputs, case.config
    generator, guide = load(case.weights), load(case.group("weights_guide/"))
    x, (y, null) = inputs["x_cfg"].chunk(2)[0], inputs["y_cfg"].chunk(2)
    interval = tuple(settings["cfg_interval_list"][0])
    cond, null_cond = labels(generator, y), labels(generator, null)
    outside, inside = (inputs[name][: len(x)] for name in ("t_outside", "t_inside"))

    def free(t: Tensor, inside_scale: float = 1.0) -> Tensor:
        law = partial(published_guide_outside, inside_scale=inside_scale)
        scale = settings["cfg_scale"]
        return twice(ClassifierFree(generator.backbone, cond, null_cond, scale, interval, law)(x, t))

    def auto(t: Tensor) -> Tensor:
        guided = AutoGuidance(
            lambda z_t, t: generator.backbone(z_t, t, cond),
            lambda z_t, t: guide.backbone(z_t, t, labels(guide, y)),
            settings["ag_scale"],
            interval,
            published_guide_outside,
        )
        return twice(guided(x, t))

    return {
        "forward": generator.backbone(inputs["x"], inputs["t"], labels(generator, inputs["y"])),
        "cfg_outside_interval": free(outside),
        "cfg_inside_interval": free(inside),
        "cfg_inside_interval_cfg3": free(inside, inside_scale=3.0),
        "ag_outside": auto(outside),
        "ag_inside": auto(inside),
    }


# --- RAE's transport -------------------------------------------------------------------------------------------------


def transport_training(case: Case) -> dict[str, Tensor]:
    inputs = case.inputs
    z, eps, t, prediction = inputs["x1_data"], inputs["x0_noise"], inputs["t"], inputs["model_pred"]
    outputs = {}
    for name, coefficients in PATHS.items():
        point = path_sample(z.double(), eps.double(), t.double(), coefficients)
        outputs |= {f"{name}_xt": point.z_t, f"{name}_ut": point.velocity}
    for name, law in (("tl_uniform", "rae_uniform"), ("tl_logit_normal", "rae_logit_normal")):
        config = FlowMatching.Config(timesteps=law, time_shift=case.config[name]["shift"])
        flow, eps_ = FlowMatching(config, latent_dim=z[0].numel()), inputs[f"{name}_noise"]
        times = flow.sample_t(inputs[f"{name}_u"])
        loss = flow.loss(lambda z_t, t, cond: prediction, z, None, times, eps_)
        outputs |= {f"{name}_t": times, f"{name}_xt": path_sample(z, eps_, times).z_t, f"{name}_loss": loss}
    flow = FlowMatching(FlowMatching.Config(), latent_dim=z[0].numel())
    return outputs | {
        "linear_loss_per_sample": flow.loss(lambda z_t, t, cond: prediction, z, None, t, eps),
        "score_from_velocity": score(prediction, eps, t),
        "noise_from_velocity": from_velocity("eps", prediction, eps, t),
    }


def shift_and_t_sampling(case: Case) -> dict[str, Tensor]:
    outputs = {}
    for combo in case.config["combos"]:
        dim, base = combo["dim"], combo["base"]
        factor = time_shift(dim, base)
        outputs[f"shifted_{dim}_{base}"] = shift_times(case.inputs["t"], factor)
        for num_steps in (8, 25, 50):
            outputs[f"ode_grid_{dim}_{base}_{num_steps}"] = GRIDS["rae_published"](num_steps, factor)
    for mean, std in ((0.0, 1.0), (0.5, 0.8), (-0.4, 1.3)):
        outputs[f"logitnormal_mu{mean}_sigma{std}"] = rae_logit_normal(case.inputs["u"], mean, std)
    return outputs


@torch.no_grad()
def ode_samplers(case: Case) -> dict[str, Tensor]:
    inputs, settings = case.inputs, case.config
    generator = load(case.weights, settings["model"]["depth"][1])
    guide = load(case.group("weights_guide/"), settings["model"]["depth"][1])
    cond = labels(generator, inputs["y"])
    null = labels(generator, torch.full_like(inputs["y"], settings["model"]["num_classes"]))
    times = GRIDS["rae_published"](settings["ode_num_points"], settings["shift"])

    def velocity(z_t: Tensor, t: Tensor) -> Tensor:
        return generator.backbone(z_t, t, cond)

    def states(sampler: str, times: Tensor, **options: float) -> Tensor:
        """The state at every time, each interval integrated by itself."""
        found = [inputs["z"]]
        for pair in pairwise(times):
            found.append(SAMPLERS[sampler](velocity, found[-1], torch.stack(pair), **options))
        return torch.stack(found)

    free = ClassifierFree(generator.backbone, cond, null, settings["cfg"]["scale"], tuple(settings["cfg"]["interval"]))
    auto = AutoGuidance(
        velocity, lambda z_t, t: guide.backbone(z_t, t, labels(guide, inputs["y"])), settings["ag_scale"]
    )
    adaptive_times = GRIDS["rae_published"](settings["dopri5_num_points"], settings["shift"])
    return {
        "ode_time_grid": times,
        "euler_trajectory": states("euler", times),
        "heun2_trajectory": states("heun", times),
        "euler_cfg_final": SAMPLERS["euler"](free, inputs["z"], times),
        "euler_autoguidance_final": SAMPLERS["euler"](auto, inputs["z"], times),
        "dopri5_trajectory": states("dopri5", adaptive_times, tolerance=1e-7),
    }


# --- Scale-RAE -------------------------------------------------------------------------------------------------------


def null_tokens(generator: Generator, like: Tensor) -> Cond:
    """The learned null condition at every token of a condition ``[B, N, Z]``."""
    assert generator.condition is not None
    return Cond(tokens=generator.condition.expand_as(like))


@torch.no_grad()
def scale_rae_head(case: Case) -> dict[str, Tensor]:
    inputs, settings = case.inputs, case.config
    generator = load(case.weights, head_depth_of(settings["model"]))
    assert torch.equal(generator.backbone.time_embed.frequencies, inputs["t_embedder_W"])
    backbone, cond = generator.backbone, Cond(tokens=inputs["z"])
    x, t, z = inputs["x_cfg"].chunk(2)[0], inputs["t_cfg"].chunk(2)[0], inputs["z_cfg"]
    null = null_tokens(generator, z)
    guided = partial(ClassifierFree, backbone, Cond(tokens=z), null, settings["cfg_scale"])
    with_inside_scale = partial(published_guide_outside, inside_scale=1.8)
    drop = inputs["dropout_u"] < settings["model"]["class_dropout_prob"]
    return {
        "forward": backbone(inputs["x"], inputs["t"], cond),
        "t_embedding": backbone.time_embed(inputs["t"]),
        "cfg_active": twice(guided()(x, t)),
        "cfg_official_default_interval": twice(guided(interval=ALL_TIMES, law=published_guide_outside)(x, t)),
        "cfg_interval_scale": twice(guided(interval=ALL_TIMES, law=with_inside_scale)(x, t)),
        "uncond": backbone(x, t, null),
        "forward_condition_dropout": backbone(
            inputs["x"], inputs["t"], cond.replace_where(drop, null_tokens(generator, inputs["z"]))
        ),
    }


def head_depth_of(settings: dict[str, object]) -> int | None:
    """Blocks of the head, if the class has one."""
    if isinstance(settings["depth"], list):
        return int(settings["depth"][1])
    return int(settings["depth"]) - int(settings["DDT_encoder_depth"]) if settings.get("use_DDT") else None


def scale_rae_times(case: Case) -> dict[str, Tensor]:
    outputs = {}
    for combo in case.config["combos"]:
        name = f"{combo['dim']}_{combo['base']}"
        factor = time_shift(combo["dim"], combo["base"])
        outputs[f"train_t_{name}"] = shift_times(sigmoid_of_normal(case.inputs[f"normals_{name}"]), factor)
        for num_steps in (8, 50):
            times = GRIDS["scale_rae_published"](num_steps, factor)
            outputs[f"sampler_times_{name}_{num_steps}"] = times.flip(0)  # theirs ascend
    return outputs


@torch.no_grad()
def scale_rae_flow(case: Case) -> dict[str, Tensor]:
    inputs, settings = case.inputs, case.config["projector"]
    depth = settings["model_depth"]
    generator = load(case.weights, depth[1] if isinstance(depth, list) else None)
    z, cond = to_grid(inputs["x"]), Cond(tokens=inputs["z"])
    flow = FlowMatching(FlowMatching.Config(base_dim=settings["base_dim"]), latent_dim=z[0].numel())
    statistics = LatentStatistics(
        to_grid(inputs["stats_running_mean"][None])[0], to_grid(inputs["stats_running_var"][None])[0]
    )
    sampled_t = shift_times(sigmoid_of_normal(inputs["normals_for_sampled_t"]), flow.time_shift)

    def loss(latent: Tensor, t: Tensor, eps: str) -> Tensor:
        return flow.loss(generator.backbone, latent, cond, t, inputs[eps])

    outputs = {
        "sampled_t": sampled_t,
        "loss_given_t": loss(z, inputs["t"], "x_end_given_t"),
        "loss_sampled_t": loss(z, sampled_t, "x_end_sampled_t"),
        "loss_given_t_with_stats": loss(statistics.normalise(z), inputs["t"], "x_end_with_stats"),
        "add_noise_x_t": path_sample(inputs["x"], inputs["add_noise_x_end"], inputs["t"]).z_t,
    }
    return outputs | scale_rae_samples(case, generator, flow.time_shift, statistics.denormalise)


def scale_rae_samples(
    case: Case, generator: Generator, factor: float, denormalise: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    inputs, num_steps = case.inputs, case.config["inference_step"]
    times = GRIDS["scale_rae_published"](num_steps, factor)
    guided = partial(ClassifierFree, generator.backbone, Cond(tokens=inputs["z"]), null_tokens(generator, inputs["z"]))
    official = SAMPLERS["scale_rae_published"](guided(1.0), inputs["x_end_sampling"], times)

    def sample(sampler: str, *settings: object, **options: object) -> Tensor:
        return to_tokens(SAMPLERS[sampler](guided(*settings, **options), inputs["x_end_sampling"], times))

    return {
        "sample_official": to_tokens(official),
        "sample_official_with_stats": to_tokens(denormalise(official)),
        "sample_official_step_pairs": step_pairs("scale_rae_published", times),
        "sample_official_guidance3_default_interval": sample(
            "scale_rae_published", 3.0, ALL_TIMES, published_guide_outside
        ),
        "sample_official_guidance3_active": sample("scale_rae_published", 3.0),
        "sample_plain_euler": sample("euler", 1.0),
        "sample_plain_euler_guidance3": sample("euler", 3.0),
    }


def step_pairs(sampler: str, times: Tensor) -> Tensor:
    """``[steps, 2]``, the time each step leaves and the one it reaches, seen by a field of velocity 1."""
    seen: list[tuple[Tensor, Tensor]] = []

    def one(z_t: Tensor, t: Tensor) -> Tensor:
        seen.append((t, z_t))
        return torch.ones_like(z_t)

    end = SAMPLERS[sampler](one, torch.zeros(1, dtype=torch.float64), times)
    t, z = (torch.cat(values) for values in zip(*seen, strict=True))
    return torch.stack((t, t + torch.cat((z, end)).diff()), dim=1)


CASES: dict[str, Compute] = {
    "rae_03_ddt_base": ddt,
    "rae_03_ddt_layernorm_gelu": ddt,
    "rae_03_ddt_qknorm": ddt,
    "rae_04_lightningdit": lightning_dit,
    "rae_04_lightningdit_patch2_qknorm": lightning_dit,
    "rae_05a_transport_training": transport_training,
    "rae_05b_shift_and_t_sampling": shift_and_t_sampling,
    "rae_05c_samplers": ode_samplers,
    "srae_10_ddt_head": scale_rae_head,
    "srae_10_dit": scale_rae_head,
    "srae_10_dit_use_ddt": scale_rae_head,
    "srae_11a_shift_and_times": scale_rae_times,
    "srae_11b_flow_ddt": scale_rae_flow,
    "srae_11b_flow_dit": scale_rae_flow,
}
