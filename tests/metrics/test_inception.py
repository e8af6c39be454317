"""InceptionV3 against torch-fidelity's, with random weights that both were given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from published_inception import images, random_weights
from raekit.errors import UserError
from raekit.metrics.inception import Inception, resize_like_tensorflow

STORED = {
    0: [1.47894287109375, 7.734519004821777, 0.17826974391937256, 1.5876004695892334],
    1: [3.6493356227874756, 0.20278485119342804],
}
"""torch-fidelity 0.4.0, `inception-v3-compat`, 2048 features, of :func:`images`: the first four numbers of the first
picture, the last two of the second."""

STORED_MEAN = 1.2495365142822266
NUM_PARAMETERS = 21_785_568


def test_it_is_torch_fidelitys_network(tmp_path: Path) -> None:
    """The classifier of published files is left out; counters of batches, which some lack, may be missing."""
    path = tmp_path / "inception.safetensors"
    save_file(random_weights() | {"fc.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}, path)
    network = Inception.from_path(str(path))
    assert sum(parameter.numel() for parameter in network.parameters()) == NUM_PARAMETERS
    features = network(images())
    assert features.shape == (2, network.width)
    assert features[0, :4].tolist() == pytest.approx(STORED[0], rel=1e-4)
    assert features[1, -2:].tolist() == pytest.approx(STORED[1], rel=1e-4)
    assert features.abs().mean().item() == pytest.approx(STORED_MEAN, rel=1e-4)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"Mixed_5b.branch1x1.conv.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="does not fit"):
        Inception.from_path(str(path))
    with pytest.raises(UserError, match="raekit convert"):
        Inception.from_path(str(tmp_path / "weights-inception.pth"))


def test_tensorflow_reads_without_half_pixels() -> None:
    """Twice as large: every second pixel is an old one, those between are means, the last has no neighbour."""
    row = torch.tensor([0.0, 4.0, 2.0]).expand(1, 1, 3, 3)
    found = resize_like_tensorflow(row, 6)
    assert found[0, 0, 5].tolist() == [0, 2, 4, 3, 2, 2]
    assert torch.equal(resize_like_tensorflow(row.mT, 6), found.mT)
