"""Counts that are known on paper, clocks that tick by hand."""

from __future__ import annotations

import time

import pytest
import torch
import torch.nn.functional as F

from raekit import cost

CPU = torch.device("cpu")


def test_a_product_of_matrices_counts_two_operations_a_pair() -> None:
    left, right = torch.zeros(4, 5), torch.zeros(5, 6)
    assert cost.count_flops(lambda: left @ right, CPU) == 2 * 4 * 5 * 6


def test_backward_passes_and_attention_are_counted() -> None:
    x, weight = torch.randn(4, 5), torch.randn(5, 6, requires_grad=True)
    assert cost.count_flops(lambda: (x @ weight).sum().backward(), CPU) == 2 * (2 * 4 * 5 * 6)
    q = torch.randn(1, 2, 7, 8)
    assert cost.count_flops(lambda: F.scaled_dot_product_attention(q, q, q), CPU) == 2 * (2 * 2 * 7 * 7 * 8)


def test_on_a_gpu_attention_stays_the_one_that_it_runs() -> None:
    """Forcing the plain one there would keep its matrices in memory; here it is seen that nothing is forced."""
    found = []
    cost.count_flops(lambda: found.append(torch.backends.cuda.flash_sdp_enabled()), torch.device("cuda"))
    cost.count_flops(lambda: found.append(torch.backends.cuda.flash_sdp_enabled()), CPU)
    assert found == [True, False]


def test_the_median_leaves_an_outlier_and_the_warm_up_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "perf_counter", iter([0, 100, 101, 200, 203, 300, 390]).__next__)
    assert cost.seconds_of(lambda: None, CPU, repeats=3) == 3


def test_matmul_speed_on_a_clock_that_ticks_a_second_per_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds see one product and three readings after the start."""
    monkeypatch.setattr(cost, "MATMUL_SECONDS", 2)
    monkeypatch.setattr(cost, "perf_counter", iter(range(100)).__next__)
    assert cost.matmul_tflops(CPU, torch.float32, size=100) == pytest.approx(2e6 / 3 / 1e12)


def test_a_gpu_is_waited_for_once_in_many_products(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, products = [], []
    monkeypatch.setattr(cost, "MATMUL_SECONDS", 2)
    monkeypatch.setattr(cost, "perf_counter", iter(range(100)).__next__)
    monkeypatch.setattr(cost, "wait", waits.append)
    monkeypatch.setattr(torch, "mm", lambda left, right: products.append(left.shape))
    monkeypatch.setattr(torch, "randn", lambda *shape, device: torch.empty(shape, device="meta"))
    speed = cost.matmul_tflops(torch.device("cuda"), torch.bfloat16)
    assert len(products) == 1 + 20 and set(products) == {(8192, 8192)} and len(waits) == 2
    assert speed == pytest.approx(20 * 2 * 8192**3 / 3 / 1e12)


def test_a_stopwatch_leaves_the_first_lap_out() -> None:
    watch = cost.Stopwatch(CPU)
    assert watch.images_per_second == 0
    with watch.lap(8):
        time.sleep(0.05)
    for _ in range(2):
        with watch.lap(8):
            time.sleep(0.005)
    assert 16 / 0.05 < watch.images_per_second < 16 / 0.01


def test_memory_has_a_peak() -> None:
    cost.forget_peak(CPU)
    assert cost.peak_bytes(CPU) > 2**20
