"""Data sheets and links."""

from __future__ import annotations

import pytest

from raekit.errors import UserError
from raekit.training.planning.machines import GPUS, Machine, board_of


def test_known_facts() -> None:
    """NVLink 4 is advertised as 900 GB/s both ways, a DGX H100 has eight cards of 400 Gbit/s: 400 GB/s a node."""
    machine = Machine("h100", 512)
    assert machine.num_nodes == 64 and machine.board == (989, 67, 80, 450, 400)
    assert machine.bandwidth(8) == pytest.approx(0.8 * 450e9)
    assert machine.bandwidth(16) == pytest.approx(0.8 * 400e9), "what leaves the node is the narrower place"
    assert machine.bandwidth_between(8) == machine.bandwidth_between(16) == pytest.approx(0.8 * 50e9)
    assert machine.bandwidth_between(2) == pytest.approx(0.8 * 200e9), "two rings share a node's eight cards"
    assert Machine("h100", 8).bandwidth_between(2) == pytest.approx(0.8 * 450e9), "they never leave the node"
    assert machine.bytes_to_fill == pytest.approx(72e9)
    assert machine.peak("bf16") == 2 * machine.peak("tf32") == 989e12
    assert machine.peak("fp32") == 67e12, "no tensor core multiplies fp32"
    assert all(gpu.tflops_fp32 < gpu.tflops for gpu in GPUS.values())
    assert {name: gpu.gigabytes for name, gpu in GPUS.items() if name[0] in "ahb"} == {
        "b200": 180,
        "h200": 141,
        "h100": 80,
        "a100": 80,
        "a100-40": 40,
    }


def test_boards_by_the_names_of_their_drivers() -> None:
    assert board_of("NVIDIA H100 80GB HBM3") == GPUS["h100"] and board_of("NVIDIA H200") == GPUS["h200"]
    assert board_of("NVIDIA GeForce RTX 4090") == GPUS["rtx4090"] and board_of("CPU") is None


def test_nodes_of_other_sizes() -> None:
    assert Machine("h100", 4).num_nodes == 1 and Machine("h100", 4).gpus_of_a_node == 4
    assert Machine("h100", 12, node_size=4).num_nodes == 3
    assert Machine("h100", 12, node_size=4).bandwidth(12) == pytest.approx(0.8 * 200e9)


def test_bad_machines() -> None:
    with pytest.raises(UserError, match="--gpu: 'h1000' is not listed; did you mean 'h100'"):
        Machine("h1000")
    with pytest.raises(UserError, match="--gpus: 0"):
        Machine("h100", 0)
    with pytest.raises(UserError, match="--gpus: 12 do not fill nodes of 8"):
        Machine("h100", 12)
    with pytest.raises(UserError, match="--node-size: 0"):
        Machine("h100", 4, node_size=0)
    with pytest.raises(UserError, match="--mfu: 40"):
        Machine("h100", mfu=40)
