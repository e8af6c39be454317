"""What holds for every test: no network, and random numbers that do not depend on which tests ran before."""

from __future__ import annotations

import os

# Before transformers is imported anywhere: a test that needs a model makes a tiny one.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Each test starts from the same state of torch's generator."""
    torch.manual_seed(0)
