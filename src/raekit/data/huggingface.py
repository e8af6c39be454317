"""A data set of the Hugging Face ``datasets`` package as a source, read by index.

In: a folder on disk (saved by ``save_to_disk``, or Parquet, Arrow or image files), or the name of a data set on the
hub. Out: :class:`Sample` by index. Only the columns that are needed are read, and pictures are decoded here, so that a
broken one is passed over like any other. Needs ``pip install 'raekit[datasets]'``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from raekit.data.decode import decode_image, to_pixels
from raekit.data.fingerprint import fingerprint_of
from raekit.data.records import CAPTION_FIELDS, captions_in, described
from raekit.data.sample import BadSample, Pixels, Sample, Source, SourceConfig
from raekit.errors import UserError
from raekit.liveness import bounded_elsewhere

INSTALL_LINE = "pip install 'raekit[datasets]'"


class TableConfig(SourceConfig):
    """Which data set, and which of its columns: what is said of a table that is read by index or streamed."""

    path: str
    """A folder, or the name of a data set on the hub, e.g. ``nyu-visionx/scale-rae-data``."""
    subset: str | None = None
    """The configuration, for data sets that have several."""
    split: str = "train"
    """The split."""
    revision: str | None = None
    """Commit or tag on the hub; give one, or the data may change between runs."""
    image: str = "image"
    """Column of the pictures: encoded, as paths, or as arrays of numbers."""
    caption: str | None = None
    """Column of the captions, one or a list each; by default caption, captions, text or prompt, or the class."""
    label: str = "label"
    """Column of the class indices, where there is one."""


class HuggingFace(Source):
    """A Hugging Face data set, from disk or from the hub.

    Attributes:
        classes: names of classes, by label, where the data set states them.

    Raises:
        UserError: the package is missing, the data set cannot be found or fetched, or it lacks a split or a column.
    """

    class Config(TableConfig):
        """Which data set, and which of its columns."""

        name: Literal["huggingface"] = "huggingface"
        split: str = "train"
        """The split; slices such as ``train[:1000]`` work for data sets that were not made by ``save_to_disk``."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._table, self.classes = narrowed(load_table(config), config)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Sample:
        name = f"{self.config.path}[{self.config.split}] row {index}"
        return sample_of(self._table[int(index)], self.config, self.classes, name, self.key_of(index))

    def key_of(self, index: int) -> str:
        return f"{index:09d}"

    def fingerprint(self) -> str:
        """Hugging Face's own fingerprint of the table, which follows its content and its history."""
        cfg = self.config
        return fingerprint_of([cfg.image, cfg.caption, cfg.label, len(self), self._table._fingerprint])


def narrowed(table: Any, config: TableConfig) -> tuple[Any, list[str]]:
    """A table or stream with only the columns that are needed, its pictures as the bytes and paths they are stored as.

    Returns:
        It, and the names of the classes, by label, where the data set states them.

    Raises:
        UserError: the settings name a column that is not there.
    """
    columns = table.column_names or list(next(iter(table)))
    wanted = {"image": config.image} | ({"caption": config.caption} if config.caption else {})
    for field, column in wanted.items():
        if column not in columns:
            raise UserError(f"{field} {column!r}: {config.path} has no such column; known: {columns}")
    used = {config.image, config.label, *(CAPTION_FIELDS if config.caption is None else (config.caption,))}
    table = table.select_columns([name for name in columns if name in used])
    classes = list(getattr((table.features or {}).get(config.label), "names", None) or [])
    return _undecoded(table, config.image), classes


def sample_of(row: dict[str, Any], config: TableConfig, classes: list[str], name: str, key: str) -> Sample:
    """One row as a sample.

    Args:
        row: by column, the picture undecoded.
        config: with the names of the columns.
        classes: names by label, where they are known.
        name: of the row, for errors.
        key: of the sample.

    Raises:
        BadSample: the picture cannot be read.
    """
    image = _pixels(row.pop(config.image), name)
    captions, label = captions_in(row, config.caption), row.get(config.label)
    if not captions and isinstance(label, int) and 0 <= label < len(classes):
        captions = [classes[label].replace("_", " ")]
    caption, metadata = described({}, captions, label)
    return Sample(image, caption, key, metadata)


def load_table(config: TableConfig, is_streamed: bool = False) -> Any:
    """The table of one split, or a stream of its rows; imports the package only here.

    Raises:
        UserError: the package, the data set or the split is missing.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise UserError(f"data source 'huggingface': needs the datasets package; {INSTALL_LINE}") from None
    folder = Path(config.path).expanduser()
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            table = _split_of(datasets.load_from_disk(str(folder)), config)
            return table.to_iterable_dataset() if is_streamed else table
        place = str(folder) if folder.is_dir() else config.path
        asked = {"split": config.split, "revision": config.revision, "streaming": is_streamed}
        with bounded_elsewhere():  # the hub's client gives up on a server that is silent
            return datasets.load_dataset(place, config.subset, **asked)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        why = " ".join(str(error).split())[:300]
        if folder.is_dir():
            raise UserError(f"path {config.path!r}: split {config.split!r} cannot be read ({why})") from None
        raise UserError(
            f"path {config.path!r}: no such folder, and not to be had from the hub ({why}); "
            "check the name and the network, or give the folder of a downloaded copy"
        ) from None


def _split_of(saved: Any, config: TableConfig) -> Any:
    """One split of what ``save_to_disk`` wrote; a folder of a single split has no name for it."""
    if not isinstance(saved, dict):
        return saved
    if config.split not in saved:
        raise ValueError(f"known splits: {', '.join(saved)}")
    return saved[config.split]


def _undecoded(table: Any, column: str) -> Any:
    """The table with its pictures as the bytes and paths they are stored as."""
    datasets = importlib.import_module("datasets")
    feature = table.features[column]
    is_encoded = isinstance(feature, datasets.Image) or getattr(feature, "dtype", "") in ("string", "binary")
    return table.cast_column(column, datasets.Image(decode=False)) if is_encoded else table


def _pixels(value: Any, name: str) -> Pixels:
    """A cell of the picture column as pixels."""
    if isinstance(value, dict) and value.get("bytes") is not None:
        return decode_image(value["bytes"], name)
    if isinstance(value, dict) and value.get("path"):
        try:
            return decode_image(Path(value["path"]).read_bytes(), f"{name} ({value['path']})")
        except OSError as error:
            raise BadSample(f"{name}: {value['path']} cannot be read ({error.strerror})") from None
    if isinstance(value, list):
        try:
            return to_pixels(np.array(value), name)
        except ValueError:  # rows of unequal length
            raise BadSample(f"{name}: its numbers do not form a picture") from None
    raise BadSample(f"{name}: holds no picture")
