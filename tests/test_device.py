"""Devices and precisions: what ``auto`` means, and what cannot be had."""

from __future__ import annotations

import pytest
import torch

from raekit.device import autocast, pick_device, pick_precision
from raekit.errors import UserError


def test_a_device_that_is_not_there_is_told() -> None:
    with pytest.raises(UserError, match="device 'cuda:77': not usable on this machine"):
        pick_device("cuda:77")
    with pytest.raises(UserError, match="device 'gpu'"):
        pick_device("gpu")


def test_auto_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert pick_precision("auto", cpu) == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    assert pick_precision("auto", cpu) == "fp32"
    assert pick_precision("bf16", cpu) == "bf16"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_sets_the_arithmetic_of_matrix_products(precision: str, dtype: torch.dtype) -> None:
    with autocast(precision, torch.device("cpu")):  # type: ignore[arg-type]
        assert (torch.rand(2, 2) @ torch.rand(2, 2)).dtype == dtype
