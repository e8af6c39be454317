"""A network filled after it was cut has the numbers of one that was built at once."""

from __future__ import annotations

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

import two_ranks
from raekit import distributed
from raekit.backbones.dit_dh import DiTDH
from raekit.conditioning.base import Cond
from raekit.training.parallel.deferred import Deferred, DeferredDraws
from raekit.training.parallel.placement import shard
from raekit.training.parallel.sharding import whole

CPU = torch.device("cpu")


def build() -> DiTDH:
    shape = {"width": 32, "depth": 2, "heads": 2, "head_width": 48, "head_depth": 1, "head_heads": 2}
    return DiTDH(DiTDH.Config(size="nano", **shape), (16, 4, 4), 32)


def outline() -> tuple[Deferred[DiTDH], DiTDH]:
    torch.manual_seed(3)
    deferred = Deferred[DiTDH](DiTDH.initialise)
    return deferred, deferred.build(build)


def check(network: DiTDH, expected: DiTDH) -> None:
    own = network.state_dict()
    assert own.keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert torch.equal(whole(own[name]), value), name
    for name, buffer in expected.named_buffers():
        assert torch.equal(network.get_buffer(name), buffer), name


def test_an_outline_is_filled_as_if_it_had_been_built_at_once() -> None:
    torch.manual_seed(3)
    expected, after = build(), torch.rand(2)
    deferred, network = outline()
    assert all(p.is_meta for p in network.parameters())
    assert torch.equal(torch.rand(2), after)
    deferred.fill(network, CPU)
    check(network, expected)
    network(torch.zeros(1, 16, 4, 4), torch.zeros(1), Cond(vector=torch.zeros(1, 32)))


def test_what_is_given_afterwards_is_not_drawn() -> None:
    torch.manual_seed(3)
    expected = build()
    deferred, network = outline()
    deferred.fill(network, CPU, is_drawn=False)
    network.load_state_dict(expected.state_dict())
    check(network, expected)


def test_a_draw_that_is_left_out_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    for is_drawn in (False, True):
        with DeferredDraws(is_drawn):
            torch.nn.init.normal_(torch.empty(3, device="meta"))
            torch.empty(2, 2, device="meta").uniform_()
        assert torch.equal(torch.get_rng_state(), before) != is_drawn


def meet() -> None:
    distributed.join(CPU)
    torch.manual_seed(3)
    expected = build()
    deferred, network = outline()
    shard(network, init_device_mesh("cpu", (2,)), MixedPrecisionPolicy())
    deferred.fill(network, CPU)
    assert isinstance(network.blocks[0].attention.qkv.weight, DTensor)
    check(network, expected)


def test_pieces_are_those_of_the_whole() -> None:
    two_ranks.run(meet)
