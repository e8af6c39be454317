"""Adapters: silent at first, exact through files, and gone without a trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny_adapter
import tiny_generator
from raekit.errors import UserError
from raekit.generate import TextToImage
from raekit.lora import CONFIG_FILE, describe, find

pytest.importorskip("peft")
BOTH = ("backbone", "language_model")


def drawn(generator: TextToImage) -> Tensor:
    return generator("a red circle", output="latent")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    """The directories of a generator and of adapters for it."""
    return tiny_adapter.saved(tmp_path)


def test_fresh_adapters_say_nothing_and_are_all_that_learns(tmp_path: Path) -> None:
    generator = tiny_generator.text_to_image(tmp_path)
    before = drawn(generator)
    adapter = tiny_adapter.fresh(generator, parts=BOTH)
    assert torch.equal(drawn(generator), before)
    names = {name for name, p in adapter.module.named_parameters() if p.requires_grad}
    assert names == set(adapter.parameters())
    assert {".".join(n.split(".")[:1] + n.split(".")[-4:-3]) for n in names} == {
        *(f"backbone.{n}" for n in ("qkv", "proj", "w12", "w3")),
        *(f"language_model.{n}_proj" for n in ("q", "k", "v", "o", "gate", "up", "down")),
    }
    assert not any("embed" in name or "final" in name for name in names)


def test_loaded_adapters_act_by_their_scale_and_leave_without_a_trace(saved: tuple[Path, Path]) -> None:
    path, folder = saved
    generator = TextToImage.load(path, "cpu", "fp32")
    plain = drawn(generator)
    generator.load_lora(folder)
    full = drawn(generator)
    assert not torch.allclose(full, plain, atol=1e-3)
    generator.load_lora(folder, scale=0.0)
    torch.testing.assert_close(drawn(generator), plain)
    generator.load_lora(folder, scale=1.0)
    assert torch.equal(drawn(generator), full)
    generator.unload_lora()
    assert torch.equal(drawn(generator), plain)
    assert not any("lora" in name for name in generator.backbone.state_dict())


def test_the_files_are_those_of_peft(saved: tuple[Path, Path]) -> None:
    import peft

    generator = TextToImage.load(saved[0], "cpu", "fp32")
    settings = peft.LoraConfig.from_pretrained(saved[1])
    module = torch.nn.ModuleDict({"backbone": generator.backbone, "language_model": generator.conditioner.reader})
    model = peft.inject_adapter_in_model(settings, module)
    tensors = peft.utils.load_peft_weights(saved[1], device="cpu")
    bare = {name.removeprefix("base_model.model."): value for name, value in tensors.items()}
    assert not peft.set_peft_model_state_dict(model, bare).unexpected_keys
    theirs = drawn(generator)
    again = TextToImage.load(saved[0], "cpu", "fp32")
    again.load_lora(saved[1])
    assert torch.equal(drawn(again), theirs)


def test_adapters_are_found_and_described(saved: tuple[Path, Path], tmp_path: Path) -> None:
    assert find(tmp_path / "adapters") == [saved[1]]
    line = describe(saved[1])
    assert line.startswith("rank 2, alpha 4, backbone and language_model, ")
    assert TextToImage.load(saved[0], "cpu").checksum[:12] in line


def test_what_does_not_fit_is_told(saved: tuple[Path, Path], tmp_path: Path) -> None:
    other = tiny_generator.text_to_image(tmp_path / "other", backbone={**tiny_generator.BACKBONE, "width": 48})
    before = drawn(other)
    with pytest.raises(UserError, match="does not fit this generator"):
        other.load_lora(saved[1])
    assert torch.equal(drawn(other), before)
    with pytest.raises(UserError, match="no adapters there"):
        other.load_lora(tmp_path)
    with pytest.raises(UserError, match=r"lora\.targets: nothing to adapt"):
        tiny_adapter.fresh(other, targets=("nowhere",))
    classes = tiny_generator.class_to_image(tmp_path / "classes")
    with pytest.raises(UserError, match=r"lora\.parts: language_model, but this generator reads no prompts"):
        classes.load_lora(saved[1])
    about = json.loads((saved[1] / CONFIG_FILE).read_text())
    (saved[1] / CONFIG_FILE).write_text(json.dumps({**about, "peft_type": "LOHA"}))
    with pytest.raises(UserError, match="of kind LOHA"):
        other.load_lora(saved[1])
