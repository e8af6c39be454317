"""What published language models are made of, known without the hub.

In: the name by which a recipe calls one. Out: its settings in the words of transformers, so that a condition can be
sized and its arithmetic counted where there is neither a network nor a weight. Sources: Qwen2.5 (arXiv 2412.15115),
table 1; Qwen3 (arXiv 2505.09388), table 1; SmolLM2 (arXiv 2502.02737); checked by their published numbers of weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class LanguageShape(NamedTuple):
    """Of a causal language model.

    Attributes:
        family: as transformers calls its kind.
        width: ``H``, channels of a token.
        depth: number of blocks.
        heads: attention heads.
        key_heads: heads of keys and values, which several query heads share.
        mlp_width: hidden channels of each gated MLP.
        num_words: rows of the word table.
        is_tied: the output layer is the word table.
        head_width: channels of a head; None = ``width / heads``.
    """

    family: str
    width: int
    depth: int
    heads: int
    key_heads: int
    mlp_width: int
    num_words: int
    is_tied: bool
    head_width: int | None = None


SHAPES = {
    "Qwen/Qwen2.5-0.5B-Instruct": LanguageShape("qwen2", 896, 24, 14, 2, 4864, 151_936, True),
    "Qwen/Qwen2.5-1.5B-Instruct": LanguageShape("qwen2", 1536, 28, 12, 2, 8960, 151_936, True),
    "Qwen/Qwen2.5-7B-Instruct": LanguageShape("qwen2", 3584, 28, 28, 4, 18_944, 152_064, False),
    "Qwen/Qwen3-0.6B": LanguageShape("qwen3", 1024, 28, 16, 8, 3072, 151_936, True, 128),
    "smollm2-135m": LanguageShape("llama", 576, 30, 9, 3, 1536, 49_152, True),
}
"""By name, as in a recipe."""


def known_settings(name: str, depth: int | None = None) -> Any:
    """The transformers config of a language model of :data:`SHAPES`, with ``depth`` blocks if that is given.

    Only what sizes and arithmetic follow from is set; what else a checkpoint states (position base, special tokens)
    is transformers' default, so weights must not be loaded into it.

    Returns:
        The config, or None for a model that is not in the table.
    """
    from transformers import AutoConfig

    shape = SHAPES.get(name)
    if shape is None:
        return None
    heads = {} if shape.head_width is None else {"head_dim": shape.head_width}
    return AutoConfig.for_model(
        shape.family,
        hidden_size=shape.width,
        num_hidden_layers=shape.depth if depth is None else depth,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        intermediate_size=shape.mlp_width,
        vocab_size=shape.num_words,
        tie_word_embeddings=shape.is_tied,
        **heads,
    )
