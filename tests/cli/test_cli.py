"""The command line as a user meets it: help, exit codes, one sentence per mistake."""

from __future__ import annotations

import errno
import importlib
import inspect
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import raekit
from raekit import cost
from raekit.cli import doctor, later
from raekit.cli.app import VERBS
from raekit.cli.list import describe, find_recipes, first_line, headline, load_registries
from raekit.cli.options import options_of
from raekit.cli.report import counted, print_rows
from raekit.config import Config
from raekit.errors import UserError

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(raekit.__file__).parents[1])}
"""For subprocesses: the tests also run from a source tree that is not installed."""

app_module = importlib.import_module("raekit.cli.app")


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs ``raekit`` with the given words; returns (exit code, standard output, standard error)."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["raekit", *words])
        with pytest.raises(SystemExit) as left:
            app_module.main()
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err

    return call


def test_a_warning_of_ours_is_one_line(run, monkeypatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", app_module.AS_EVER)
    run("--version")
    place = {"category": UserWarning, "lineno": 58}
    ours = warnings.formatwarning("width 8 is narrow", filename=inspect.getfile(app_module), **place)
    assert ours == "warning: width 8 is narrow\n"
    assert "elsewhere.py:58: UserWarning" in warnings.formatwarning("odd", filename="/elsewhere.py", **place)


def test_help_names_every_verb(run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for verb, _, heading in VERBS:
        assert verb in out
        assert heading in out


@pytest.mark.parametrize("verb", [verb for verb, _, _ in VERBS])
def test_every_verb_has_help(run, verb: str) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert f"raekit {verb}" in out


def test_help_does_not_import_torch() -> None:
    """That is what keeps ``raekit --help`` under a second."""
    script = (
        "import sys, raekit.cli.app; print([m for m in ('torch', 'transformers', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = program("-c", script)
    assert done.stdout.strip() == "[]"


def test_list_does_not_import_the_parts() -> None:
    """Their lines are read from the source: importing them all takes ten seconds."""
    script = "import sys; from raekit.cli.list import list_parts; list_parts(None); print('torch' in sys.modules)"
    assert program("-c", script).stdout.splitlines()[-1] == "False"


def test_what_list_reads_from_the_source_is_the_documentation() -> None:
    for registry in load_registries().values():
        for name in registry:
            assert describe(registry, name) == first_line(inspect.getdoc(registry[name]))


def test_module_runs_as_a_program() -> None:
    done = program("-m", "raekit", "--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"raekit {raekit.__version__}")


@pytest.mark.parametrize("words", [["no-such-verb"], ["list", "--no-such-option"], ["explain"]])
def test_wrong_words_exit_with_2(run, words: list[str]) -> None:
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert "Traceback" not in err


def test_a_user_error_is_one_sentence(run) -> None:
    code, out, err = run("explain", "no/such/recipe.yaml")
    assert code == 2
    assert out == ""
    assert err.startswith("error: recipe 'no/such/recipe.yaml': no such file")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["convert", "no/such.pt", "out"], "no such file"),
        (["convert", "no/such.pt", "out", "--encoder", "dinov9"], "convert: encoder: encoders: unknown name 'dinov9'"),
        (["generate", "a cat", "--model", "no/such/model"], "no/such/model"),
        (["reconstruct", "no/such.png", "--model", "no/such/model"], "no/such.png"),
        (["train", "no/such.yaml"], "no such file"),
        (["prepare", "data", "emojis", "--out", "x"], "did you mean 'emoji'?"),
    ],
)
def test_each_verb_names_what_is_wrong(run, tmp_path, monkeypatch, words: list[str], sentence: str) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*words)
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("verb", [verb.__name__ for verb in later.RESERVED])
def test_reserved_verbs_say_so_whatever_follows(run, verb: str) -> None:
    code, _, err = run(verb, "some/path", "--option", "3")
    assert code == 2
    assert err.startswith(f"error: {verb}: ")
    assert "not built yet" in err


@pytest.mark.parametrize(
    ("raised", "code", "sentence"),
    [
        (UserError("width: 0 is too small"), 2, "error: width: 0 is too small"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out.png"),
            2,
            "error: the disk is full while writing 'out.png'",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes(run, monkeypatch, raised: BaseException, code: int, sentence: str) -> None:
    monkeypatch.setattr(app_module, "app", _raiser(raised))
    left, _, err = run()
    assert left == code
    assert err.startswith(sentence)


@pytest.mark.parametrize("bug", [ValueError("a bug"), OSError(errno.EIO, "broken disk")])
def test_bugs_keep_their_traceback(monkeypatch, bug: Exception) -> None:
    monkeypatch.setattr(app_module, "app", _raiser(bug))
    with pytest.raises(type(bug)):
        app_module.main()


def test_list_shows_every_row(run) -> None:
    code, out, _ = run("list")
    assert code == 0
    for kind, registry in load_registries().items():
        assert f"\n{kind}\n" in f"\n{out}"
        for name in registry:
            assert f"\n  {name} " in out


def test_list_of_one_kind(run) -> None:
    code, out, _ = run("list", "encoders")
    assert code == 0
    assert out.splitlines()[0] == "encoders"
    assert "dinov2" in out
    assert "samplers" not in out


def test_list_of_backbones_shows_every_size(run) -> None:
    code, out, _ = run("list", "backbones")
    assert code == 0
    assert "9.8B  width 4096, depth 32, heads 32: 9,727,708,928 parameters" in out
    assert "2.4B  width 2048, depth 32, heads 32; head 2688, 2, 21: 2,711,037,760 parameters" in out


def test_list_of_an_unknown_kind(run) -> None:
    code, _, err = run("list", "encoder")
    assert code == 2
    assert "unknown kind 'encoder'; did you mean 'encoders'?" in err


def test_list_finds_recipes_where_you_are(run, tmp_path, monkeypatch) -> None:
    (tmp_path / "recipes" / "mine").mkdir(parents=True)
    (tmp_path / "recipes" / "mine" / "a.yaml").write_text("# A recipe of mine\nsteps: 1\n", encoding="utf-8")
    (tmp_path / "recipes" / "b.yaml").write_text("steps: 1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("list", "recipes")
    assert code == 0
    assert out.splitlines() == ["recipes", "  recipes/b.yaml", "  recipes/mine/a.yaml  A recipe of mine"]


def test_own_recipes_are_found_from_elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {path.name for path in find_recipes()} >= {"encoder.yaml", "decoder.yaml", "generator.yaml"}


@pytest.mark.parametrize("recipe", find_recipes(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_recipe_says_what_it_is_for(recipe: Path) -> None:
    assert headline(recipe)


def test_doctor_reports(run, monkeypatch) -> None:
    monkeypatch.setattr(cost, "MATMUL_SECONDS", 0.01)
    code, out, _ = run("doctor")
    assert code == 0
    for line in ("versions", "device", "training", "optional parts", "files"):
        assert line in out.splitlines()
    for label in (
        "raekit",
        "torch",
        "fp32 matmul",
        "bf16 matmul",
        "bf16 ",
        "loader",
        "gloo",
        "nccl",
        "language model",
        "fonts",
        "bundled models",
        "free disk",
    ):
        assert f"\n  {label}" in out


def test_doctor_names_what_an_extra_lacks(monkeypatch) -> None:
    lines = ["torch>=2.11", 'pytest>=8; extra == "dev"', "no-such-package>=1; extra == 'dev'", 'pytest; extra == "one"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: lines)
    assert doctor.requirements_by_extra(lines) == {"dev": ["pytest", "no-such-package"], "one": ["pytest"]}
    assert doctor.extras() == [("dev", "lacks no-such-package; pip install 'raekit[dev]'"), ("one", "present")]


def test_doctor_knows_a_source_tree_that_is_not_installed(monkeypatch) -> None:
    monkeypatch.setattr(doctor.metadata, "requires", _raiser(doctor.metadata.PackageNotFoundError()))
    assert "not installed" in doctor.extras()[0][1]


def test_an_option_out_of_settings_tells_its_default_once() -> None:
    class Settings(Config):
        size: int = 20
        """How large."""
        place: str | None = None
        """Where, else anywhere (default: here)."""
        device: str = "auto"
        """auto, cpu, ..."""

    @options_of(Settings, default=False)
    def verb(**options: object) -> None:
        """Does nothing."""

    parameters = inspect.signature(verb).parameters.values()
    told = [option.annotation.__metadata__[0].help for option in parameters]
    assert told == [
        "How large (default: 20).",
        "Where, else anywhere (default: here).",
        "auto, cpu, ... (default: auto).",
    ]


def test_one_thing_is_singular() -> None:
    assert [counted(number, "picture") for number in (0, 1, 2)] == ["0 pictures", "1 picture", "2 pictures"]


def test_rows_are_aligned(capsys) -> None:
    print_rows("title", [("a", 1), ("longer", "two\nlines"), ("empty", "")])
    assert capsys.readouterr().out == "title\n  a       1\n  longer  two\n          lines\n  empty\n"


def program(*words: str) -> subprocess.CompletedProcess[str]:
    """Python with the given words, in a process of its own."""
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)


def _raiser(error: BaseException):
    def raising(*_: object) -> None:
        raise error

    return raising
