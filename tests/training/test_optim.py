"""Schedules in closed form, the right optimiser for each weight, and updaters that survive the way through a file."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raekit.backbones import BACKBONES
from raekit.backbones.sizes import DIT_DH
from raekit.training.optim import OptimConfig, ScheduleConfig, Updater, build_optimizers, lr_factor


def test_cosine_meets_its_ends_and_its_middle() -> None:
    schedule = ScheduleConfig(shape="cosine", warmup_steps=10, final_factor=0.1)
    assert lr_factor(0, schedule, 110) == pytest.approx(0.1)
    assert lr_factor(9, schedule, 110) == pytest.approx(1.0)
    assert lr_factor(60, schedule, 110) == pytest.approx(0.55)
    assert lr_factor(110, schedule, 110) == lr_factor(500, schedule, 110) == pytest.approx(0.1)


def test_linear_and_constant() -> None:
    assert lr_factor(25, ScheduleConfig(shape="linear"), 100) == pytest.approx(0.75)
    assert lr_factor(99, ScheduleConfig(shape="constant"), 100) == 1.0


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters())


def test_only_matrices_decay_and_frozen_weights_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1))
    model[2].requires_grad_(False)
    optimizer = build_optimizers(named(model), OptimConfig(weight_decay=0.1))["adamw"]
    decays = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {2: 0.1, 1: 0.0}
    assert sum(p.numel() for group in optimizer.param_groups for p in group["params"]) == 2 * 3 + 3 + 3 + 3


def test_muon_takes_the_matrices_inside_and_adamw_the_ends() -> None:
    """Of a DiT-DH with labels: all linear maps of trunk and head blocks, and nothing else."""
    backbone = BACKBONES.build(
        BACKBONES["dit_dh"].Config(size="nano"), latent_shape=(8, 4, 4), cond_width=DIT_DH["nano"].trunk.width
    )
    label = nn.Embedding(5, 8)
    whole = named(nn.ModuleDict({"backbone": backbone, "table": label}))
    optimizers = build_optimizers(whole, OptimConfig(name="muon"))
    inner = {id(p) for group in optimizers["muon"].param_groups for p in group["params"]}
    names = {name for name, p in whole.items() if id(p) in inner}
    ends = ("qkv.weight", "proj.weight", "w12.weight", "w3.weight", "modulation.weight")
    assert names == {n for n in whole if ("blocks.0." in n or "blocks.1." in n or "blocks." in n) and n.endswith(ends)}
    assert any("head_blocks" in name for name in names)
    held = sum(len(group["params"]) for optimizer in optimizers.values() for group in optimizer.param_groups)
    assert held == len(whole)


def test_muon_learns() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    x = torch.randn(32, 8)
    updater = Updater(named(model), OptimConfig(name="muon", lr=0.1), total_steps=40)
    losses = []
    for step in range(40):
        updater.zero_grad()
        loss = (model(x) - x).square().mean()
        loss.backward()
        updater.update(step)
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_step_marked_bad_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    weights = {"blocks.0.weight": nn.Parameter(torch.randn(4, 4)), "bias": nn.Parameter(torch.randn(4))}
    updater = Updater(weights, OptimConfig(name=name), total_steps=9, decays=(0.9,))

    def everything() -> list[torch.Tensor]:
        averages = [*updater.ema.values.values(), *updater.extra[0.9].values.values()]
        return [t.clone() for t in (*weights.values(), *averages, *updater.state().values())]

    for factor in (1.0, float("nan"), 1.0):
        before = everything()
        for weight in weights.values():
            weight.grad = torch.ones_like(weight) * factor
        bad = torch.tensor(float(factor != 1.0))
        updater.clip()
        updater.update(1, bad)
        after = everything()
        same = len(before) == len(after) and all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert same == bool(bad)
    assert all(value.isfinite().all() for value in after)


def test_each_group_is_clipped_by_its_own_norm() -> None:
    weight = nn.Parameter(torch.zeros(4))
    weight.grad = torch.full((4,), 3.0)
    updater = Updater({"w": weight}, OptimConfig(clip_norm=1.0), total_steps=1)
    assert updater.clip().item() == 6.0
    torch.testing.assert_close(weight.grad, torch.full((4,), 0.5))


def test_a_late_starter_warms_up_from_its_own_start_and_decays_by_the_end() -> None:
    schedule = ScheduleConfig(warmup_steps=10, final_factor=0.1)
    updater = Updater({"w": nn.Parameter(torch.zeros(1))}, OptimConfig(lr=2.0, schedule=schedule), 110, start_step=50)
    assert updater.lr(50) == pytest.approx(0.2)
    assert updater.lr(59) == pytest.approx(2.0)
    assert updater.lr(110) == pytest.approx(0.2)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_state_survives_the_file(name: str) -> None:
    def run(steps: int, resumed_at: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        weights = {"blocks.0.weight": nn.Parameter(torch.randn(4, 4)), "bias": nn.Parameter(torch.randn(4))}
        updater = Updater(weights, OptimConfig(name=name), total_steps=steps)
        for step in range(steps):
            if step == resumed_at:
                tensors = {k: v.clone() for k, v in updater.state().items()}
                updater = Updater(weights, OptimConfig(name=name), total_steps=steps)
                updater.load_state(tensors)
            updater.zero_grad()
            (sum(w.square().sum() for w in weights.values()) * (step + 1)).backward()
            updater.update(step)
        return torch.cat([w.detach().flatten() for w in weights.values()])

    assert torch.equal(run(6, None), run(6, 3))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_moments_are_taken_over_and_never_lie_in_memory_twice(name: str) -> None:
    weight = nn.Parameter(torch.ones(3, 3))

    def stepped(updater: Updater) -> Updater:
        weight.grad = torch.ones_like(weight)
        updater.update(0)
        return updater

    given = {
        key: value.clone()
        for key, value in stepped(Updater({"blocks.0.weight": weight}, OptimConfig(name=name), 9)).state().items()
    }
    kept = {key: value.clone() for key, value in given.items()}
    updater = Updater({"blocks.0.weight": weight}, OptimConfig(name=name), 9)
    updater.load_state(given)
    held = updater.state()
    assert held.keys() == given.keys()
    assert all(value.data_ptr() == given[key].data_ptr() for key, value in held.items())
    stepped(updater)
    assert all(not torch.equal(given[key], kept[key]) for key in given)
