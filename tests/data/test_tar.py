from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from raekit.data import tar as tar_module
from raekit.data.tar import TarWriter, index_tar
from raekit.errors import UserError
from raekit.files import sha256


def write(path, samples: int = 3) -> None:
    with TarWriter(path) as tar:
        for number in range(samples):
            tar.add(f"k{number}", {".png": bytes([number]) * 700, ".json": b"{}"})


def test_the_index_points_at_the_content(tmp_path) -> None:
    path = tmp_path / "a.tar"
    write(path)
    index = index_tar(path)
    assert index.keys == ("k0", "k1", "k2")
    content = path.read_bytes()
    for number, members in enumerate(index.members):
        start, size = members[".png"]
        assert content[start : start + size] == bytes([number]) * 700


def test_other_programs_read_it(tmp_path) -> None:
    path = tmp_path / "a.tar"
    write(path)
    with tarfile.open(path) as tar:
        assert tar.getnames()[:2] == ["k0.png", "k0.json"]


def test_the_same_samples_give_the_same_bytes(tmp_path) -> None:
    write(tmp_path / "a.tar")
    write(tmp_path / "b.tar")
    assert sha256(tmp_path / "a.tar") == sha256(tmp_path / "b.tar")
    assert sha256(tmp_path / "a.tar") == hashlib.sha256((tmp_path / "a.tar").read_bytes()).hexdigest()


def test_a_tar_with_folders_and_dotted_suffixes(tmp_path) -> None:
    path = tmp_path / "a.tar"
    with TarWriter(path) as tar:
        tar.add("x.y/one", {".PNG": b"1", ".seg.png": b"2"})
    index = index_tar(path)
    assert index.keys == ("x.y/one",)
    assert set(index.members[0]) == {".png", ".seg.png"}


def test_a_failed_write_leaves_nothing(tmp_path) -> None:
    with pytest.raises(RuntimeError), TarWriter(tmp_path / "a.tar") as tar:
        tar.add("k", {".png": b"1"})
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [10, 512, 1200, 4200])
def test_a_tar_that_was_cut_short_is_refused_by_name(tmp_path, cut: int) -> None:
    path = tmp_path / "a.tar"
    write(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"a\.tar.*cut short.*delete it"):
        index_tar(path)


def test_a_cut_between_two_members_is_seen(tmp_path) -> None:
    """Without the blocks of zeros at its end, such a file looks whole."""
    path = tmp_path / "a.tar"
    write(path)
    start, size = index_tar(path).members[1][".json"]
    path.write_bytes(path.read_bytes()[: start + 512])
    with pytest.raises(UserError, match="end-of-archive"):
        index_tar(path)


def test_what_is_no_tar_is_refused(tmp_path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 4096)
    with pytest.raises(UserError, match="not a tar"):
        index_tar(tmp_path / "a.tar")
    with pytest.raises(UserError, match="no such file"):
        index_tar(tmp_path / "b.tar")


def test_a_missing_set_of_the_nano_family_names_the_command_that_makes_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="`raekit prepare data emoji --out data/emoji` makes the nano family's"):
        index_tar(Path("data/emoji"))
    for other in ("data/mine", "emoji"):
        with pytest.raises(UserError, match="a folder that holds some$"):
            index_tar(Path(other))


def test_a_compressed_tar_is_told_from_a_broken_one(tmp_path) -> None:
    write(tmp_path / "a.tar")
    (tmp_path / "b.tar").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    with pytest.raises(UserError, match="gunzip it"):
        index_tar(tmp_path / "b.tar")


def test_hidden_members_are_no_samples(tmp_path) -> None:
    with TarWriter(tmp_path / "a.tar") as tar:
        tar.add("one", {".png": b"1"})
        tar.add("._one", {".png": b"2"})
    assert index_tar(tmp_path / "a.tar").keys == ("one",)


def test_a_broken_index_is_made_again(tmp_path) -> None:
    write(tmp_path / "a.tar")
    cache = tmp_path / "a.tar.index.json"
    for content in ("{", "[]", '{"stamp": []}', '{"stamp": 1, "keys": 2}'):
        cache.write_text(content)
        assert index_tar(tmp_path / "a.tar").keys == ("k0", "k1", "k2")
    assert json.loads(cache.read_text())["keys"] == ["k0", "k1", "k2"]


def test_the_index_of_a_read_only_folder_is_kept_elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tar_module, "INDEX_FOLDER", tmp_path / "cache")
    monkeypatch.setattr(tar_module.os, "access", lambda path, mode: False)
    path = tmp_path / "data" / "a.tar"
    path.parent.mkdir()
    write(path)
    first = index_tar(path)
    assert [file.name for file in path.parent.iterdir()] == ["a.tar"]
    monkeypatch.setattr(tar_module, "_scan", lambda path: pytest.fail("scanned again"))
    assert index_tar(path) == first


def test_the_kept_index_is_used_until_the_tar_changes(tmp_path) -> None:
    path, cache = tmp_path / "a.tar", tmp_path / "a.tar.index.json"
    write(path)
    index_tar(path)
    record = json.loads(cache.read_text())
    record["keys"][0] = "renamed"
    cache.write_text(json.dumps(record))
    assert index_tar(path).keys[0] == "renamed"
    write(path, samples=4)
    assert index_tar(path).keys == ("k0", "k1", "k2", "k3")
