"""A model's directory: as given, from the hub (a stand-in for it), or one sentence that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

import raekit
from raekit.errors import UserError
from raekit.hub import FETCHED, local_model, part


def pretend(monkeypatch: pytest.MonkeyPatch, outcome: Path | Exception) -> list[dict[str, Any]]:
    """The hub answers with a directory or an error; what it was asked for is in the list."""
    asked = []

    def snapshot_download(repo_id: str, **options: Any) -> str:
        asked.append({"repo_id": repo_id, **options})
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def refusal(kind: type[Exception]) -> Exception:
    """A hub error without the HTTP response that it is made from."""
    return kind.__new__(kind)


def test_a_directory_is_itself_even_if_it_looks_like_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pretend(monkeypatch, RuntimeError("not to be asked"))
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert local_model("owner/name") == Path("owner/name")
    assert local_model(tmp_path / "absent") == tmp_path / "absent"
    assert local_model(Path("some/thing")) == Path("some/thing"), "a Path is never an id"
    assert local_model("a/b/c") == Path("a/b/c")
    assert not asked
    with pytest.raises(UserError, match="revision: 'v1' is for a hub repository, but model 'owner/name' is a dir"):
        local_model("owner/name", "v1")


def test_an_id_is_fetched_without_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pretend(monkeypatch, tmp_path)
    assert local_model("owner/name", "v1") == tmp_path
    assert asked == [{"repo_id": "owner/name", "revision": "v1", "allow_patterns": list(FETCHED)}]
    assert not any(pattern.endswith((".bin", ".pt", "*")) for pattern in FETCHED)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (LocalEntryNotFoundError, r"'owner/name' at revision 'v1': .*cannot be reached.*hf download owner/name"),
        (RepositoryNotFoundError, "no such directory here and no such repository on the hub.*hf auth login"),
        (RevisionNotFoundError, "at revision 'v1': the repository has no such revision"),
        (ConnectionResetError, "cannot be fetched .*; try again, or give a directory"),
    ],
)
def test_each_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch, kind: type[Exception], sentence: str) -> None:
    pretend(monkeypatch, refusal(kind))
    with pytest.raises(UserError, match=sentence) as error:
        local_model("owner/name", "v1")
    assert len(str(error.value).splitlines()) == 1


def test_offline_the_real_library_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stand-in: all tests run with HF_HUB_OFFLINE set."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="hf download nobody/nothing --local-dir"):
        local_model("nobody/nothing")


def test_a_part_of_a_whole_model_is_found(tmp_path: Path) -> None:
    (tmp_path / "generator").mkdir()
    assert part(tmp_path, "generator") == tmp_path, "nothing in it yet"
    (tmp_path / "generator" / "config.json").touch()
    assert part(tmp_path, "generator") == tmp_path / "generator"
    assert part(tmp_path / "generator", "generator") == tmp_path / "generator"
    (tmp_path / "config.json").touch()
    assert part(tmp_path, "generator") == tmp_path


def test_what_is_no_path_is_told() -> None:
    with pytest.raises(UserError, match="model: 3 is no path; give a directory, or the id of a hub repository"):
        raekit.load(3)  # type: ignore[arg-type]
