"""The report of a run that stopped itself names what happened and what to try."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raekit.training.guarding.bad_steps import Row
from raekit.training.guarding.guards import GuardConfig, Guards
from raekit.training.guarding.stopped import kinds, past, write_report

SAMPLES = range(640, 704)


def after(*losses: float, goes_back: bool = True) -> Guards:
    guards = Guards(GuardConfig(window_steps=8, goes_back=goes_back), 3, {}, "cpu")
    for step, loss in enumerate((1.0, 1.1, 0.9, 1.05, *losses)):
        terms = {"loss": torch.tensor(loss)}
        guards.count(guards.judge("", step, terms, {"model": torch.tensor(0.5)}), step)
    return guards


def test_the_report_of_spikes_names_steps_samples_and_settings(tmp_path: Path) -> None:
    guards, row = after(70.0, 80.0, 90.0), Row(3, 4)
    assert kinds(guards, row) == "3 spikes"
    text = write_report(tmp_path, guards, row, SAMPLES, "It ended there.").read_text()
    assert text.startswith("# Training stopped: 3 bad steps in a row from step 4")
    for words in (
        "`train.max_bad_steps = 3`",
        "It ended there.",
        "positions 640 to 703",
        "train.guards.loss_spike=null",
    ):
        assert words in text
    assert "| 3 | 1.05 | 0.5 |  |" in text and "| 6 | 90 | 0.5 | spike |" in text and "| usual | 1 | 0.5 |" in text
    assert "fp32" not in text


def test_advice_follows_what_was_seen(tmp_path: Path) -> None:
    nan = float("nan")
    guards, row = after(nan, nan, 70.0), Row(3, 4)
    assert kinds(guards, row) == "2 not finite, 1 spike"
    text = write_report(tmp_path, guards, row, SAMPLES, "").read_text()
    assert "train.precision=fp32" in text and "loss_spike=null" in text
    assert kinds(guards, Row(1, 900)) == "longer ago than the report remembers"


@pytest.mark.parametrize("goes_back", [True, False])
def test_why_it_did_not_go_back(goes_back: bool) -> None:
    guards = after(goes_back=goes_back)
    if goes_back:
        guards.go_back(100)
    assert ("from step 100 before, and went on with 0.5 times" if goes_back else "goes_back` is off") in past(guards)
