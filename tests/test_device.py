"""Devices and precisions: what ``auto`` means, and what cannot be had."""

from __future__ import annotations

import threading

import pytest
import torch

from raekit.device import autocast, device_name, one_thread, pick_device, pick_precision
from raekit.errors import UserError


def test_a_device_that_is_not_there_is_told() -> None:
    with pytest.raises(UserError, match="device 'cuda:77': not usable on this machine"):
        pick_device("cuda:77")
    with pytest.raises(UserError, match="device 'gpu'"):
        pick_device("gpu")


def test_a_gpu_is_looked_for_and_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda", 1), "nothing can be put there"
    with pytest.raises(UserError, match="device 'cuda:2'"):
        pick_device("cuda:2")


@pytest.mark.parametrize(("name", "current"), [("cpu", []), ("cuda:3", [3]), ("cuda", [1])])
def test_a_thread_works_on_its_device(name: str, current: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    settled: list[tuple[str, int]] = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda i: settled.append((threading.current_thread().name, i)))
    with one_thread(torch.device(name), "worker") as thread:
        assert [thread.submit(lambda: "done").result() for _ in range(2)] == ["done"] * 2
    assert settled == [("worker_0", index) for index in current]


def test_reports_call_a_gpu_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"fast card {device.index}")
    assert [device_name(torch.device(name)) for name in ("cpu", "cuda:1")] == ["cpu", "fast card 1"]


def test_auto_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert pick_precision("auto", cpu) == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    assert pick_precision("auto", cpu) == "fp32"
    assert pick_precision("bf16", cpu) == "bf16"


def test_an_unknown_precision_is_told() -> None:
    with pytest.raises(UserError, match="precision: 'fp8' is not one of auto, fp32, bf16"):
        pick_precision("fp8", torch.device("cpu"))  # type: ignore[arg-type]


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_sets_the_arithmetic_of_matrix_products(precision: str, dtype: torch.dtype) -> None:
    with autocast(precision, torch.device("cpu")):  # type: ignore[arg-type]
        assert (torch.rand(2, 2) @ torch.rand(2, 2)).dtype == dtype
