"""Verdicts of ``raekit doctor`` on machines that this one is not."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch

from raekit import shipped
from raekit.bench import machine
from raekit.cli import doctor

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.mark.parametrize(
    ("tflops", "precision", "verdict"),
    [(0.05, "fp32", "0.050 TFLOP/s: ok"), (0.001, "fp32", "slow"), (0.001, "bf16", "for information")],
)
def test_speed_of_a_cpu(tflops: float, precision: str, verdict: str) -> None:
    assert verdict in doctor.speed_verdict(tflops, precision, CPU)


@pytest.mark.parametrize(
    ("name", "tflops", "verdict"),
    [
        ("NVIDIA H100 80GB HBM3", 700, "71% of its data sheet: ok"),
        ("NVIDIA H100 80GB HBM3", 100, "10% of its data sheet: slow"),
        ("NVIDIA GeForce RTX 4090", 150, "91% of its data sheet: ok"),
        ("Unknown", 100, "no data sheet"),
    ],
)
def test_speed_of_a_gpu(monkeypatch: pytest.MonkeyPatch, name: str, tflops: float, verdict: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    assert verdict in doctor.speed_verdict(tflops, "bf16", CUDA)


def test_fp32_of_a_gpu_is_held_to_its_own_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    assert "76% of its data sheet: ok" in doctor.speed_verdict(51, "fp32", CUDA)


@pytest.mark.parametrize(("speed", "verdict"), [(1000, "ok"), (20, "slow for a large GPU; add cores, or cache")])
def test_loader(monkeypatch: pytest.MonkeyPatch, speed: float, verdict: str) -> None:
    monkeypatch.setattr(machine, "loader_speed", lambda threads: speed)
    assert verdict in doctor.loader()[1]


def test_collectives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "collective_works", lambda name: name == "gloo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows = dict(doctor.collectives())
    assert rows["gloo"].startswith("works: ok") and rows["nccl"].endswith("not needed without a GPU")
    monkeypatch.setattr(machine, "collective_works", lambda name: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    rows = dict(doctor.collectives())
    assert "reinstall torch" in rows["gloo"] and "CUDA build" in rows["nccl"]


@pytest.mark.parametrize(("free", "verdict"), [(500, "ok"), (10, "enough for recipes/nano"), (1, "too little")])
def test_free_disk(monkeypatch: pytest.MonkeyPatch, free: int, verdict: str) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(1000 * 2**30, 0, free * 2**30))
    assert f": {verdict}" in doctor.free_disk()[1]


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"torch": "2.9.1+cpu", "numpy": None}
    monkeypatch.setattr(doctor, "_version", lambda name: found.get(name, "1.0"))
    rows = dict(doctor.versions())
    assert rows["torch"] == "2.9.1+cpu: too old; 2.11 or newer is needed"
    assert rows["numpy"] == "missing; pip install -e ." and rows["pydantic"] == "1.0: ok"


def test_what_ships_is_counted_and_named() -> None:
    name, said = doctor.bundled_recipes()
    assert name == "recipes" and str(shipped.PACKAGE / "recipes") in said and int(said.split()[0]) > 40
    assert "nano (" in doctor.bundled_models()[1]
