"""Everything that runs on an accelerator runs on another device than the CPU, and gives the same numbers there.

The device is a pretended one (``pretended_device.py``): what these tests can find is a tensor left on the CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

import pretended_device
import tiny_autoencoders
import tiny_data
import tiny_generator
import tiny_recipes
from raekit.device import sent
from raekit.encoders.ahead import _map_tensors
from raekit.generate import ImageGenerator
from raekit.metrics.frechet import FeatureStatistics, distance
from raekit.metrics.reconstruction import psnr, ssim
from raekit.training.loop import Trainer
from raekit.understand import Question, Understander
from raekit.verifiers.judge import Judge

DEVICE = f"{pretended_device.NAME}:0"
IMAGES = (torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
ASKING = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select")
"""What the device has to finish its work for; ``item``, ``bool`` and ``float`` of a tensor come down to the first."""
ADVERSARY = {"discriminator": {"name": "features", "backbone": "encoder", "kernel_size": 3}, "optim": {"lr": 1e-3}}

RECIPES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "encoder": ("encoder", {}, {"is_linear_start": False}),
    "decoder": ("stage1", {}, {}),
    "decoder and discriminator": ("stage1", {}, {"adversary": ADVERSARY}),
    "queries": ("stage2", {}, {"times_per_picture": 2}),
    "words in context": ("stage2", {"name": "text", "width": 40}, {}),
    "trained language model": ("stage2", {"is_llm_trained": True}, {"optim": {"name": "muon", "lr": 1e-3}}),
    "cached": ("stage2", {"are_queries_trained": False}, {"cache": "cache"}),
    "unified": ("unified", {"is_llm_trained": True}, {}),
    "questions only": ("unified", {"is_llm_trained": True}, {"language_model_optim": {"lr": 1e-4}}),
    "unified with adapters": ("unified", {"lora": {"rank": 2}}, {"is_linear_start": True}),
}


@pytest.mark.parametrize("name", RECIPES)
def test_training(name: str, tmp_path: Path) -> None:
    pretended_device.run(_train_on_both, name, tmp_path)


def _train_on_both(name: str, folder: Path) -> None:
    make, condition, changes = RECIPES[name]
    losses = []
    for device in ("cpu", DEVICE):
        values = getattr(tiny_recipes, make)(folder / device, **condition) | changes
        if name == "questions only":
            del values["data"]["mixture"][0]
        if "cache" in values:
            values["cache"] = str(folder / device / "cache")
        trainer = Trainer(tiny_recipes.resolve(values, device=device, steps=2, sample_every_steps=2))
        assert trainer.train() is not None
        assert {tensor.device.type for tensor in trainer.stage.state().values()} == {torch.device(device).type}
        losses.append([row["loss"] for row in trainer.run.history() if "loss" in row])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


QUIET: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "queries": ("stage2", {"is_llm_trained": True}, {}),
    "words in context": ("stage2", {"name": "text", "width": 40, "is_llm_trained": True}, {}),
    "queries, one prompt": ("stage2", {"is_llm_trained": True}, {}),
    "labels": ("stage2", {}, {"condition": {"name": "label", "num_classes": 2, "width": 16}, "sample_prompts": [0, 1]}),
    "unified": ("unified", {"is_llm_trained": True}, {}),
    "unified, packed": ("unified", {"lora": {"rank": 2}}, {}),
}


class Questions(TorchDispatchMode):
    """What the host asks the device for, and would wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        if any(tensor.device.type == pretended_device.NAME for tensor in tensors):
            name = func.name().split(".")[0].removeprefix("aten::")
            is_mask = name.startswith(("index", "_index")) and any(tensor.dtype == torch.bool for tensor in tensors[1:])
            is_left = name == "_to_copy" and torch.device((kwargs or {}).get("device") or DEVICE).type == "cpu"
            if name in ASKING or is_mask or is_left:
                self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", QUIET)
def test_the_host_asks_for_nothing_within_a_step(name: str, tmp_path: Path) -> None:
    pretended_device.run(_step_quietly, name, tmp_path)


def _step_quietly(name: str, folder: Path) -> None:
    make, condition, changes = QUIET[name]
    values = getattr(tiny_recipes, make)(folder, **condition) | changes
    if "packed" in name:
        values["data"]["row_tokens"] = values["data"]["max_tokens"]
    if name == "labels":
        for part in ("one", "other"):
            tiny_data.pictures(folder / "classes" / part)
        mixture = [{"name": "folder", "path": str(folder / "classes")}]
        values |= {part: {**values[part], "mixture": mixture} for part in ("data", "held_out")}
    device, size = torch.device(DEVICE), 1 if "one prompt" in name else 2
    trainer = Trainer(tiny_recipes.resolve(values, device=DEVICE, batch_size=size))
    # As encode_ahead moves them, in a thread of its own.
    moved = (_map_tensors(lambda tensor: sent(tensor, device), batch) for batch in trainer.stage.batches(0, size))
    micros = trainer.ready(moved)
    trainer.train_step(micros)
    for _ in range(4):  # with and without pictures, where there are conversations
        with Questions() as questions:
            trainer.train_step(micros)
        assert not questions.found
    with Questions() as questions:
        assert trainer.bad_steps == 0
    assert questions.found, "nothing is noticed"


WAYS: tuple[dict[str, Any], ...] = (
    {"guidance_scale": 2.0, "negative": "a blue square"},
    {"guidance": "internal", "sampler": "heun", "guidance_interval": (0.2, 0.9)},
    {"sampler": "sde", "image": IMAGES[0], "strength": 0.6},
)


def test_drawing(tmp_path: Path) -> None:
    pretended_device.run(_draw_on_both, tmp_path)


def _draw_on_both(folder: Path) -> None:
    backbone = {"backbone": {**tiny_generator.BACKBONE, "depth": 2, "early_block": 1}}
    path = tiny_generator.saved(folder, **backbone)
    here, there = (ImageGenerator.load(path, device, precision="fp32") for device in ("cpu", DEVICE))
    for way in WAYS:
        _same(*(generator(["a red circle"], num=2, output="tensor", **way) for generator in (here, there)))
    tiny_generator.class_to_image(folder / "classes").save(folder / "of_classes", folder / "classes" / "autoencoder")
    both = (ImageGenerator.load(folder / "of_classes", device, precision="fp32") for device in ("cpu", DEVICE))
    _same(*(generator([1, 3], output="latent") for generator in both))


def test_seeing_and_judging(tmp_path: Path) -> None:
    pretended_device.run(_ask_on_both, tmp_path)


def _ask_on_both(folder: Path) -> None:
    tiny_generator.unified(folder, {"vision_shape": (16, 32)}).save(folder / "unified", folder / "autoencoder")
    here, there = (ImageGenerator.load(folder / "unified", device, precision="fp32") for device in ("cpu", DEVICE))
    asked = [Question.of("what is this?", [IMAGES[0]]), Question.of("say no"), Question.of("?", [*IMAGES[1:]])]
    answers = [Understander.of(generator).ask(asked, max_tokens=4) for generator in (here, there)]
    assert answers[0] == answers[1]
    latents = here.sample(["a red circle"], num=3)
    for verifier in ("answer_logits", "prompt_confidence"):
        found = [Judge.of(verifier, generator)(latents, ["a red circle"] * 3)["score"] for generator in (here, there)]
        _same(*found)
    best = [g("a red circle", best_of=3, keep=1, verifier="answer_logits", output="latent") for g in (here, there)]
    _same(*best)


def test_latent_spaces_and_figures(tmp_path: Path) -> None:
    pretended_device.run(_measure_on_both, tmp_path)


def _measure_on_both(folder: Path) -> None:
    image = IMAGES.float() / 255
    for kind in ("rae", "kl_vae"):
        space = tiny_autoencoders.build(kind, folder / kind)
        redrawn = {}
        for device in ("cpu", DEVICE):
            space.to(torch.device(device))
            redrawn[device] = space.decode(space.encode(image.to(device)))
        _same(*redrawn.values())
        for metric in (psnr, ssim):
            _same(*(metric(drawn, drawn.flip(3)) for drawn in redrawn.values()))
    distances = []
    for device in ("cpu", DEVICE):
        one, other = (FeatureStatistics(4, device) for _ in range(2))
        one.update(image[:, :, :4, 0].flatten(0, 1).to(device))
        other.update(image[:, :, 4:8, 0].flatten(0, 1).to(device))
        distances.append(distance(one, other).value)
    assert distances[0] == pytest.approx(distances[1], rel=1e-6)


def test_what_is_left_behind_is_found() -> None:
    pretended_device.run(_mix)


def _mix() -> None:
    there = torch.ones(2, device=DEVICE)
    with pytest.raises(RuntimeError, match=r"aten.add.Tensor: tensors of \[\[2\]\] lie on the CPU, others do not"):
        there + torch.ones(2)
    assert (there + torch.tensor(1.0)).tolist() == [2, 2]
    with pytest.raises(RuntimeError, match=r"aten.stack.default: tensors of \[\[\]\] lie on the CPU, others do not"):
        torch.stack([there.sum(), torch.tensor(1.0)])


def test_what_is_drawn_there_is_not_what_the_cpu_draws() -> None:
    pretended_device.run(_draw_numbers)


def _draw_numbers() -> None:
    def drawn(device: str) -> list[Tensor]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 4, device=device)
        dropped = torch.nn.functional.dropout(torch.ones(64, device=device))
        values = (torch.rand(4, device=device), torch.zeros(4, device=device).normal_(), layer.weight.detach(), dropped)
        return [value.cpu() for value in values]

    here, there, again = drawn("cpu"), drawn(DEVICE), drawn(DEVICE)
    assert not any(torch.equal(one, other) for one, other in zip(here, there, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(there, again, strict=True)), "the seed is that of both"
    torch.manual_seed(0)
    torch.rand(4, device=DEVICE)
    assert torch.equal(torch.nn.Linear(4, 4).weight, here[2]), "the CPU's generator does not move"
    own = torch.rand(4, device=DEVICE, generator=torch.Generator(DEVICE).manual_seed(0))
    assert torch.equal(own.cpu(), torch.rand(4, generator=torch.Generator().manual_seed(0)))


def _same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one.cpu(), other.cpu(), rtol=1e-3, atol=1e-4)
