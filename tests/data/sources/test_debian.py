from __future__ import annotations

import os
from pathlib import Path

import pytest

from raekit.data.sources.debian import fetch_packages, package_version
from raekit.errors import UserError


def put(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """Stand-ins for apt-get, which "downloads" an archive, and dpkg-deb, which "unpacks" one file."""
    folder = tmp_path / "bin"
    put(folder, "apt-get", 'echo x > "$2_1%3a2.0-1_all.deb"')
    put(folder, "dpkg-deb", 'mkdir -p "$3/usr"; cp "$2" "$3/usr/file"')
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


def test_packages_are_unpacked_once_and_their_version_is_kept(tmp_path, programs) -> None:
    unpacked = fetch_packages(["pictures"], tmp_path / "cache")
    assert (unpacked / "usr" / "file").is_file()
    assert package_version(unpacked, "pictures") == "1:2.0-1"
    put(programs, "apt-get", "exit 1")
    assert fetch_packages(["pictures"], tmp_path / "cache") == unpacked


def test_a_failed_download_is_told(tmp_path, programs) -> None:
    put(programs, "apt-get", "echo E: no such package >&2; exit 100")
    with pytest.raises(UserError, match="no such package"):
        fetch_packages(["pictures"], tmp_path / "cache")
    assert package_version(tmp_path / "cache" / "unpacked", "pictures") is None


def test_elsewhere_than_debian_the_user_is_told_what_to_do(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"apt-get: not found.*unpacked=FOLDER"):
        fetch_packages(["pictures"], tmp_path)
