"""From pixels to tokens and back to pixels: the sizes on the way, and whether they fit.

In: an encoder's input size and patch, a decoder's patch, the output size asked for. Out: a :class:`Resolution`, or one
sentence that names the two numbers that disagree. One token becomes one decoder patch, so the picture that comes out is
``grid * decoder patch`` wide, whatever went in: 224 px with patch 14 are 16 x 16 tokens, which a decoder of patch 14
draws at 224 px, of patch 16 at 256 px (RAE, appendix C.1), and of patch 32, twice the published one, at 512 px (the 2x
upsampling decoder of RAE, table 9: a quarter of the tokens). 448 px are 32 x 32 tokens, and 512 px with patch 16.
"""

from __future__ import annotations

from typing import NamedTuple

from raekit.errors import UserError


class Resolution(NamedTuple):
    """Sides of pictures and patches, pixels."""

    input_size: int
    encoder_patch: int
    decoder_patch: int
    output_size: int

    @property
    def grid(self) -> int:
        """Tokens per side of a latent."""
        return self.input_size // self.encoder_patch

    @property
    def upsampling(self) -> float:
        """Decoded pixels per encoded pixel, along a side."""
        return self.output_size / self.input_size

    def __str__(self) -> str:
        factor = "" if self.output_size == self.input_size else f" ({self.upsampling:.3g}x)"
        return (
            f"{self.input_size} px in, patch {self.encoder_patch} -> {self.grid} x {self.grid} tokens -> "
            f"patch {self.decoder_patch}, {self.output_size} px out{factor}"
        )


def fit_patch(grid: int, patch_size: int | None, output_size: int | None, default: int) -> int:
    """The decoder patch that draws ``grid * grid`` tokens at ``output_size``.

    Args:
        grid: tokens per side.
        patch_size: ``decoder.patch_size``, if it is set.
        output_size: ``autoencoder.output_size``, if it is set.
        default: patch of the decoder's preset, when neither is set.

    Raises:
        UserError: both are set and disagree, or no whole patch gives that size.
    """
    if output_size is None:
        return patch_size or default
    fitting, rest = divmod(output_size, grid)
    if rest or not fitting:
        below = max(fitting, 1) * grid
        raise UserError(
            f"autoencoder.output_size: {output_size} is no multiple of the {grid} x {grid} tokens of "
            f"autoencoder.encoder; give {below} or {below + grid}, or another encoder.input_size"
        )
    if patch_size not in (None, fitting):
        raise UserError(
            f"autoencoder.output_size: {output_size} needs decoder.patch_size {fitting} for {grid} x {grid} tokens, "
            f"but decoder.patch_size is {patch_size}, which gives {grid * (patch_size or 0)}; drop one of the two"
        )
    return fitting
