from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from raekit.data.sources.npm import fetch_packages, package_version, read_package
from raekit.errors import UserError


def place(modules: Path, name: str, version: str) -> None:
    folder = modules / name
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"version": version}))


def put_npm(folder: Path, script: str, monkeypatch) -> None:
    """A program called npm, first and only on the path."""
    folder.mkdir()
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")


def test_packages_that_are_there_are_not_fetched(tmp_path, monkeypatch) -> None:
    place(tmp_path / "node_modules", "@a/b", "1.2.3")
    monkeypatch.setenv("PATH", "")
    assert fetch_packages({"@a/b": "1.2.3"}, tmp_path) == tmp_path / "node_modules"


def test_without_npm_the_packages_are_named(tmp_path, monkeypatch) -> None:
    place(tmp_path / "node_modules", "@a/b", "1.0.0")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"install Node\.js.*@a/b@1\.2\.3"):
        fetch_packages({"@a/b": "1.2.3"}, tmp_path)


def test_npm_is_asked_for_pinned_versions_and_no_scripts(tmp_path, monkeypatch) -> None:
    put_npm(tmp_path / "bin", f'echo "$@" > {tmp_path}/asked', monkeypatch)
    fetch_packages({"@a/b": "1.2.3", "c": "4.5.6"}, tmp_path / "cache")
    asked = (tmp_path / "asked").read_text()
    assert "--ignore-scripts" in asked
    assert asked.split()[-2:] == ["@a/b@1.2.3", "c@4.5.6"]


def test_a_failure_of_npm_is_told(tmp_path, monkeypatch) -> None:
    put_npm(tmp_path / "bin", "echo no route to host >&2; exit 1", monkeypatch)
    with pytest.raises(UserError, match="no route to host"):
        fetch_packages({"c": "4.5.6"}, tmp_path / "cache")


def test_a_missing_package_is_named(tmp_path) -> None:
    place(tmp_path, "here", "2.0.0")
    assert package_version(tmp_path, "here") == "2.0.0"
    assert read_package(tmp_path, "here") == tmp_path / "here"
    for look in (read_package, package_version):
        with pytest.raises(UserError, match="no package gone"):
            look(tmp_path, "gone")
