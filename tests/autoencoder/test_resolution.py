"""The sizes of the published systems, and the sentence when two numbers disagree."""

from __future__ import annotations

import pytest

from raekit.autoencoder.resolution import Resolution, fit_patch
from raekit.errors import UserError


@pytest.mark.parametrize(
    ("input_size", "encoder_patch", "output_size", "decoder_patch"),
    [
        (224, 14, 256, 16),  # RAE, DINOv2
        (256, 16, 256, 16),  # RAE, SigLIP-2 and MAE; RAEv2
        (224, 14, 224, 14),  # Scale-RAE
        (448, 14, 512, 16),  # RAE at 512 px
        (224, 14, 512, 32),  # RAE, upsampling decoder
    ],
)
def test_published_sizes(input_size: int, encoder_patch: int, output_size: int, decoder_patch: int) -> None:
    grid = input_size // encoder_patch
    assert fit_patch(grid, None, output_size, default=16) == decoder_patch
    assert fit_patch(grid, decoder_patch, output_size, default=16) == decoder_patch
    resolution = Resolution(input_size, encoder_patch, decoder_patch, output_size)
    assert resolution.grid == grid and resolution.upsampling == output_size / input_size


def test_without_an_output_size_the_decoder_decides() -> None:
    assert fit_patch(16, None, None, default=14) == 14
    assert fit_patch(16, 32, None, default=14) == 32


@pytest.mark.parametrize(("output_size", "fix"), [(250, "give 240 or 256"), (10, "give 16 or 32")])
def test_no_whole_patch(output_size: int, fix: str) -> None:
    with pytest.raises(UserError, match=f"output_size: {output_size} is no multiple of the 16 x 16 tokens.*{fix}"):
        fit_patch(16, None, output_size, default=16)


def test_a_patch_that_disagrees() -> None:
    with pytest.raises(
        UserError, match="output_size: 512 needs decoder.patch_size 32 for 16 x 16 tokens, .* is 16, which gives 256"
    ):
        fit_patch(16, 16, 512, default=16)


def test_reads_as_the_way_of_a_picture() -> None:
    expected = "224 px in, patch 14 -> 16 x 16 tokens -> patch 32, 512 px out (2.29x)"
    assert str(Resolution(224, 14, 32, 512)) == expected
    assert str(Resolution(224, 14, 14, 224)).endswith("patch 14, 224 px out")
