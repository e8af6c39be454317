"""Pieces, norms and wholes of sharded tensors, and that plain ones pass as they are."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import two_ranks
from raekit import distributed
from raekit.training.ema import EMA
from raekit.training.muon import Muon
from raekit.training.parallel.sharding import cut_like, fill, gathered, piece, total_norm, whole


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 5)


def meet() -> None:
    distributed.join(torch.device("cpu"))
    plain, cut = layer(), layer()
    fully_shard(cut, mesh=init_device_mesh("cpu", (2,)))
    assert isinstance(cut.weight, DTensor) and piece(cut.weight).shape == ((3, 4) if distributed.is_main() else (2, 4))
    assert torch.equal(whole(cut.weight), plain.weight)
    assert torch.equal(piece(cut_like(plain.weight.detach(), cut.weight)), piece(cut.weight))
    both, one = [plain.weight.detach(), cut.weight.detach()], [plain.weight.detach()] * 2
    torch.testing.assert_close(total_norm(both), total_norm(one))
    torch.testing.assert_close(total_norm(both[1:]), total_norm(one[1:]))

    with gathered([cut]):
        assert isinstance(cut.weight, DTensor) is not distributed.is_main()
        if distributed.is_main():
            assert torch.equal(cut.state_dict()["weight"], plain.weight)
    assert isinstance(cut.weight, DTensor)

    average = EMA({"w": cut.weight}, 0.5)
    fill(average.values, {"w": plain.weight.detach() + 2})
    average.update()
    torch.testing.assert_close(whole(average.values["w"]), plain.weight.detach() + 1)
    average.swap()
    torch.testing.assert_close(whole(cut.weight).detach(), plain.weight.detach() + 1)
    average.swap()
    for found_inf in (None, torch.zeros(()), torch.ones(())):
        muons = [Muon([m.weight], lr=0.1, weight_decay=0.1) for m in (plain, cut)]
        for _ in range(2):
            gradient = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
            plain.weight.grad, cut.weight.grad = gradient, cut_like(gradient, cut.weight)
            for muon in muons:
                muon.found_inf = found_inf
                muon.step()
            torch.testing.assert_close(whole(cut.weight), plain.weight, rtol=0, atol=1e-6)


def test_two_processes_hold_a_half_each() -> None:
    two_ranks.run(meet)


def test_plain_tensors_pass_as_they_are() -> None:
    tensor = torch.tensor([3.0, 4.0])
    assert piece(tensor) is tensor and whole(tensor) is tensor and cut_like(tensor, tensor) is tensor
    assert total_norm([tensor, torch.tensor([12.0])]) == 13.0
