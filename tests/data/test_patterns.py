from __future__ import annotations

from pathlib import Path

import pytest

from raekit.data.patterns import expand, expand_braces
from raekit.errors import UserError


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{x,y}/{0..1}", ["x/0", "x/1", "y/0", "y/1"]),
        ("a{b}c", ["a{b}c"]),
        ("{3..3}", ["3"]),
    ],
)
def test_braces_are_all_their_members_in_order(pattern: str, names: list[str]) -> None:
    assert expand_braces(pattern) == names


def test_a_range_that_runs_backwards_is_refused() -> None:
    with pytest.raises(UserError, match=r"write \{1\.\.5\}"):
        expand_braces("a{5..1}")


def test_wildcards_match_what_is_there(tmp_path) -> None:
    for name in ("b.tar", "a.tar", "c.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in expand(tmp_path / "*.tar")] == ["a.tar", "b.tar"]
    assert expand(Path("missing-{0..1}.tar")) == [Path("missing-0.tar"), Path("missing-1.tar")]
    with pytest.raises(UserError, match="no file matches"):
        expand(tmp_path / "*.zip")
