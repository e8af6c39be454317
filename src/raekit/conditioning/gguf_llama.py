"""A Llama model out of a GGUF file: llama.cpp's container to a transformers model.

In: a ``.gguf`` file of the ``llama`` architecture, quantised or not. Out: a ``LlamaForCausalLM`` with plain weights.
transformers can read GGUF too, but in ways that change from release to release (packed weights, one more package);
the format itself is stable, and the map between the two layouts is the table below.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raekit.errors import UserError

BLOCK_KEYS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
TOP_KEYS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def load_gguf_llama(path: Path, dtype: torch.dtype = torch.bfloat16) -> Any:
    """The ``LlamaForCausalLM`` stored in ``path``, its weights unpacked to ``dtype``.

    Raises:
        UserError: the file holds another architecture, or the ``gguf`` package is missing.
    """
    try:
        from gguf import GGUFReader, dequantize
    except ImportError as error:
        raise UserError(f"reading {path.name} needs the gguf package; pip install 'gguf>=0.17'") from error
    from transformers import LlamaForCausalLM

    reader = GGUFReader(path)
    config = _llama_config(reader, path)
    heads = {"self_attn.q_proj": config.num_attention_heads, "self_attn.k_proj": config.num_key_value_heads}
    weights: dict[str, Tensor] = {}
    for packed in reader.tensors:
        if packed.name == "rope_freqs.weight":
            continue
        key = transformers_key(packed.name)
        values = np.array(dequantize(packed.data, packed.tensor_type), dtype=np.float32)
        module = key.removesuffix(".weight").split(".", 3)[-1]
        if module in heads:
            values = rotate_half_rows(values, heads[module])
        weights[key] = torch.from_numpy(values).to(dtype)
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
    model = model.to(dtype).to_empty(device="cpu")
    model.load_state_dict(weights)
    # Rotary frequencies are computed, not stored, so an empty module has yet to compute them.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    model.tie_weights()
    return model.eval()


def transformers_key(name: str) -> str:
    """The transformers name of a GGUF tensor: ``blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight``."""
    if name in TOP_KEYS:
        return TOP_KEYS[name]
    _, layer, module, kind = name.split(".")
    return f"model.layers.{layer}.{BLOCK_KEYS[module]}.{kind}"


def rotate_half_rows(weight: np.ndarray[Any, np.dtype[np.float32]], heads: int) -> np.ndarray[Any, Any]:
    """Row order of a query or key matrix ``[heads * d, H]`` from llama.cpp's rotary layout to transformers'.

    llama.cpp rotates neighbouring rows (0,1), (2,3), ...; transformers rotates row i with row i + d/2.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, columns)


def _llama_config(reader: Any, path: Path) -> Any:
    """The transformers config that the file's metadata describes."""
    from transformers import LlamaConfig

    def field(name: str, default: Any = None) -> Any:
        entry = reader.get_field(name)
        return default if entry is None else entry.contents()

    architecture = field("general.architecture")
    if architecture != "llama":
        raise UserError(f"{path.name} holds a {architecture!r} model; only the 'llama' architecture is read from GGUF")
    heads = field("llama.attention.head_count")
    names = {tensor.name for tensor in reader.tensors}
    return LlamaConfig(
        vocab_size=len(field("tokenizer.ggml.tokens")),
        hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"),
        num_hidden_layers=field("llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=field("llama.attention.head_count_kv", heads),
        max_position_embeddings=field("llama.context_length"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field("llama.rope.freq_base", 10_000.0)},
        bos_token_id=field("tokenizer.ggml.bos_token_id"),
        eos_token_id=field("tokenizer.ggml.eos_token_id"),
        pad_token_id=field("tokenizer.ggml.padding_token_id"),
        tie_word_embeddings="output.weight" not in names,
    )
