"""A file with one JSON object a line, of which each names pictures: where its usable lines begin.

In: the file, and what a line must hold. Out: its objects by index, and the pictures that they name. The file is read
once, when it is opened: of lines that can be used only the place in the file is kept, of the others why they cannot be.
A picture that is missing is met when it is read.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from raekit.data.decode import decode_image
from raekit.data.records import record_in
from raekit.data.sample import BadSample, Pixels
from raekit.errors import UserError

Check = Callable[[dict[str, Any], str], object]
"""Given the object on a line and the line's name; raises BadSample where it is of no use."""


class JsonLines:
    """The usable lines of a file; see the module's docstring.

    Args:
        path: of the file.
        image_folder: what relative paths of pictures start from; None = the folder of the file.
        check: which lines are usable.

    Attributes:
        path: of the file, without a ``~``.
        image_folder: likewise.
        left_out: why each line was left out that cannot be used, by its key.

    Raises:
        UserError: there is no such file.
    """

    def __init__(self, path: Path, image_folder: Path | None, check: Check) -> None:
        self.path = path.expanduser()
        self.image_folder = (image_folder or self.path.parent).expanduser()
        if not self.path.is_file():
            raise UserError(f"path {self.path}: no such file; give a file with one JSON object a line")
        self._numbers, self._offsets = array("q"), array("q")  # line and byte where each object begins
        self.left_out: dict[str, str] = {}
        for number, offset, line in lines_of(self.path):
            try:
                check(record_in(line, f"line {number}"), f"line {number}")
            except BadSample as error:
                self.left_out[_key(number)] = str(error)
            else:
                self._numbers.append(number)
                self._offsets.append(offset)

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The object at ``index`` among the usable ones, read anew.

        Raises:
            BadSample: the file is no longer what it was.
        """
        with self.path.open("rb") as file:
            file.seek(self._offsets[index])
            return record_in(file.readline(), self.name_of(index))

    def key_of(self, index: int) -> str:
        """The number of the line, from 1, as text that sorts as it does."""
        return _key(self._numbers[index])

    def name_of(self, index: int) -> str:
        """File and line, for messages."""
        return f"{self.path}, line {self._numbers[index]}"

    def picture(self, path: str, index: int) -> Pixels:
        """The picture at ``path``, which the line at ``index`` names.

        Raises:
            BadSample: it cannot be read.
        """
        place = self.image_folder / path
        try:
            content = place.read_bytes()
        except OSError as error:
            raise BadSample(f"{place} ({self.name_of(index)}): cannot be read ({error.strerror})") from None
        return decode_image(content, str(place))


def _key(number: int) -> str:
    return f"{number:09d}"


def lines_of(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number from 1, first byte and content of each line that is not blank.

    Raises:
        OSError: the file cannot be read.
    """
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, offset, line
            offset += len(line)
