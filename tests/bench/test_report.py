"""Ratios by hand."""

from __future__ import annotations

from raekit.bench.report import BenchReport

REPORT = BenchReport(
    name="stage 1",
    device="CPU",
    precision="fp32",
    images=8,
    call_seconds=0.5,
    call_flops=10**12,
    matmul_tflops=4.0,
    peak_bytes=2**31,
    part_seconds={"encoder": 0.5, "decoder": 1.5},
)


def test_what_follows_from_the_measured_numbers() -> None:
    assert REPORT.images_per_second == 16 and REPORT.tflops == 2.0 and REPORT.utilisation == 0.5
    assert REPORT.shares() == {"encoder": 0.25, "decoder": 0.75}


def test_rows_and_json_say_so() -> None:
    rows = dict(REPORT.rows())
    assert rows["encoder"].endswith("25%") and rows["peak memory"] == "2.00 GiB"
    assert rows["operations"].startswith("125.00 GFLOP an image")
    assert REPORT.as_json()["images_per_second"] == 16
