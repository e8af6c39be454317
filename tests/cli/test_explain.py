"""``raekit explain``: what is printed with a machine and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import verbs
from raekit.cli.explain import explain
from raekit.errors import UserError

RECIPE = Path(__file__).parents[2] / "recipes/stage2/imagenet256_dit_dh_s.yaml"


def test_a_plan_on_a_machine() -> None:
    out = verbs.run(explain, RECIPE, "--gpu", "h100", "--gpus", "8", "--strategy", "fsdp", "--build")
    lines = out.splitlines()
    for title in ("derived", "built on the meta device", "estimate, nothing measured"):
        assert title in lines
    for label in ("strategy", "operations a picture", "memory a GPU, GB", "together", "communication", "checkpoint"):
        assert f"\n  {label}" in out
    assert "FSDP, one shard in 8 on each GPU (as asked for)" in out
    header = next(line for line in lines if "memory a GPU, GB" in line)
    total = next(line for line in lines if line.split()[:2] == ["in", "all"])
    assert header.split()[4:10] == ["weights", "gradients", "moments", "averages", "gathered", "activations"]
    assert len(total.split()) == 8


def test_nodes_of_four() -> None:
    out = verbs.run(explain, RECIPE, "--gpu", "a100", "--gpus", "12", "--node-size", "4", "--strategy", "hsdp")
    assert "HSDP, one shard in 4 on each GPU, in 3 copies" in out and "within nodes of 4, 200 Gbit/s" in out


def test_strategies_that_do_not_exist() -> None:
    with pytest.raises(UserError, match="--strategy: 'zero' is not known; known: auto, ddp, fsdp, hsdp"):
        verbs.run(explain, RECIPE, "--gpu", "h100", "--strategy", "zero")


@pytest.mark.parametrize("option", [("--gpus", "8"), ("--node-size", "4"), ("--mfu", "0.5"), ("--strategy", "fsdp")])
def test_an_option_of_the_estimate_needs_a_gpu(option: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=f"{option[0]} {option[1]}: there is no estimate without a GPU"):
        verbs.run(explain, RECIPE, *option)


def test_a_wrong_machine_is_told_before_anything_is_printed(capsys) -> None:
    with pytest.raises(UserError, match="--gpu: 'h10' is not listed; did you mean 'h100'?"):
        verbs.run(explain, RECIPE, "--gpu", "h10")
    assert capsys.readouterr().out == ""


def test_a_cache_is_reckoned_for_the_gpu_that_is_asked_for() -> None:
    assert "40% of the peak of h100 in bf16, as no --gpu is named" in verbs.run(explain, RECIPE)
    out = verbs.run(explain, RECIPE, "--gpu", "a100", "--mfu", "0.5")
    assert "encoding at 156 TFLOP/s, assumed: 50% of the peak of a100 in bf16" in out
