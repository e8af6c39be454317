"""What holds for every test: no network, and random numbers that do not depend on which tests ran before."""

from __future__ import annotations

import os

# Before transformers is imported anywhere: a test that needs a model makes a tiny one.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes share the cores; more threads than cores would wait for each other. In the environment, so that
    # the programs that tests start sum in the same order.
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Each test starts from the same state of torch's generator."""
    torch.manual_seed(0)
