"""Parity of training arithmetic: weight averaging, learning-rate schedules, LPIPS."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from parity.case import Case
from raekit.losses.perceptual import LPIPS
from raekit.training.optim import EMA, ScheduleConfig, lr_factor


def averages(case: Case) -> dict[str, Tensor]:
    """Weights averaged over four optimiser steps: parameters only, buffers left alone."""
    names = ("0.weight", "0.bias", "1.weight", "1.bias")
    live = {name: nn.Parameter(case.inputs[f"ema_init.{name}"].clone()) for name in names}
    ema = EMA(live, case.config["ema_decay"])
    rows = []
    for step in range(4):
        with torch.no_grad():
            for name, parameter in live.items():
                parameter.copy_(case.inputs[f"model_step{step}.{name}"])
        ema.update()
        rows.append(torch.cat([ema.values[name].flatten() for name in names]))
    return {"ema_after_step": torch.stack(rows), **schedules(case)}


def schedules(case: Case) -> dict[str, Tensor]:
    """Learning rate used at 90 steps, times 10^4 as stored."""
    rates = {}
    for name, entry in case.config["schedules"].items():
        base, schedule = read_schedule(entry["cfg"], case.config["steps_per_epoch"])
        rates[f"lr_{name}"] = torch.tensor([base * lr_factor(step, schedule, 90) * 1e4 for step in range(90)])
    return rates


def read_schedule(cfg: dict[str, Any], steps_per_epoch: int) -> tuple[float, ScheduleConfig]:
    """The published settings in ours; epochs become steps, and the rate starts to decay where the warm-up ends."""
    given = cfg["scheduler"]
    base = given.get("base_lr", cfg.get("base_lr", cfg.get("optimizer", {}).get("lr", 2e-4)))
    warmup = given.get("warmup_steps", given.get("warmup_epochs", 0) * steps_per_epoch)
    end = given.get("decay_end_steps", given.get("decay_end_epoch", 0) * steps_per_epoch)
    return base, ScheduleConfig(
        shape=given["type"],
        warmup_steps=warmup,
        is_warmup_from_zero=given["warmup_from_zero"],
        decay_end_steps=max(end, warmup),
        final_factor=given.get("final_lr", base) / base,
    )


def lpips(case: Case) -> dict[str, Tensor]:
    """The reduced network; its convolutions are numbered in the order of the official slices."""
    channels = case.config["vgg_channels"]
    convolutions = (2, 2, 3, 3, 3)
    loss = LPIPS(tuple((width,) * count for width, count in zip(channels, convolutions, strict=True)))
    tensors = {f"weights.{k}": case.weights[f"lin{k}.model.1.weight"] for k in range(5)}
    for k in range(5):
        keys = {int(key.split(".")[2]) for key in case.weights if key.startswith(f"net.slice{k + 1}.")}
        for position, index in enumerate(sorted(keys)):
            for kind in ("weight", "bias"):
                tensors[f"stages.{k}.{2 * position}.{kind}"] = case.weights[f"net.slice{k + 1}.{index}.{kind}"]
    loss.load_state_dict(tensors)
    image, target = ((case.inputs[name] + 1) / 2 for name in ("input", "target"))
    return {"mean": loss(image, target), "per_sample": loss.per_sample(image, target)}


CASES = {"rae_09_ema_lr_stats": averages, "rae_07b_lpips_reduced": lpips}
