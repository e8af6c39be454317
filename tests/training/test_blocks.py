"""Blocks that are compiled or computed twice say what they said, under the names they had."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny_language_model
from raekit.autoencoder.decoder import ViTDecoder
from raekit.backbones import BACKBONES
from raekit.conditioning.base import Cond
from raekit.training.blocks import blocks_of, holders_of, wrap
from raekit.training.planning.work import Checkpointing

HEAD = {"name": "dit_dh", "size": "nano", "width": 32, "depth": 2, "heads": 2}
HEAD |= {"head_width": 48, "head_depth": 2, "head_heads": 2}


def backbone() -> nn.Module:
    torch.manual_seed(0)
    config = BACKBONES[HEAD["name"]].Config.model_validate(HEAD)
    built: nn.Module = BACKBONES.build(config, latent_shape=(16, 4, 4), cond_width=32)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return built


def output_and_gradients(module: nn.Module, *inputs: Any) -> dict[str, Tensor]:
    module.zero_grad()
    output = module(*inputs)
    output.square().mean().backward()
    return {"output": output, **{n: p.grad for n, p in module.named_parameters() if p.grad is not None}}


def latents() -> tuple[Tensor, Tensor, Cond]:
    torch.manual_seed(1)
    return torch.randn(3, 16, 4, 4), torch.rand(3), Cond(vector=torch.randn(3, 32))


def test_the_blocks_are_those_of_trunk_and_head_of_decoder_and_of_a_language_model() -> None:
    assert [type(block).__name__ for block in blocks_of(backbone())] == ["Block"] * 4
    decoder = ViTDecoder(ViTDecoder.Config(size="nano", width=16, depth=3, heads=2, mlp_width=24), 8, 2)
    assert [type(block).__name__ for block in blocks_of(decoder)] == ["DecoderBlock"] * 3
    assert len(list(blocks_of(tiny_language_model.build_model()))) == 2
    assert list(holders_of(nn.Sequential(decoder, nn.Linear(2, 2)))) == [decoder]
    assert [type(block).__name__ for block in blocks_of(tiny_language_model.build_encoder())] == ["T5Block"] * 2


def test_checkpointing_gives_the_same_gradients_and_keeps_less() -> None:
    module, names = backbone(), list(backbone().state_dict())
    expected, kept = output_and_gradients(module, *latents()), kept_bytes(module)
    wrap(blocks_of(module), is_compiled=False, checkpointing="full")
    assert list(module.state_dict()) == names
    found = output_and_gradients(module, *latents())
    assert found.keys() == expected.keys() and all(torch.equal(found[n], expected[n]) for n in found)
    assert kept_bytes(module) < 0.5 * kept


def test_a_language_model_can_be_checkpointed_too() -> None:
    model = tiny_language_model.build_model().get_decoder()
    ids = torch.tensor([[5, 6, 7, 8]])

    def run() -> dict[str, Tensor]:
        model.zero_grad()
        state = model(input_ids=ids, use_cache=False).last_hidden_state
        state.square().mean().backward()
        return {n: p.grad for n, p in model.named_parameters()}

    expected = run()
    wrap(blocks_of(model), is_compiled=False, checkpointing="full")
    found = run()
    assert all(torch.equal(found[n], expected[n]) for n in expected)


def test_selective_checkpointing_lies_between() -> None:
    kept = []
    for checkpointing in ("none", "selective", "full"):
        module = backbone()
        wrap(blocks_of(module), is_compiled=False, checkpointing=checkpointing)  # type: ignore[arg-type]
        kept.append(kept_bytes(module))
    assert kept[0] > 1.2 * kept[1] > 1.4 * kept[2]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_compiled_blocks_say_the_same_without_a_break_in_the_graph(checkpointing: Checkpointing) -> None:
    module, names = backbone(), list(backbone().state_dict())
    expected = output_and_gradients(module, *latents())
    blocks = list(blocks_of(module))
    x, cond = torch.randn(3, 16, 32), torch.randn(3, 1, 32)
    assert torch._dynamo.explain(blocks[0].forward)(x, cond).graph_break_count == 0
    torch._dynamo.reset()
    wrap(blocks, is_compiled=True, checkpointing=checkpointing)
    assert list(module.state_dict()) == names
    found = output_and_gradients(module, *latents())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def kept_bytes(module: nn.Module) -> int:
    """What autograd holds after a forward pass."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        sizes[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(*latents())
    own = {p.data_ptr() for p in module.parameters()}
    return sum(size for pointer, size in sizes.items() if pointer not in own)
