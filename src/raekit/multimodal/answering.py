"""How answers are written: their length, and how each word is chosen.

In: nothing. Out: :class:`Answering`, the settings that the library and the command line share.
"""

from __future__ import annotations

from typing import TypedDict

from pydantic import Field

from raekit import config

MAX_ANSWER_TOKENS = 64
"""Longest answer, unless told otherwise (Scale-RAE's released command line)."""


class Answering(config.Config):
    """How answers are written."""

    max_tokens: int = Field(MAX_ANSWER_TOKENS, ge=1)
    """Longest answer, in tokens (default: 64)."""
    temperature: float = Field(0.0, ge=0)
    """0 takes the likeliest word each time; above, words are drawn, at 1 as the model has them (default: 0)."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Words are drawn from the likeliest ones that together have this probability (default: 1)."""
    seed: int = Field(0, ge=0)
    """Of the first answer, if words are drawn; the next have seed+1, ... (default: 0)."""


class AnsweringOptions(TypedDict, total=False):
    """The fields of :class:`Answering`."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int
