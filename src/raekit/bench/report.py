"""What a bench says: one report a setting, and the ratio of two.

In: measured numbers. Out: rows for a terminal, JSON for a file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

ARTICLES = {"image": "an", "answer": "an"}
"""Of what is counted; ``a`` of the rest."""


@dataclass(frozen=True)
class BenchReport:
    """Speed of one setting.

    Attributes:
        name: what was measured, as a person would say it.
        device: on what.
        precision: of the matrix products, ``fp32`` or ``bf16``.
        count: images, or whatever ``unit`` says, in one call.
        call_seconds: median of a call: a training step, or a batch of samples.
        part_seconds: medians of its parts, each run by itself; they need not add up to the call.
        call_flops: floating-point operations of a call, counted.
        matmul_tflops: matmul speed of this device and precision, measured beside it.
        peak_bytes: most memory held at once: of tensors on CUDA, of the whole process since it began on a CPU.
        unit: what ``count`` counts: image, conversation, candidate or answer.
        tokens: of the language model in one call, what fills rows up included; 0 where they are not counted.
    """

    name: str
    device: str
    precision: str
    count: int
    call_seconds: float
    call_flops: int
    matmul_tflops: float
    peak_bytes: int
    part_seconds: dict[str, float] = field(default_factory=dict)
    unit: str = "image"
    tokens: int = 0

    @property
    def per_second(self) -> float:
        """Throughput of the whole call, in its unit."""
        return self.count / self.call_seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens of the language model."""
        return self.tokens / self.call_seconds

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
        shares, one = self.shares(), f"{ARTICLES.get(self.unit, 'a')} {self.unit}"
        held = "the whole process, since it began" if self.device == "CPU" else "tensors"
        called = f"{self.count} {self.unit}s in {self.call_seconds * 1e3:.1f} ms"
        return [
            ("device", f"{self.device}, {self.precision}"),
            (f"{self.unit}s/s", f"{self.per_second:.2f} ({called})"),
            *([("tokens/s", f"{self.tokens_per_second:.1f} ({self.tokens} tokens)")] if self.tokens else []),
            *((name, f"{s * 1e3:9.2f} ms  {shares[name]:4.0%}") for name, s in self.part_seconds.items()),
            ("operations", f"{self.call_flops / self.count / 1e9:.2f} GFLOP {one}, {self.tflops:.3f} TFLOP/s"),
            ("of matmul speed", f"{self.utilisation:.1%} of {self.matmul_tflops:.3f} TFLOP/s"),
            ("peak memory", f"{self.peak_bytes / 2**30:.2f} GiB ({held})"),
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything, with what follows from it."""
        derived = {f"{self.unit}s_per_second": self.per_second, "utilisation": self.utilisation}
        return {**asdict(self), **derived, **({"tokens_per_second": self.tokens_per_second} if self.tokens else {})}
