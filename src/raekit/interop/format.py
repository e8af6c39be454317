"""What a published layout is to ``raekit convert``: how it is recognised, read into ours, and written from ours.

In: a path that holds somebody's weights, and what the path cannot say. Out: one of our artefacts (or the reverse), and
the rows of a report. A new layout is one file with a subclass of :class:`Format` and one line in
:data:`raekit.interop.FORMATS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from raekit.config import Config, component
from raekit.encoders import ENCODERS
from raekit.encoders.base import EncoderConfig
from raekit.errors import UserError
from raekit.interop.decoder import CONFIG_FILE, WEIGHTS_FILE, read_settings
from raekit.interop.files import INDEX, read_ledger
from raekit.interop.ledger import Ledger, Rows

if TYPE_CHECKING:
    EncoderChoice = EncoderConfig
else:
    EncoderChoice = component(ENCODERS)

WEIGHT_FILES = (
    WEIGHTS_FILE,
    "stage2_model.pt",
    "diffusion_pytorch_model.safetensors",
    f"diffusion_pytorch_model.safetensors{INDEX}",
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
    "model.pth",
)
"""What a directory of published weights holds, first found first."""


class ConvertConfig(Config):
    """What a path by itself does not say; each format takes the options that it knows."""

    format: str | None = None
    """The published layout, a row of ``FORMATS``; None: what the contents look like."""
    encoder: EncoderChoice | None = None
    """For a published decoder: the frozen encoder it was trained on, as a recipe states it."""
    statistics: Path | Literal["none"] | None = None
    """For a published decoder: the file of its latent statistics; ``none``: the tokens are used as they are; None: the
    file that lies beside the decoder or in its collection, if there is one."""
    tau: float | None = Field(default=None, ge=0)
    """For a published decoder: the noise level it was trained with; None: that of its system."""
    heads: int | None = Field(default=None, gt=0)
    """For a published decoder of no known size: its attention heads, which weights do not show."""
    decoder: str | None = None
    """For a mirror of the RAE collection: the decoder's folder in it, such as ``dinov2/wReg_base/ViTXL_n08``."""
    autoencoder: Path | None = None
    """For a published generator: our artefact of the latent space it was trained in."""
    reply: str | None = None
    """For a whole Scale-RAE model: what it writes ahead of a picture; None: its own answer to two prompts is taken."""
    lossy: bool = False
    """Write a layout that cannot hold all of ours, and have the report say how far decoded pictures then differ."""
    encoder_names: Literal["installed", "hub"] = "installed"
    """For diffusers: encoder keys as the installed transformers names them, or as the hub's older files do."""

    @property
    def stated(self) -> dict[str, Any]:
        """The options that were given, but for the choice of the format."""
        fields = self.model_fields_set - {"format", "name"}
        return {field: getattr(self, field) for field in sorted(fields) if getattr(self, field) is not None}


class Source:
    """A path that holds published weights, read once however many formats look at it.

    Args:
        path: a weight file, or a directory with one of :data:`WEIGHT_FILES` or with others below it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def file(self) -> Path:
        """The weight file.

        Raises:
            UserError: the directory has none.
        """
        if not self.path.is_dir():
            return self.path
        found = next((self.path / name for name in WEIGHT_FILES if (self.path / name).is_file()), None)
        if found is None:
            raise UserError(
                f"convert: {str(self.path)!r} holds none of {', '.join(WEIGHT_FILES)}; name a directory of weights"
            )
        return found

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The ``config.json`` beside the weights; empty if there is none."""
        directory = self.path if self.path.is_dir() else self.path.parent
        return read_settings(directory / CONFIG_FILE)

    @cached_property
    def ledger(self) -> Ledger:
        """The weights, none of them accounted for yet."""
        return read_ledger(self.file)

    @property
    def keys(self) -> frozenset[str]:
        """Names of the weights; none if this directory only has others below it."""
        is_folder_of_others = self.path.is_dir() and not any((self.path / name).is_file() for name in WEIGHT_FILES)
        return frozenset() if is_folder_of_others else frozenset(self.ledger.tensors)


class Format(ABC):
    """A published layout.

    Subclasses say which options they take: ``READS`` from published to ours, ``WRITES`` the other way.
    ``OURS`` is the ``format`` of the artefact they can write from; None: they can only be read. ``Config`` is the
    shared one with the row's name, so that options mean the same everywhere.
    """

    OURS: ClassVar[str | None] = None
    READS: ClassVar[frozenset[str]] = frozenset()
    WRITES: ClassVar[frozenset[str]] = frozenset()

    Config: ClassVar[type[ConvertConfig]]

    def __init__(self, config: ConvertConfig) -> None:
        self.config = config

    @property
    def name(self) -> str:
        """The row of ``FORMATS``."""
        return str(self.config.model_dump()["name"])

    @classmethod
    @abstractmethod
    def recognises(cls, source: Source) -> bool:
        """Whether the contents look like this layout."""

    @abstractmethod
    def read(self, source: Source, target: Path) -> Rows:
        """Published weights to ours, at ``target`` whole or not at all; returns the report.

        Raises:
            UserError: keys that do not fit, or something missing in the options.
        """

    def write(self, source: Path, target: Path) -> Rows:
        """Ours to published weights, at ``target`` whole or not at all; returns the report.

        Raises:
            UserError: this layout cannot hold them.
        """
        del source, target
        raise UserError(f"convert: {type(self).__name__} is only read, not written; name another --format")
