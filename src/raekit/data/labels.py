"""Classes out of what is known of a picture: any field of its metadata can be what a generator is conditioned on.

In: a sample. Out: its class index. Folders and the tables of Hugging Face carry class indices of their own; sets that
carry words instead (an emoji's ``group``, ``style``, ``concept``) become class-conditional by naming the field.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from raekit.config import Config
from raekit.data.sample import Sample
from raekit.errors import UserError


class Labels(Config):
    """A field of the metadata, and the classes that it names."""

    field: str
    """Name of the field, such as ``group``."""
    classes: tuple[str, ...] = Field(min_length=2)
    """Its values, in the order of the class indices."""

    @model_validator(mode="after")
    def _are_apart(self) -> Labels:
        if twice := sorted({name for name in self.classes if self.classes.count(name) > 1}):
            raise ValueError(f"classes: {twice[0]!r} is listed twice; each class has one index")
        return self

    def label_of(self, sample: Sample) -> int:
        """The class index of ``sample``, in ``[0, len(classes))``.

        Raises:
            UserError: the sample lacks the field, or its value is none of the classes.
        """
        value = sample.metadata.get(self.field)
        if value in self.classes:
            return self.classes.index(value)
        raise UserError(
            f"data.labels: {self.field} of sample {sample.key!r} is {value!r}, which is no class of the recipe; add it "
            "to classes, or leave such samples out with the source's `where`"
        )
