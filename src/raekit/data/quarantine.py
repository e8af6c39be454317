"""Samples that cannot be used: passed over, and written down once each in a file that says which, where and why.

In: what readers had to pass over. Out: the next one that can be used; and ``quarantine.jsonl`` of a run, one
``{"source", "key", "reason"}`` a line, with how many there are of each source. Processes of a run write the same file,
a whole line at a time; what another one has noted is not noted again. The file outlives the process, so that the counts
are right after a resume too.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from raekit.data.sample import BadSample
from raekit.errors import UserError
from raekit.files import disk_sentence

T = TypeVar("T")

MAX_SKIPS = 100
"""Unusable samples in a row after which a source is given up."""

QUARANTINE_FILE = "quarantine.jsonl"
"""Name of the file in a run directory."""


@dataclass(frozen=True)
class Skipped:
    """A sample that was passed over.

    Attributes:
        source: name of its domain.
        key: of the sample within its source.
        reason: what is wrong with it, with the file it lies in.
    """

    source: str
    key: str
    reason: str

    def __str__(self) -> str:
        return self.reason


def first_usable(
    read: Callable[[int], T], index: int, length: int, source: str, key_of: Callable[[int], str], kind: str = "samples"
) -> tuple[T, tuple[Skipped, ...]]:
    """What can be read at ``index`` or, where that cannot be used, at the next one that can; and what was passed over.

    Args:
        read: raises BadSample where an index cannot be used.
        index: in ``[0, length)``.
        length: of the source, which begins anew at its end.
        source: its name.
        key_of: the name of a sample within it.
        kind: what it holds, in the plural.

    Raises:
        UserError: too many in a row cannot be used.
    """
    skipped: list[Skipped] = []
    while len(skipped) < MAX_SKIPS:
        try:
            return read(index), tuple(skipped)
        except BadSample as error:
            skipped.append(Skipped(source, key_of(index), str(error)))
            index = (index + error.skip) % length
    raise UserError(f"source {source!r}: {MAX_SKIPS} {kind} in a row cannot be used, the last: {skipped[-1]}")


def left_out_of(sources: Mapping[str, Mapping[str, str]]) -> tuple[Skipped, ...]:
    """What sources found unusable when they were opened: by the name of the source, why of each by its key."""
    return tuple(Skipped(name, key, reason) for name, found in sources.items() for key, reason in found.items())


class Quarantine:
    """The file of a run, which is made when the first sample comes.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: set[tuple[str, str]] = set()
        self._read_to = 0
        self._lock = threading.Lock()

    def add(self, skipped: Iterable[Skipped]) -> None:
        """Note those that are not noted yet; threads and processes may do so at once.

        Raises:
            UserError: the file cannot be written.
        """
        with self._lock:
            found = {(one.source, one.key): one for one in skipped}
            if not found.keys() - self._known:
                return
            self._catch_up()
            for place in found.keys() - self._known:
                self._append(json.dumps(asdict(found[place]), ensure_ascii=False) + "\n")
                self._known.add(place)

    def counts(self) -> dict[str, int]:
        """How many different samples of each source are in the file, whoever wrote them."""
        with self._lock:
            self._catch_up()
            return dict(sorted(Counter(source for source, _ in self._known).items()))

    def _append(self, line: str) -> None:
        """One write to the end of the file, so that lines of several processes do not mix."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(file, line.encode())
            finally:
                os.close(file)
        except OSError as error:
            raise UserError(disk_sentence(self.path, error)) from None

    def _catch_up(self) -> None:
        """Read what has been written since the last look; a last line without its end waits for the next."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            try:
                record = json.loads(line)
                self._known.add((record["source"], record["key"]))
            except (ValueError, LookupError, TypeError):  # a line that a crash cut short
                continue
