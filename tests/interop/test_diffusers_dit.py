"""RAEDiT2DModel: RAE's layout with blocks taken apart, there and back bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raekit.backbones.dit import DiT
from raekit.backbones.dit_dh import DiTDH
from raekit.errors import UserError
from raekit.interop.diffusers_dit import transformer_from, transformer_to
from raekit.interop.dit import LAYOUTS, Generator, dit_to
from raekit.interop.ledger import Ledger
from tiny_published import same

LATENT = (6, 4, 4)
WIDE = {"width": 16, "depth": 2, "heads": 2, "head_width": 24, "head_depth": 1, "head_heads": 2}
SWIGLU_KEYS = {
    *(f"attn.{part}.{kind}" for part in ("to_q", "to_k", "to_v", "to_out.0") for kind in ("weight", "bias")),
    *(f"mlp.net.{part}.{kind}" for part in ("0.proj", "2") for kind in ("weight", "bias")),
    *(f"adaLN_modulation.1.{kind}" for kind in ("weight", "bias")),
    "norm1.weight",
    "norm2.weight",
}


def generator(rows: int = 5, latent: tuple[int, int, int] = LATENT, **settings: object) -> Generator:
    """A tiny model with every weight drawn at random."""
    torch.manual_seed(0)
    backbone = DiTDH(DiTDH.Config(**{**WIDE, **LAYOUTS["rae_ddt"].settings, **settings}), latent, cond_width=16)
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return Generator(backbone, "rae_ddt", condition=torch.randn(rows, 16))


@pytest.mark.parametrize(
    "settings",
    [{}, {"qk_norm": "rms", "mlp_ratio": 3.0}, {"mlp": "gelu", "norm": "layer", "qk_norm": "layer"}],
    ids=["published", "qk_norm", "gelu"],
)
def test_there_and_back(settings: dict[str, object]) -> None:
    original = generator(**settings)
    config, tensors = transformer_to(original, dropout=0.1)
    ledger = Ledger(tensors, "weights")
    again = transformer_from(ledger, config)
    assert ledger.loaded == tensors.keys()
    assert same(dit_to(again), dit_to(original))
    assert again.backbone.config.shape == original.backbone.config.shape


def test_config_and_keys() -> None:
    config, tensors = transformer_to(generator(), dropout=0.1)
    assert config == {
        "_class_name": "RAEDiT2DModel",
        "sample_size": 4,
        "patch_size": 1,
        "in_channels": 6,
        "hidden_size": [16, 24],
        "depth": [2, 1],
        "num_heads": [2, 2],
        "mlp_ratio": 4.0,
        "class_dropout_prob": 0.1,
        "num_classes": 4,
        "use_qknorm": False,
        "use_swiglu": True,
        "use_rope": True,
        "use_rmsnorm": True,
        "wo_shift": False,
        "use_pos_embed": True,
    }
    assert {key.split(".", 2)[2] for key in tensors if key.startswith("blocks.")} == SWIGLU_KEYS
    theirs = dit_to(generator())
    assert {key for key in tensors if "blocks" not in key} == {key for key in theirs if "blocks" not in key}


def test_the_gate_comes_second() -> None:
    """diffusers' SwiGLU multiplies by silu of the second half of its projection, RAE's by silu of the first."""
    theirs, tensors = dit_to(generator()), transformer_to(generator(), dropout=0.1)[1]
    gate, value = theirs["blocks.0.mlp.w12.weight"].chunk(2)
    assert torch.equal(tensors["blocks.0.mlp.net.0.proj.weight"], torch.cat((value, gate)))


def test_without_label_dropout_there_is_no_null_row() -> None:
    original = generator()
    config, tensors = transformer_to(original, dropout=0.0)
    assert tensors["y_embedder.embedding_table.weight"].shape == (4, 16) and config["num_classes"] == 4
    again = transformer_from(Ledger(tensors, "weights"), config)
    assert again.condition is not None and original.condition is not None
    assert torch.equal(again.condition[:-1], original.condition[:-1]) and not again.condition[-1].any()


@pytest.mark.parametrize(
    ("original", "sentence"),
    [
        (generator(norm="rms", qk_norm="layer"), "one kind of norm; .* norm rms, qk_norm layer"),
        (generator(latent=(6, 4, 2)), "holds square latents"),
        (Generator(generator().backbone, "rae_ddt"), "class-conditional dit_dh models only"),
        (Generator(DiT(DiT.Config(width=16, depth=1, heads=2), LATENT, 16), "rae_ddt"), "dit_dh models only"),
    ],
)
def test_what_it_cannot_hold(original: Generator, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        transformer_to(original, dropout=0.1)


def without(tensors: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if name != key}


def test_what_does_not_fit() -> None:
    config, tensors = transformer_to(generator(), dropout=0.1)
    refused = [
        (without(tensors, "blocks.1.attn.to_k.bias"), {}, r"1 missing \(blocks.1.attn.to_k.bias\)"),
        (without(tensors, "blocks.1.mlp.net.2.bias"), {}, "blocks.1.mlp.w3.bias"),
        (tensors | {"blocks.0.strange": torch.ones(1)}, {}, "1 unexpected"),
        (tensors, {"hidden_size": [16, 32]}, r"hidden_size is \[16, 32\] in config.json, \[16, 24\] in the weights"),
        (tensors, {"num_classes": 1000}, "num_classes is 1000 in config.json, 4"),
        (tensors, {"wo_shift": True}, "wo_shift is True, only False is supported"),
    ]
    for found, changes, sentence in refused:
        with pytest.raises(UserError, match=sentence):
            transformer_from(Ledger(found, "weights"), config | changes)
