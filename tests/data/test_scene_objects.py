from __future__ import annotations

from raekit.data.scene_objects import GENEVAL_CLASSES
from raekit.data.sources.emoji_labels import normalise


def test_each_class_has_its_own_emoji() -> None:
    assert len(GENEVAL_CLASSES) == len(set(GENEVAL_CLASSES.values())) == 66
    assert all(normalise(concept) == concept for concept in GENEVAL_CLASSES.values())
