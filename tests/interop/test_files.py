"""Foreign weight files: unwrapped, read without running code, refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import tiny_published
from raekit.errors import UserError
from raekit.interop.files import check_keys, read_tensors, select, unwrap

WEIGHTS = {"a.weight": torch.ones(2), "b": torch.zeros(3)}


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"model": {"a.weight": torch.zeros(2)}, "ema": WEIGHTS, "step": 3},
        {"state_dict": {f"module.{key}": value for key, value in WEIGHTS.items()}},
        {"model": {f"module._orig_mod.{key}": value for key, value in WEIGHTS.items()}, "epoch": 1},
        {"model": {"module": WEIGHTS}},
    ],
)
def test_unwraps(content: dict[str, object], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    found = read_tensors(tmp_path / "w.pt")
    assert found.keys() == WEIGHTS.keys() and all(torch.equal(found[key], WEIGHTS[key]) for key in WEIGHTS)


def test_reads_safetensors(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "w.safetensors")
    assert read_tensors(tmp_path / "w.safetensors").keys() == WEIGHTS.keys()


def test_a_tensor_called_model_is_not_a_wrapper() -> None:
    assert unwrap({"model": torch.ones(1)}).tensors.keys() == {"model"}


def test_what_was_wrapped_around_the_weights_is_said() -> None:
    content = {"ema": {**WEIGHTS, "num_updates": 7}, "model": WEIGHTS, "optimizer": {}, "step": 3}
    ledger = unwrap(content)
    assert ledger.left_out == {
        "model": "weights too, but 'ema' comes first",
        "optimizer": "state of the training run, no weights",
        "step": "state of the training run, no weights",
        "num_updates": "no tensor",
    }


def test_weights_with_and_without_a_prefix_are_refused() -> None:
    with pytest.raises(UserError, match="holds some weights twice"):
        unwrap({"module.a": torch.ones(1), "a": torch.ones(1)})


class NotATensor:
    """An object whose unpickling would import this module."""


def test_code_is_never_run(tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS, "config": NotATensor()}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="not safely readable") as caught:
        read_tensors(tmp_path / "w.pt")
    assert "weights_only" not in str(caught.value)  # torch's own advice is to open it all the same


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(UserError, match="w.pt.*not safely readable"):
        read_tensors(tmp_path / "w.pt")


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_tensors(tmp_path / "none.pt")
    torch.save({"step": 1}, tmp_path / "empty.pt")
    with pytest.raises(UserError, match="holds no tensors"):
        read_tensors(tmp_path / "empty.pt")
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(UserError, match="holds a list"):
        read_tensors(tmp_path / "list.pt")


def test_a_training_run_on_tpus_wraps_every_module() -> None:
    wrapped = {"_orig_module.layers.0._orig_module.mlp._orig_module.weight": torch.ones(1)}
    assert unwrap({"model": wrapped}).tensors.keys() == {"layers.0.mlp.weight"}


def test_compressed_files_are_to_be_unpacked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"it is compressed; unpack it with `zstd -d model.pth.zstd`"):
        read_tensors(tmp_path / "model.pth.zstd")


def test_reads_shards(tmp_path: Path) -> None:
    index = tiny_published.save_shards(WEIGHTS, tmp_path)
    assert tiny_published.same(read_tensors(index), WEIGHTS)


def test_reads_shards_of_torch(tmp_path: Path) -> None:
    for name, key in (("one.bin", "a.weight"), ("two.bin", "b")):
        torch.save({key: WEIGHTS[key]}, tmp_path / name)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text('{"weight_map": {"a.weight": "one.bin", "b": "two.bin"}}')
    assert tiny_published.same(read_tensors(index), WEIGHTS)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    index = tiny_published.save_shards(WEIGHTS, tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"1 of 2 shards are missing \(model-00002-of-00002.safetensors\); copy them"):
        read_tensors(index)


def test_shards_hold_what_their_index_says(tmp_path: Path) -> None:
    index = tiny_published.save_shards(WEIGHTS, tmp_path)
    save_file({"c": torch.ones(1)}, tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(
        UserError, match=r"00002.safetensors', against its index: .* 1 missing \(b\); 1 unexpected \(c\)"
    ):
        read_tensors(index)


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "not valid JSON"), ("{}", "no weight_map"), ("[]", "no weight_map")]
)
def test_an_index_that_says_nothing(text: str, reason: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    with pytest.raises(UserError, match="no such file"):
        read_tensors(index)
    index.write_text(text)
    with pytest.raises(UserError, match=reason):
        read_tensors(index)


def test_select_takes_one_part_or_all() -> None:
    tensors = {"decoder.x": torch.ones(1), "encoder.y": torch.ones(1)}
    assert select(tensors, "decoder.").keys() == {"x"}
    assert select(WEIGHTS, "decoder.").keys() == WEIGHTS.keys()


def test_check_keys_names_what_is_wrong() -> None:
    check_keys({"a"}, {"a", "b"}, "file", optional=frozenset({"b"}))
    with pytest.raises(UserError, match=r"the keys do not fit: 1 missing \(b\); 4 unexpected \(v, w, x and 1 more\)"):
        check_keys({"a", "v", "w", "x", "y"}, {"a", "b"}, "file")
