"""The house rules, held over ``src/raekit``: each file by itself, then what must agree between files.

The rules themselves live in ``house_rules.py``; the second half of this file shows each of them a bad snippet.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import house_rules
from house_rules import RULES, Module
from raekit.cli.app import VERBS
from raekit.cli.list import load_registries
from raekit.config import Config

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "raekit"
MODULES = [
    Module.parse(path.relative_to(PACKAGE), path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))
]
REGISTRIES = load_registries()
ROWS = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry]

TESTED_ELSEWHERE = {
    "cli/": "tests/cli/test_cli.py runs every verb",
    "__init__.py": "the front door: tests/cli/test_cli.py and the registry tests import through it",
    "__main__.py": "tests/cli/test_cli.py runs python -m raekit",
    "errors.py": "tests/cli/test_cli.py: the sentence and the exit code",
}
"""Modules (or folders, with a slash) without a test file of their own, and where they are tested instead."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_source_keeps(rule) -> None:
    found = [f"{module.path}: {breach}" for module in MODULES for breach in rule(module)]
    assert not found, f"{rule.__doc__}\n" + "\n".join(found)


def test_ruff_finds_nothing() -> None:
    """Unused names, commented-out code, import order and the rest of the list in pyproject.toml."""
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "src", "tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(("kind", "name"), ROWS, ids=lambda value: str(value))
def test_registry_row(kind: str, name: str) -> None:
    """A row names a documented class with its Config, or a documented and annotated function."""
    part = REGISTRIES[kind][name]
    assert (part.__doc__ or "").strip(), f"{kind}/{name}: {part.__name__} has no docstring"
    if inspect.isclass(part):
        assert issubclass(part.Config, Config), f"{kind}/{name}: no Config of raekit.config.Config"
        chosen_by = "stage" if kind == "stages" else "name"
        assert part.Config.model_fields[chosen_by].default == name
    else:
        assert inspect.isfunction(part), f"{kind}/{name} is neither a class nor a function"
        assert "return" in part.__annotations__


def test_every_module_has_a_test_file() -> None:
    missing = [
        str(module.path)
        for module in MODULES
        if not _is_tested_elsewhere(module.path) and not (ROOT / "tests" / mirror_of(module.path)).is_file()
    ]
    assert not missing, f"no test file for: {', '.join(missing)}"


def test_every_exception_is_needed() -> None:
    """The list of exceptions shrinks when a module gets its test."""
    for place in TESTED_ELSEWHERE:
        paths = [module.path for module in MODULES if _matches(module.path, place)]
        assert paths, f"{place}: no such module"
        assert not all((ROOT / "tests" / mirror_of(path)).is_file() for path in paths), f"{place}: has its tests now"


def test_readme_names_only_verbs_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    verbs = {verb for verb, _, _ in VERBS}
    assert verbs_named_in(text), "README shows no command"
    assert verbs_named_in(text) <= verbs


def test_readme_tree_is_the_tree() -> None:
    """Every file and folder of the package has its line in the README, and no line is left over."""
    shown = package_tree((ROOT / "README.md").read_text(encoding="utf-8"))
    hidden = {"__pycache__", "__main__.py", "py.typed"}
    assert set(shown) == {path.name for path in PACKAGE.iterdir()} - hidden
    places = [name.removesuffix(".py") for name in shown]
    order = [place for place in places if place in house_rules.IMPORT_ORDER]
    assert order == list(house_rules.IMPORT_ORDER), "imports go up the page, so the page is in their order"


def test_extending_has_a_row_for_every_registry() -> None:
    rows = extension_table((ROOT / "docs" / "extending.md").read_text(encoding="utf-8"))
    assert rows == set(REGISTRIES), "docs/extending.md: one table row per registry kind"


def test_verbs_are_the_agreed_ones() -> None:
    """Scripts rely on this list; growth is a decision."""
    agreed = "list explain doctor prepare train reconstruct generate understand evaluate convert lora bench study serve"
    assert [verb for verb, _, _ in VERBS] == agreed.split()


def mirror_of(path: Path) -> Path:
    """Where the tests of a module are: the tree of tests mirrors the tree of sources."""
    if path.name == "__init__.py":
        return path.parent / "test_init.py"
    return path.parent / f"test_{path.name}"


def verbs_named_in(text: str) -> set[str]:
    """Words that follow ``raekit`` in code: an indented shell line, or inline code between backticks."""
    return set(re.findall(r"(?:^ {4}|`)(?:\$ )?raekit ([a-z]+)", text, flags=re.MULTILINE))


def package_tree(text: str) -> list[str]:
    """Names one level below ``src/raekit/`` in the README's tree."""
    below = re.search(r"^src/raekit/\n((?:  .*\n)+)", text, flags=re.MULTILINE)
    assert below, "no tree of src/raekit/"
    return [line.split()[0].rstrip("/") for line in below[1].splitlines()]


def extension_table(text: str) -> set[str]:
    """First column of the table whose head is ``| kind |``."""
    table = re.search(r"^\| kind \|.*\n\|[-| ]+\n((?:\|.*\n)+)", text, flags=re.MULTILINE)
    assert table, "no table headed '| kind |'"
    return {line.split("|")[1].strip(" `") for line in table[1].splitlines()}


def _matches(path: Path, place: str) -> bool:
    return str(path).startswith(place) if place.endswith("/") else str(path) == place


def _is_tested_elsewhere(path: Path) -> bool:
    """Listed above, or an ``__init__`` of a folder: a docstring and a table, which the registry tests cover."""
    is_folder_docstring = path.name == "__init__.py" and len(path.parts) > 1
    return is_folder_docstring or any(_matches(path, place) for place in TESTED_ELSEWHERE)


LONG_FUNCTION = "def f() -> None:\n" + "    g()\n" * 60
MANY_PARAMETERS = "def f(self, a, b, c, d, e, f, g, h, i): ...\n"
TANGLED = "def f(x):\n" + "    if x: ...\n" * 12
BAD = [
    ("size", "data/x.py", "x = 1\n" * 401, "401 lines"),
    ("size", "data/x.py", LONG_FUNCTION, "61 lines"),
    ("size", "data/x.py", MANY_PARAMETERS, "9 parameters"),
    ("size", "data/x.py", TANGLED, "13 decisions"),
    ("documented", "data/x.py", "x = 1\n", "docstring"),
    ("annotated", "data/x.py", "def f(a: int, b): ...\n", "without annotation: b"),
    ("annotated", "data/x.py", "class A:\n    def f(self) -> int: ...\n    def __init__(self, a): ...\n", "__init__"),
    ("named", "data/image_utils.py", "", "'utils'"),
    ("named", "common/x.py", "", "'common'"),
    ("silent", "data/x.py", "print(1)\n", "print"),
    ("narrow_except", "data/x.py", "try: ...\nexcept: ...\n", "blind"),
    ("narrow_except", "data/x.py", "try: ...\nexcept Exception: ...\n", "blind"),
    ("safe_loading", "data/x.py", "torch.load(p, weights_only=True)\n", "outside interop"),
    ("safe_loading", "interop/x.py", "torch.load(p)\n", "weights_only"),
    ("safe_loading", "interop/x.py", "torch.load(p, weights_only=False)\n", "weights_only"),
    ("safe_loading", "interop/x.py", "from torch import load\n", "another name"),
    ("safe_loading", "data/x.py", "import pickle\n", "pickle"),
    ("strict_loading", "data/x.py", "def f(m, d):\n    m.load_state_dict(d, strict=False)\n", "ignored"),
    ("strict_loading", "data/x.py", "def f(m, d):\n    r = m.load_state_dict(d, False)\n    return r\n", "permitted"),
    ("strict_loading", "data/x.py", "def f(m, d, s):\n    return m.load_state_dict(d, strict=s)\n", "permitted"),
    ("strict_loading", "data/x.py", "r = m.load_state_dict(d, strict=False)\n", "at import"),
    ("import_direction", "data/x.py", "from raekit.samplers import ode\n", "stands below"),
    ("import_direction", "data/x.py", "def f():\n    import raekit.cli.app\n", "stands below"),
    ("import_direction", "errors.py", "from raekit import config\n", "stands below"),
    ("import_direction", "data/x.py", "from raekit import __version__\n", "front door"),
    ("import_direction", "data/x.py", "from . import folder\n", "relative"),
    ("import_direction", "elsewhere/x.py", "x = 1\n", "no place"),
]


@pytest.mark.parametrize(("rule", "path", "text", "sentence"), BAD)
def test_rule_sees_a_breach(rule: str, path: str, text: str, sentence: str) -> None:
    found = getattr(house_rules, rule)(Module.parse(path, text))
    assert any(sentence in breach for breach in found), found


GOOD = [
    ("size", "data/x.py", LONG_FUNCTION.replace("    g()\n", "", 1)),
    ("size", "data/x.py", MANY_PARAMETERS.replace(", i", "")),
    ("size", "data/x.py", TANGLED.replace("    if x: ...\n", "", 1)),
    ("documented", "data/x.py", '"""What it is."""\n'),
    ("annotated", "data/x.py", "def _f(a): ...\nclass _A:\n    def f(self, a): ...\n"),
    ("named", "data/newspaper.py", ""),
    ("silent", "cli/x.py", "print(1)\n"),
    ("narrow_except", "data/x.py", "try: ...\nexcept Exception:\n    raise\n"),
    ("narrow_except", "data/x.py", "try: ...\nexcept (OSError, ValueError): ...\n"),
    ("safe_loading", "interop/x.py", "torch.load(p, weights_only=True)\n"),
    ("strict_loading", "data/x.py", "def f(m, d):\n    m.load_state_dict(d)\n    m.load_state_dict(d, strict=True)\n"),
    (
        "strict_loading",
        "data/x.py",
        "def f(m, d, permitted_missing):\n    r = m.load_state_dict(d, strict=False)\n"
        "    assert set(r.missing_keys) <= permitted_missing\n",
    ),
    ("import_direction", "cli/x.py", "import raekit\nfrom raekit import __version__, cli\n"),
    ("import_direction", "samplers/x.py", "import torch\nfrom raekit.samplers import ode\nimport raekit.data.x\n"),
    ("import_direction", "__init__.py", "from raekit.generate import TextToImage\n"),
]


@pytest.mark.parametrize(("rule", "path", "text"), GOOD)
def test_rule_leaves_good_code_alone(rule: str, path: str, text: str) -> None:
    assert getattr(house_rules, rule)(Module.parse(path, text)) == []


def test_document_readers_see_what_they_look_for() -> None:
    assert verbs_named_in("Run `raekit list`\n    $ raekit train x\nraekit is a package\n") == {"list", "train"}
    assert extension_table("| kind | b |\n|---|---|\n| `encoders` | x |\n| losses | y |\n\nz") == {"encoders", "losses"}
    assert package_tree("src/raekit/\n  cli/  verbs\n  errors.py  one\nrecipes/\n") == ["cli", "errors.py"]
    assert mirror_of(Path("samplers/ode.py")) == Path("samplers/test_ode.py")
