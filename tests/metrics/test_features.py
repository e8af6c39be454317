"""Feature networks by name: an encoder's mean token, and what is wrong in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_encoders
from raekit.errors import UserError
from raekit.metrics.features import build_features


def test_an_encoder_gives_the_mean_of_its_tokens(tmp_path: Path) -> None:
    directory = tiny_encoders.save("dinov2", tmp_path / "encoder")
    (network,) = build_features([f"dinov2={directory}"]).values()
    image = torch.rand(2, 3, *(network.encoder.input_size,) * 2)
    tokens = network.encoder(image)
    assert (network.metric, network.width) == ("fd_dinov2", tokens.shape[2])
    assert str(directory) in network.source
    torch.testing.assert_close(network(image), tokens.sum(dim=1) / tokens.shape[1])


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["nanno"], "features: unknown network 'nanno'; did you mean 'nano'"),
        (["inceptoin"], "did you mean 'inception'"),
        (["nano=no/such/dir/here"], "no/such/dir/here"),
        (["inception"], "inception needs its weights, which are not shipped; download https://"),
        (["inception=no_such_file.safetensors"], "no file 'no_such_file.safetensors'"),
    ],
)
def test_what_is_wrong_is_named(names: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as error:
        build_features(names)
    assert sentence in str(error.value)


def test_a_network_is_named_once(tmp_path: Path) -> None:
    directory = tiny_encoders.save("nano", tmp_path / "encoder")
    with pytest.raises(UserError, match="named twice"):
        build_features([f"nano={directory}", f"nano={directory}"])
