"""What published vision transformers are made of, known without the hub.

In: nothing; each encoder keeps a table of :class:`Shape` by size beside it. Out: the same in the words of transformers,
so that a recipe can be checked, counted and explained where there is neither a network nor a weight.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Shape(NamedTuple):
    """Of a vision transformer.

    Attributes:
        width: ``D``, channels of a token.
        depth: number of blocks.
        heads: attention heads.
        mlp_width: hidden channels of each MLP.
        patch_size: side of a patch, pixels.
        image_size: side of the images that the position table is made for, pixels.
        is_gated: the MLP is a SwiGLU: a third matrix.
    """

    width: int
    depth: int
    heads: int
    mlp_width: int
    patch_size: int
    image_size: int
    is_gated: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """As the configs of transformers call it; how they state the MLP differs, and is left out."""
        return {
            "hidden_size": self.width,
            "num_hidden_layers": self.depth,
            "num_attention_heads": self.heads,
            "patch_size": self.patch_size,
            "image_size": self.image_size,
        }

    def __str__(self) -> str:
        mlp = f"MLP {self.mlp_width}{' gated' if self.is_gated else ''}"
        return f"width {self.width}, depth {self.depth}, heads {self.heads}, {mlp}, patch {self.patch_size}"
