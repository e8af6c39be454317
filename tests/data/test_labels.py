from __future__ import annotations

import numpy as np
import pytest

from raekit.config import validate
from raekit.data.dataset import DataConfig, build_dataset
from raekit.data.labels import Labels
from raekit.data.sample import Sample
from raekit.errors import UserError

LABELS = {"field": "parity", "classes": ["even", "odd"]}


def sample(**metadata) -> Sample:
    return Sample(np.zeros((4, 4, 3), np.uint8), "a thing", "s7", metadata)


def test_a_field_of_the_metadata_is_the_class() -> None:
    labels = validate(Labels, LABELS, "recipe")
    assert [labels.label_of(sample(parity=value)) for value in ("odd", "even")] == [1, 0]


def test_a_value_that_is_no_class_is_told_with_the_sample() -> None:
    labels = validate(Labels, LABELS, "recipe")
    with pytest.raises(UserError, match=r"parity of sample 's7' is 'neither', which is no class"):
        labels.label_of(sample(parity="neither"))
    with pytest.raises(UserError, match="is None"):
        labels.label_of(sample())


def test_classes_are_named_once() -> None:
    with pytest.raises(UserError, match="'even' is listed twice"):
        validate(Labels, {"field": "parity", "classes": ["even", "odd", "even"]}, "recipe")


def test_items_carry_the_class_of_their_metadata(write_shard) -> None:
    path = write_shard()
    plain = {"mixture": [{"name": "shards", "path": path}], "image_size": 16, "shuffle": False}
    first = build_dataset(validate(DataConfig, plain, "recipe"))
    (number,) = {len(first.mixture.domains[0].source)}
    facts = first.mixture.domains[0].source[0].metadata
    field = next(name for name, value in facts.items() if isinstance(value, str))
    classes = sorted({first.mixture.domains[0].source[i].metadata[field] for i in range(number)} | {"another"})
    labelled = build_dataset(validate(DataConfig, {**plain, "labels": {"field": field, "classes": classes}}, "recipe"))
    assert labelled[0].label == classes.index(facts[field])
    assert first[0].label == -1
