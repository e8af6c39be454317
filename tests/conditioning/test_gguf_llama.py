"""Reading GGUF: a tiny Llama written in llama.cpp's layout comes back as the transformers model it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raekit.conditioning.gguf_llama import load_gguf_llama, rotate_half_rows, transformers_key
from raekit.errors import UserError
from tiny_language_model import build_model

gguf = pytest.importorskip("gguf", reason="gguf is not installed: pip install 'gguf>=0.17'")

GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(path: Path, architecture: str = "llama") -> torch.nn.Module:
    """The tiny model as llama.cpp's converter would write it: pairs of rotary rows side by side."""
    model = build_model()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_context_length(512)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_token_list([f"t{index}" for index in range(256)])
    for name, value in model.state_dict().items():
        array = value.float().numpy()
        for module, heads in (("q_proj", 4), ("k_proj", 2)):
            if module in name:
                halves = array.reshape(heads, 2, 4, 32)
                array = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)
        writer.add_tensor(gguf_name(name), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def gguf_name(name: str) -> str:
    if name in GGUF_NAMES:
        return GGUF_NAMES[name]
    _, _, layer, module = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[module]}.weight"


def test_a_written_model_comes_back(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "tiny.gguf")
    read = load_gguf_llama(tmp_path / "tiny.gguf", torch.float32)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(read(ids).logits, model(ids).logits, rtol=0, atol=1e-6)
    assert all(transformers_key(gguf_name(name)) == name for name in model.state_dict())


def test_rotary_rows_go_from_pairs_to_halves() -> None:
    """One head of width 4: llama.cpp's rows (0,1), (2,3) are rotated together, transformers' rows (0,2), (1,3)."""
    rows = np.arange(4, dtype=np.float32)[:, None]
    assert rotate_half_rows(rows, heads=1)[:, 0].tolist() == [0, 2, 1, 3]


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "other.gguf", architecture="falcon")
    with pytest.raises(UserError, match=r"other.gguf holds a 'falcon' model"):
        load_gguf_llama(tmp_path / "other.gguf")
