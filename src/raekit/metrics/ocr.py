"""Whether text in a picture can still be read: word recall of a text recogniser.

In: the words that a picture shows, and what a reader (:mod:`raekit.metrics.readers`) made of it. Out: how many of the
words were found. No reader is perfect, so a recall is only told beside its ceiling, the recall on the original
pictures.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Recall:
    """Words found in a set of pictures.

    Attributes:
        value: share of the words that were found, in [0,1].
        standard_error: of ``value``, pictures being the independent draws; 0 for one picture.
        ceiling: the same share on the originals.
        num_words: words in all pictures.
        num_images: pictures with text.
    """

    value: float
    standard_error: float
    ceiling: float
    num_words: int
    num_images: int


def words_of(text: str) -> list[str]:
    """Runs of letters and digits, without regard to case."""
    return _WORD.findall(text.casefold())


def num_found(text: str, reading: str) -> int:
    """How many words of ``text`` the reading has, each as often as it is read at most, in any order."""
    return (Counter(words_of(text)) & Counter(words_of(reading))).total()


def recall(texts: Sequence[str], readings: Sequence[str], originals: Sequence[str]) -> Recall | None:
    """Word recall over pictures.

    Args:
        texts: what each picture says.
        readings: what was read in each.
        originals: what was read in each original.

    Returns:
        None where there are no words.
    """
    totals = [len(words_of(text)) for text in texts]
    num_words, count = sum(totals), len(totals)
    if not num_words:
        return None
    found = [num_found(text, reading) for text, reading in zip(texts, readings, strict=True)]
    value = sum(found) / num_words
    # A ratio of two sums: its error is that of the residuals (Cochran 1977, section 2.11).
    residuals = sum((f - value * total) ** 2 for f, total in zip(found, totals, strict=True))
    error = math.sqrt(residuals * count / (count - 1)) / num_words if count > 1 else 0.0
    ceiling = sum(num_found(text, reading) for text, reading in zip(texts, originals, strict=True)) / num_words
    return Recall(value, error, ceiling, num_words, count)
