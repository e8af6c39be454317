"""PyTorch's file of the FID's Inception to safetensors, and from there into the metric."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from published_inception import random_weights
from raekit.errors import UserError
from raekit.interop.convert import convert
from raekit.interop.inception import InceptionV3
from raekit.metrics.inception import Inception


def test_the_published_file_is_read(tmp_path: Path) -> None:
    """With its classifier, and with the counters that some files have."""
    tensors = random_weights() | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    tensors["Conv2d_1a_3x3.bn.num_batches_tracked"] = torch.tensor(7)
    torch.save(tensors, tmp_path / "inception.pth")
    rows = dict(convert(tmp_path / "inception.pth", tmp_path / "inception"))
    assert rows["from"].endswith("(inception)") and rows["loaded"].startswith("473 of 473 tensors")
    stored = load_file(tmp_path / "inception" / "model.safetensors")
    assert stored.keys() == tensors.keys()
    network = Inception.from_path(str(tmp_path / "inception"))
    name = "Mixed_7c.branch_pool.conv.weight"
    assert torch.equal(network.layers.state_dict()[name], tensors[name])


def test_half_a_network_is_refused(tmp_path: Path) -> None:
    torch.save({InceptionV3.SIGNATURE: torch.zeros(192, 2048, 1, 1)}, tmp_path / "inception.pth")
    with pytest.raises(UserError, match="469 missing"):
        convert(tmp_path / "inception.pth", tmp_path / "out")
