"""Pictures inside Debian packages, fetched and unpacked without installing anything.

In: package names. Out: a folder with their files. Only ``apt-get download`` and ``dpkg-deb -x`` are used, which need
no root and change nothing on the computer.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from raekit.errors import UserError


def fetch_packages(names: Sequence[str], cache: Path) -> Path:
    """Unpack the packages below ``cache/unpacked`` unless they are there, and return that folder.

    Raises:
        UserError: this is no Debian or Ubuntu, or a package cannot be fetched.
    """
    unpacked = cache / "unpacked"
    missing = [name for name in names if package_version(unpacked, name) is None]
    if not missing:
        return unpacked
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UserError(
                f"{tool}: not found; run this on Debian or Ubuntu, or unpack {', '.join(missing)} yourself and give "
                "unpacked=FOLDER"
            )
    unpacked.mkdir(parents=True, exist_ok=True)
    for name in missing:
        for old in cache.glob(f"{name}_*.deb"):
            old.unlink()
        _run(["apt-get", "download", name], cache)
        archive = next(cache.glob(f"{name}_*.deb"))
        _run(["dpkg-deb", "-x", str(archive), str(unpacked)], cache)
        # The version stands in the archive's name, with the colon of an epoch written as %3a.
        version = archive.name.split("_")[1].replace("%3a", ":")
        _stamp(unpacked, name).write_text(version, encoding="utf-8")
    return unpacked


def package_version(unpacked: Path, name: str) -> str | None:
    """The version that :func:`fetch_packages` unpacked, or nothing."""
    stamp = _stamp(unpacked, name)
    return stamp.read_text(encoding="utf-8") if stamp.is_file() else None


def _stamp(unpacked: Path, name: str) -> Path:
    return unpacked / f"{name}.version"


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{' '.join(command)}: failed ({reason}); run apt-get update, or check the network")
