"""Ratios by hand."""

from __future__ import annotations

from dataclasses import replace

from raekit.bench.report import BenchReport

REPORT = BenchReport(
    name="stage 1",
    device="CPU",
    precision="fp32",
    count=8,
    call_seconds=0.5,
    call_flops=10**12,
    matmul_tflops=4.0,
    peak_bytes=2**31,
    part_seconds={"encoder": 0.5, "decoder": 1.5},
)


def test_what_follows_from_the_measured_numbers() -> None:
    assert REPORT.per_second == 16 and REPORT.tflops == 2.0 and REPORT.utilisation == 0.5
    assert REPORT.shares() == {"encoder": 0.25, "decoder": 0.75}


def test_rows_and_json_say_so() -> None:
    rows = dict(REPORT.rows())
    assert rows["encoder"].endswith("25%") and rows["peak memory"] == "2.00 GiB (the whole process, since it began)"
    assert rows["operations"].startswith("125.00 GFLOP an image")
    assert REPORT.as_json()["images_per_second"] == 16


def test_what_is_counted_is_named() -> None:
    report = replace(REPORT, unit="conversation", tokens=4096, device="NVIDIA H100 80GB HBM3")
    rows = dict(report.rows())
    assert rows["conversations/s"].startswith("16.00 (8 conversations in") and "images/s" not in rows
    assert rows["tokens/s"] == "8192.0 (4096 tokens)" and rows["operations"].startswith("125.00 GFLOP a conversation")
    assert rows["peak memory"] == "2.00 GiB (tensors)"
    written = report.as_json()
    assert written["conversations_per_second"] == 16 and written["tokens_per_second"] == 8192
    assert "tokens_per_second" not in REPORT.as_json()
