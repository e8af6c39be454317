"""Every key of a source is loaded, or left out with a reason, or an error."""

from __future__ import annotations

import pytest
import torch

from raekit.errors import UserError
from raekit.interop.ledger import Ledger


def ledger() -> Ledger:
    tensors = {"a.weight": torch.ones(2), "a.bias": torch.zeros(2), "head.x": torch.zeros(1), "head.y": torch.zeros(1)}
    return Ledger(tensors, "weights 'm.pt'", {"step": "no tensor"})


def test_taken_and_left_out_keys_are_reported() -> None:
    found = ledger()
    assert found.take(["a.weight", "a.bias", "c"], {"c": "zeros"}).keys() == {"a.weight", "a.bias"}
    found.leave_out("head.", "never used")
    assert found.rows() == [
        ("loaded", "2 of 4 tensors"),
        ("left out", "step: no tensor"),
        ("left out", "2 keys, head.x, head.y: never used"),
        ("absent", "c: zeros"),
    ]


def test_a_key_that_is_neither_is_an_error() -> None:
    found = ledger()
    assert found.take_under("a.").keys() == {"weight", "bias"}
    with pytest.raises(UserError, match=r"m.pt': the keys do not fit: 2 unexpected \(head.x, head.y\)"):
        found.rows()


def test_a_missing_key_is_an_error() -> None:
    with pytest.raises(UserError, match=r"4 missing \(b, c, d and 1 more\)"):
        ledger().take(["a.bias", "b", "c", "d", "e"])


def test_a_taken_key_cannot_be_left_out() -> None:
    found = ledger()
    found.take(["a.bias", "a.weight"])
    found.leave_out("", "never used")
    assert found.left_out.keys() == {"step", "head.x", "head.y"}


def test_narrower_types_are_said() -> None:
    found = Ledger({"a": torch.ones(1, dtype=torch.bfloat16)}, "weights")
    found.take("a")
    assert found.rows() == [("loaded", "1 of 1 tensors (bfloat16, held as float32)")]
