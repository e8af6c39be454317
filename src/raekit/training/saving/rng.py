"""The random generators of a process, to be saved and put back.

In and out: tensors, so that they lie beside the others in a checkpoint. Training itself draws everything from a
sample's position in the data stream and never from these; they are kept for what a stage of yours may draw besides.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def rng_state() -> dict[str, Tensor]:
    """Generators of torch (CPU, and this process's CUDA device), numpy and Python."""
    version, words, gauss = random.getstate()
    twister = np.random.get_state(legacy=False)
    del version
    state = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.tensor([*twister["state"]["key"].tolist(), twister["state"]["pos"], twister["has_gauss"]]),
        "numpy_gauss": torch.tensor([twister["gauss"]], dtype=torch.float64),
    }
    return {**state, "cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else state


def set_rng_state(state: Mapping[str, Tensor]) -> None:
    """Put back what :func:`rng_state` gave; a generator that this machine or the checkpoint lacks stays as it is."""
    torch.set_rng_state(state["torch"])
    gauss = state["python_gauss"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), gauss[0] if gauss else None))
    *keys, position, has_gauss = state["numpy"].tolist()
    cached = state["numpy_gauss"].item()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def spread(seed: int, rank: int) -> None:
    """Generators for a process that the checkpoint does not know, because there are more of them now."""
    mixed = np.random.SeedSequence([seed, rank]).generate_state(3).tolist()
    torch.manual_seed(mixed[0])
    random.seed(mixed[1])
    np.random.seed(mixed[2])
