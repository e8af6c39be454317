"""The machines that runs are planned for: GPUs as their vendor describes them, and what connects them.

In: the name of a GPU and how many there are. Out: :class:`Machine`, the speeds that ``budget.py`` divides by. Nothing
here was measured. Sources: NVIDIA's data sheets of the boards, and of DGX A100, H100, H200 and B200 for what a node of
eight has (NVLink between its GPUs; one ConnectX card of 200 or 400 Gbit/s a GPU to the other nodes). The boards below
those have no NVLink and no usual network: they are taken on their PCIe slot, with 25 Gbit/s a GPU between nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from raekit.errors import UserError
from raekit.registry import nearest_hint

Arithmetic = Literal["bf16", "tf32", "fp32"]
"""Of matrix products; ``tf32`` are fp32 ones on tensor cores, which round their factors to 10 bits."""
TF32_SHARE = 0.5
"""Speed of TF32 products over that of bf16, on all GPUs listed."""
RESERVE = 0.9
"""Share of a GPU's memory that tensors may fill; the rest is CUDA's own, and gaps."""
LINK_SHARE = 0.8
"""Share of a link's speed that a collective reaches; assumed: what large messages come to where all is well."""
NODE = 8
"""GPUs of a node, unless a caller says otherwise."""


class GPU(NamedTuple):
    """As its vendor describes it.

    Attributes:
        tflops: of dense bf16 products summed in fp32, 10^12 operations a second.
        tflops_fp32: of exact fp32, which no tensor core multiplies.
        gigabytes: of memory.
        link: GB/s to the GPUs of its node, one way: half of what is advertised for both ways together.
        network: Gbit/s of its own network card, one way.
    """

    tflops: float
    tflops_fp32: float
    gigabytes: float
    link: float
    network: float


GPUS = {
    "b200": GPU(2250, 75, 180, 900, 400),
    "h200": GPU(989, 67, 141, 450, 400),
    "h100": GPU(989, 67, 80, 450, 400),
    "a100": GPU(312, 19.5, 80, 300, 200),
    "a100-40": GPU(312, 19.5, 40, 300, 200),
    "l40s": GPU(362, 91.6, 48, 32, 25),
    "rtx5090": GPU(209.5, 104.8, 32, 64, 25),
    "rtx4090": GPU(165.2, 82.6, 24, 32, 25),
    "rtx3090": GPU(71, 35.6, 24, 32, 25),
}
"""Without sparsity; H100 and A100 are the SXM boards."""


def board_of(device: str) -> GPU | None:
    """The data sheet of a GPU by the name that its driver gives it; None of one that is not listed."""
    name = device.lower().replace(" ", "")
    return next((GPUS[key] for key in sorted(GPUS, key=len, reverse=True) if key in name), None)


@dataclass(frozen=True)
class Machine:
    """What a run is planned for.

    Attributes:
        gpu: row of :data:`GPUS`.
        num_gpus: how many.
        mfu: share of the peak that is reached; 0.3 to 0.5 where all goes well.
        node_size: GPUs that share a node; fewer are a node too.

    Raises:
        UserError: an unknown GPU, or a number that makes no sense.
    """

    gpu: str
    num_gpus: int = 1
    mfu: float = 0.4
    node_size: int = NODE

    def __post_init__(self) -> None:
        if self.gpu not in GPUS:
            raise UserError(f"--gpu: {self.gpu!r} is not listed; {nearest_hint(self.gpu, GPUS)}")
        if self.num_gpus < 1:
            raise UserError(f"--gpus: {self.num_gpus}; give 1 or more")
        if self.node_size < 1:
            raise UserError(f"--node-size: {self.node_size}; give 1 or more")
        if self.num_gpus > self.node_size and self.num_gpus % self.node_size:
            raise UserError(
                f"--gpus: {self.num_gpus} do not fill nodes of {self.node_size}; give a multiple of it, or --node-size"
            )
        if not 0 < self.mfu <= 1:
            raise UserError(f"--mfu: {self.mfu:g}; give a share of the peak, above 0 and up to 1")

    @property
    def board(self) -> GPU:
        """Its data sheet."""
        return GPUS[self.gpu]

    @property
    def num_nodes(self) -> int:
        """Nodes that the GPUs fill."""
        return -(-self.num_gpus // self.node_size)

    @property
    def gpus_of_a_node(self) -> int:
        """Of a node as it is: all of them, where they are fewer than one holds."""
        return min(self.num_gpus, self.node_size)

    @property
    def bytes_to_fill(self) -> float:
        """Of each GPU, for tensors."""
        return self.board.gigabytes * 1e9 * RESERVE

    def peak(self, arithmetic: Arithmetic) -> float:
        """Operations a second of one GPU, at best."""
        board = self.board
        tflops = {"bf16": board.tflops, "tf32": board.tflops * TF32_SHARE, "fp32": board.tflops_fp32}
        return tflops[arithmetic] * 1e12

    def bandwidth(self, num_ranks: int) -> float:
        """Bytes a second that each of ``num_ranks`` neighbours passes on in a ring, where all of a node's cards share
        what leaves the node."""
        within = self.board.link * 1e9
        if num_ranks > self.node_size:
            within = min(within, self.node_size * self.board.network / 8 * 1e9)
        return within * LINK_SHARE

    def bandwidth_between(self, num_shards: int) -> float:
        """Bytes a second of a ring of the GPUs that hold the same one of ``num_shards`` shards. Where it leaves the
        node, all such rings share the node's cards."""
        within = self.board.link * 1e9
        if self.num_gpus > self.node_size:
            cards = max(self.node_size / num_shards, 1)
            within = min(within, cards * self.board.network / 8 * 1e9)
        return within * LINK_SHARE
