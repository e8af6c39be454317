"""A language model read after it was outlined has the numbers of one that was read at once, taught words included."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

import tiny_language_model
import two_ranks
from raekit import distributed
from raekit.conditioning.language_model import load_language_model
from raekit.errors import UserError
from raekit.multimodal.conditioner import teach
from raekit.training.parallel import placement
from raekit.training.parallel.placement import ParallelConfig, place_modules
from raekit.training.parallel.sharding import whole
from raekit.training.parallel.unread import Unread
from tiny_unified import qwen2

CPU = torch.device("cpu")


def tied(folder: Path) -> str:
    """A model whose last layer is the table of words, and whose files are in bf16."""
    qwen2().bfloat16().save_pretrained(folder)
    tiny_language_model.build_tokenizer().save_pretrained(folder)
    return str(folder)


def in_two_files(folder: Path) -> str:
    """The tiny model as large ones are stored."""
    folder = Path(tiny_language_model.saved(folder))
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    for number, part in enumerate((names[:5], names[5:])):
        save_file({name: tensors[name] for name in part}, folder / f"part-{number}.safetensors")
    where = {name: f"part-{number}.safetensors" for number, part in enumerate((names[:5], names[5:])) for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "model.safetensors").unlink()
    return str(folder)


@pytest.mark.parametrize("save", [tied, in_two_files])
@pytest.mark.parametrize("is_taught", [False, True])
def test_it_is_the_same_model(save: object, is_taught: bool, tmp_path: Path) -> None:
    name = save(tmp_path / "model")  # type: ignore[operator]
    torch.manual_seed(3)
    unread = Unread.of(name)
    assert unread is not None and all(p.is_meta for p in unread.model.parameters())
    if is_taught:
        teach(unread.model, unread.tokenizer)
        assert len(unread.model.get_input_embeddings().weight) == len(unread.tokenizer)
    after = torch.rand(2)
    unread.read(CPU)

    torch.manual_seed(3)
    expected, tokenizer = load_language_model(name, torch.float32)
    if is_taught:
        teach(expected, tokenizer)
    assert torch.equal(torch.rand(2), after), "what is drawn next does not depend on how it was read"
    weights = dict(expected.named_parameters())
    assert weights.keys() == dict(unread.model.named_parameters()).keys()
    for weight, value in unread.model.named_parameters():
        assert value.dtype == torch.float32 and torch.equal(value, weights[weight]), weight
    ids = torch.tensor([[5, 6, 7, len(tokenizer) - 1 if is_taught else 8]])
    assert torch.equal(unread.model(ids).logits, expected(ids).logits)


def test_a_model_whose_files_name_things_otherwise_is_left_to_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(tiny_language_model.saved(tmp_path)) / "model.safetensors"
    save_file({f"old.{name}": value for name, value in load_file(path).items()}, path)
    with caplog.at_level(logging.WARNING):
        assert Unread.of(str(path.parent)) is None
    assert "no file of it has model.embed_tokens.weight: every process reads it whole" in caplog.text


def test_a_weight_of_another_shape_is_named(tmp_path: Path) -> None:
    path = Path(tiny_language_model.saved(tmp_path)) / "model.safetensors"
    save_file({**load_file(path), "model.norm.weight": torch.ones(3)}, path)
    unread = Unread.of(str(path.parent))
    assert unread is not None
    with pytest.raises(UserError, match=r"holds model.norm.weight as \[3\], and its config says \[32\]"):
        unread.read(CPU)


def cut_then_read(names: list[str]) -> None:
    distributed.join(CPU)
    placement.LARGE_LAYER = 64  # the table of words too, where it is not the last layer
    for name in names:
        unread = Unread.of(name)
        assert unread is not None
        teach(unread.model, unread.tokenizer)
        modules = {"language_model": unread.model}
        place_modules(modules, ParallelConfig(strategy="fsdp"), CPU, False, fill=lambda u=unread: u.read(CPU))
        cut = {weight for weight, value in unread.model.named_parameters() if isinstance(value, DTensor)}
        assert "model.layers.0.mlp.up_proj.weight" in cut
        assert ("model.embed_tokens.weight" in cut) != unread.model.config.tie_word_embeddings
        expected, tokenizer = load_language_model(name, torch.float32)
        teach(expected, tokenizer)
        for weight, value in expected.named_parameters():
            assert torch.equal(whole(unread.model.get_parameter(weight).detach()), value), weight
        ids = torch.tensor([[5, 6, 7, len(tokenizer) - 1]])
        torch.testing.assert_close(unread.model.get_decoder()(ids)[0], expected.get_decoder()(ids)[0])


def test_pieces_are_those_of_the_whole(tmp_path: Path) -> None:
    two_ranks.run(cut_then_read, [tied(tmp_path / "tied"), in_two_files(tmp_path / "files")])
