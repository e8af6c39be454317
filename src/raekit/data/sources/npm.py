"""Pinned npm packages: where iconify's drawings and the Unicode labels come from.

In: package names with exact versions. Out: a ``node_modules`` folder that holds them. Install scripts never run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from raekit.errors import UserError


def fetch_packages(packages: Mapping[str, str], cache: Path) -> Path:
    """Install ``{name: version}`` below ``cache`` unless they are there already, and return its ``node_modules``.

    Raises:
        UserError: npm is not installed, or it failed.
    """
    modules = cache / "node_modules"
    wanted = {name: version for name, version in packages.items() if _version_in(modules, name) != version}
    if not wanted:
        return modules
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            "npm: not found, and it is how the drawings are fetched; install Node.js, or give node_modules=FOLDER "
            f"holding {', '.join(f'{name}@{version}' for name, version in wanted.items())}"
        )
    cache.mkdir(parents=True, exist_ok=True)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(cache)]
    wanted_names = [f"{name}@{version}" for name, version in packages.items()]
    done = subprocess.run([npm, "install", *options, *wanted_names], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"npm install into {cache}: failed ({reason}); check the network, or give node_modules=FOLDER")
    return modules


def read_package(modules: Path, name: str) -> Path:
    """The folder of one installed package.

    Raises:
        UserError: ``modules`` does not hold it.
    """
    if _version_in(modules, name) is None:
        raise UserError(f"node_modules {modules}: holds no package {name}; run npm install {name} there")
    return modules / name


def package_version(modules: Path, name: str) -> str:
    """The installed version of a package that :func:`read_package` finds."""
    version = _version_in(modules, name)
    if version is None:
        raise UserError(f"node_modules {modules}: holds no package {name}; run npm install {name} there")
    return version


def _version_in(modules: Path, name: str) -> str | None:
    path = modules / name / "package.json"
    return str(json.loads(path.read_text())["version"]) if path.is_file() else None
