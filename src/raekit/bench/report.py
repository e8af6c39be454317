"""What a bench says: one report a setting, and the ratio of two.

In: measured numbers. Out: rows for a terminal, JSON for a file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class BenchReport:
    """Speed of one setting.

    Attributes:
        name: what was measured, as a person would say it.
        device: on what.
        precision: of the matrix products, ``fp32`` or ``bf16``.
        images: in one call.
        call_seconds: median of a call: a training step, or a batch of samples.
        part_seconds: medians of its parts, each run by itself; they need not add up to the call.
        call_flops: floating-point operations of a call, counted.
        matmul_tflops: matmul speed of this device and precision, measured beside it.
        peak_bytes: most memory held at once.
    """

    name: str
    device: str
    precision: str
    images: int
    call_seconds: float
    call_flops: int
    matmul_tflops: float
    peak_bytes: int
    part_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Throughput of the whole call."""
        return self.images / self.call_seconds

    @property
    def tflops(self) -> float:
        """Counted operations a second, in 10^12."""
        return self.call_flops / self.call_seconds / 1e12

    @property
    def utilisation(self) -> float:
        """Share of the measured matmul speed that the call reaches."""
        return self.tflops / self.matmul_tflops

    def shares(self) -> dict[str, float]:
        """Each part's share of the sum of parts."""
        whole = sum(self.part_seconds.values())
        return {name: seconds / whole for name, seconds in self.part_seconds.items()}

    def rows(self) -> list[tuple[str, str]]:
        """For a terminal."""
        shares = self.shares()
        return [
            ("device", f"{self.device}, {self.precision}"),
            ("images/s", f"{self.images_per_second:.2f} ({self.images} images in {self.call_seconds * 1e3:.1f} ms)"),
            *((name, f"{s * 1e3:9.2f} ms  {shares[name]:4.0%}") for name, s in self.part_seconds.items()),
            ("operations", f"{self.call_flops / self.images / 1e9:.2f} GFLOP an image, {self.tflops:.3f} TFLOP/s"),
            ("of matmul speed", f"{self.utilisation:.1%} of {self.matmul_tflops:.3f} TFLOP/s"),
            ("peak memory", f"{self.peak_bytes / 2**30:.2f} GiB"),
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything, with what follows from it."""
        derived = {"images_per_second": self.images_per_second, "utilisation": self.utilisation}
        return {**asdict(self), **derived}
