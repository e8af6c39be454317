"""Files and directories appear whole or not at all, and the sentence says why they did not."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import raekit
from raekit import files
from raekit.errors import UserError
from raekit.files import atomic_directory, atomic_file, disk_sentence, sha256, write_atomically, write_files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "report.json") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_a_file_is_the_old_one_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "below" / "report.json"
    write_atomically(path, b"old")
    with atomic_file(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and names(path.parent) == ["report.json"]


def test_several_files_come_into_one_directory(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "out", {"b": b"1", "a": b"2"})
    assert [path.name for path in paths] == ["b", "a"] and [path.read_bytes() for path in paths] == [b"1", b"2"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence_and_the_old_file_stays(tmp_path: Path, number: int) -> None:
    path = tmp_path / "report.json"
    write_atomically(path, b"old")
    with pytest.raises(UserError, match=r"report.json': the disk is full; free some space"), atomic_file(path) as half:
        half.write_bytes(b"half")
        raise OSError(number, "no room")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["report.json"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="check the path and its permissions"):
        write_atomically(tmp_path / "file" / "report.json", b"x")
    with pytest.raises(UserError, match="check the path"), atomic_directory(tmp_path / "file" / "model"):
        pass


def test_a_directory_replaces_the_old_one_in_one_step(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for text in ("old", "new"):
        with atomic_directory(target) as temporary:
            (temporary / f"{text}.json").write_text(text)
    assert names(tmp_path) == ["model"] and names(target) == ["new.json"]


def test_a_directory_that_failed_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_directory(target) as temporary:
        (temporary / "old.json").write_text("old")
    with pytest.raises(UserError, match="disk is full"), atomic_directory(target) as temporary:
        (temporary / "new.json").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == ["model"] and names(target) == ["old.json"]


def test_the_digest_is_the_one_that_others_print(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content" * 1000)
    assert sha256(tmp_path / "file") == hashlib.sha256(b"content" * 1000).hexdigest()


def test_libraries_that_hide_the_error_number_are_understood() -> None:
    """safetensors reports a full disk as text."""
    assert "the disk is full" in disk_sentence(Path("x"), RuntimeError("I/O error: No space left on device (os error)"))


def test_nothing_here_loads_torch() -> None:
    code = "import sys, raekit.files, raekit.data.tar; assert 'torch' not in sys.modules"
    source = str(Path(raekit.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": source})


def test_what_is_written_can_be_read_by_whom_the_user_lets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "UMASK", 0o027)
    with files.atomic_directory(tmp_path / "model") as folder:
        (folder / "part").mkdir(mode=0o700)
        save_file({"a": torch.zeros(2)}, folder / "part" / "model.safetensors")
    with files.atomic_file(tmp_path / "one.safetensors") as temporary:
        save_file({"a": torch.zeros(2)}, temporary)
    places = ("model", "model/part", "model/part/model.safetensors", "one.safetensors")
    assert [oct((tmp_path / place).stat().st_mode & 0o777) for place in places] == ["0o750", "0o750", "0o640", "0o640"]
