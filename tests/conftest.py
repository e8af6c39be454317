"""What holds for every test: no network, and random numbers that do not depend on which tests ran before."""

from __future__ import annotations

import os

# Before transformers is imported anywhere: a test that needs a model makes a tiny one.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes share the cores; more threads than cores would wait for each other.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Each test starts from the same state of torch's generator."""
    torch.manual_seed(0)
