"""Blocks that are compiled or computed twice say what they said, under the names they had."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

import tiny_language_model
from raekit.autoencoder.decoder import ViTDecoder
from raekit.backbones import BACKBONES
from raekit.conditioning.base import Cond
from raekit.training.blocks import blocks_of, holders_of, wrap
from raekit.training.planning.work import Checkpointing

HEAD = {"name": "dit_dh", "size": "nano", "width": 32, "depth": 2, "heads": 2}
HEAD |= {"head_width": 48, "head_depth": 2, "head_heads": 2}


OTHERWISE = {"mlp": "gelu", "norm": "layer", "qk_norm": "layer", "has_position_table": False}
DIT = {"name": "dit", "size": "nano", "width": 32, "depth": 2, "heads": 2}


def backbone(settings: dict[str, Any] = HEAD) -> nn.Module:
    torch.manual_seed(0)
    config = BACKBONES[settings["name"]].Config.model_validate(settings)
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


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounterWithBackend]:
    """Counts the graphs that are made, ways there and back, and runs them as they are; a break in one is an error."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter, fullgraph=True))
    yield counter
    torch.compiler.set_stance("default")
    torch._dynamo.reset()


def conditions(form: str) -> Cond:
    if form == "none":
        return Cond()
    if form == "vector":
        return Cond(vector=torch.randn(3, 32))
    if form == "tokens":
        return Cond(tokens=torch.randn(3, 16, 32))
    return Cond(context=torch.randn(3, 5, 32), mask=torch.arange(5) < torch.randint(1, 6, (3, 1)))


def takes_graphs(module: nn.Module, inputs: Iterator[tuple[Any, ...]], most: int, graphs: Any) -> None:
    """A step compiles each kind of block at most once; no later step compiles anything, and all say what they said."""
    steps = [next(inputs) for _ in range(3)]
    expected = [output_and_gradients(module, *step) for step in steps]
    wrap(blocks_of(module), is_compiled=True)
    for number, (step, values) in enumerate(zip(steps, expected, strict=True)):
        found = output_and_gradients(module, *step)
        torch.testing.assert_close(found, values, rtol=1e-4, atol=1e-5)
        if number == 0:
            assert 0 < graphs.frame_count <= most
            torch.compiler.set_stance("fail_on_recompile")


@pytest.mark.parametrize(
    ("settings", "form"),
    [
        (DIT, "none"),
        (DIT, "vector"),
        (DIT, "tokens"),
        (DIT, "context"),
        ({**DIT, **OTHERWISE, "has_rope": False, "early_block": 1}, "vector"),
        (HEAD, "vector"),
        ({**HEAD, "patch_size": 2, "qk_norm": "rms"}, "none"),
    ],
    ids=["dit alone", "dit", "dit by tokens", "dit by words", "dit otherwise", "dit_dh", "dit_dh of patches"],
)
def test_every_kind_of_block_is_one_graph_whatever_the_time_and_the_data(
    settings: dict[str, Any], form: str, graphs: CompileCounterWithBackend
) -> None:
    def steps() -> Iterator[tuple[Any, ...]]:
        while True:
            yield torch.randn(3, 16, 4, 4), torch.rand(3), conditions(form)

    takes_graphs(backbone(settings), steps(), 2 if settings["name"] == "dit_dh" else 1, graphs)


def test_blocks_of_the_decoder_are_one_graph(graphs: CompileCounterWithBackend) -> None:
    torch.manual_seed(0)
    decoder = ViTDecoder(ViTDecoder.Config(size="nano", width=16, depth=2, heads=2, mlp_width=24), 8, 2)
    takes_graphs(decoder, ((torch.randn(3, 4, 8),) for _ in range(3)), 1, graphs)


def test_checkpointed_blocks_in_bf16_are_one_graph(graphs: CompileCounterWithBackend) -> None:
    module = backbone(DIT)
    wrap(blocks_of(module), is_compiled=True, checkpointing="full")
    for number in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            output = module(torch.randn(3, 16, 4, 4), torch.rand(3), conditions("vector"))
        output.float().square().mean().backward()
        if number == 0:
            assert 0 < graphs.frame_count <= 2
            torch.compiler.set_stance("fail_on_recompile")


def test_a_break_in_a_graph_is_an_error(graphs: CompileCounterWithBackend) -> None:
    class Peeks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.sum().item() > 0 else x

    block = Peeks()
    wrap([block], is_compiled=True)
    with pytest.raises(torch._dynamo.exc.UserError, match="data-dependent"):
        block(torch.ones(2))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_blocks_that_are_compiled_to_code_say_the_same(checkpointing: Checkpointing) -> None:
    module, names = backbone(), list(backbone().state_dict())
    expected = output_and_gradients(module, *latents())
    wrap(blocks_of(module), is_compiled=True, checkpointing=checkpointing)
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
