"""Published layouts of generators: round trips are bit exact, shapes are read off the weights, no key is lost."""

from pathlib import Path

import pytest
import torch

from raekit.backbones.dit import DiT
from raekit.backbones.dit_dh import DiTDH
from raekit.conditioning.base import Cond
from raekit.errors import UserError
from raekit.interop.dit import LAYOUTS, Generator, dit_from, dit_to, export_dit, layout_of, outline
from raekit.interop.files import read_tensors

LATENT = (6, 4, 4)
ONE = {"width": 16, "depth": 2, "heads": 2}
WIDE = {"width": 16, "depth": 2, "heads": 2, "head_width": 24, "head_depth": 1, "head_heads": 2}
EVEN = {"width": 16, "depth": 2, "heads": 2, "head_width": 16, "head_depth": 1, "head_heads": 2}
SHAPES = {
    "rae_lightning_dit": ONE,
    "rae_ddt": WIDE,
    "scale_rae_dit": ONE,
    "scale_rae_ddt": EVEN,
    "scale_rae_wide_ddt": WIDE,
}


def generator(layout: str, latent: tuple[int, int, int] = LATENT, **settings: object) -> Generator:
    """A tiny model with every weight drawn at random."""
    torch.manual_seed(0)
    cls = DiTDH if LAYOUTS[layout].has_head else DiT
    config = cls.Config(**{**SHAPES[layout], **LAYOUTS[layout].settings, **settings})
    backbone = cls(config, latent, cond_width=16)
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return Generator(backbone, layout, condition=torch.randn(5, 16))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_round_trip_is_bit_exact(layout: str) -> None:
    original = generator(layout)
    published = dit_to(original)
    back = dit_from(published, head_depth=1)
    assert back.layout == layout
    assert back.backbone.config == original.backbone.config
    assert torch.equal(back.condition, original.condition)
    assert all(torch.equal(back.backbone.state_dict()[k], v) for k, v in original.backbone.state_dict().items())
    again = dit_to(back)
    assert again.keys() == published.keys()
    assert all(torch.equal(again[key], value) for key, value in published.items())
    z, t, cond = torch.randn(2, *LATENT), torch.rand(2), Cond(vector=torch.randn(2, 16))
    assert torch.equal(back.backbone(z, t, cond), original.backbone(z, t, cond))


@pytest.mark.parametrize(
    "settings",
    [{"mlp": "gelu", "mlp_ratio": 2.0, "norm": "layer", "qk_norm": "layer"}, {"qk_norm": "rms", "mlp_ratio": 3.0}],
)
def test_form_of_the_blocks_is_read_off_the_keys(settings: dict[str, object]) -> None:
    original = generator("rae_ddt", has_position_table=False, **settings)
    assert dit_from(dit_to(original)).backbone.config == original.backbone.config


def test_patches_keep_the_order_of_the_published_kernel() -> None:
    published = dit_to(generator("rae_lightning_dit", latent=(3, 4, 4), patch_size=2))
    assert published["x_embedder.proj.weight"].shape == (16, 3, 2, 2)
    assert dit_from(published).backbone.latent_shape == (3, 4, 4)


def test_published_key_names() -> None:
    assert {key for key in dit_to(generator("rae_ddt")) if "blocks" not in key} == {
        "pos_embed",
        *(f"{embed}.proj.{kind}" for embed in ("x_embedder", "s_embedder") for kind in ("weight", "bias")),
        *(f"s_projector.{kind}" for kind in ("weight", "bias")),
        "t_embedder.W",
        *(f"t_embedder.mlp.{index}.{kind}" for index in (0, 2) for kind in ("weight", "bias")),
        "y_embedder.embedding_table.weight",
        "final_layer.norm_final.weight",
        *(f"final_layer.{part}.{kind}" for part in ("linear", "adaLN_modulation.1") for kind in ("weight", "bias")),
        *(f"{side}_feat_rope.freqs_{f}" for side in ("enc", "dec") for f in ("cos", "sin")),
    }
    keys = dit_to(generator("scale_rae_dit")).keys()
    assert all(key.startswith("diff_head.model.") for key in keys)
    assert "diff_head.model.y_embedder.dropout_embedding" in keys
    assert not any(key.endswith("t_embedder.W") for key in keys)
    assert {key.split(".", 4)[4] for key in keys if ".dit_blocks.1." in key} == {
        "norm1.weight",
        "norm2.weight",
        *(f"{part}.{kind}" for part in ("attn.qkv", "attn.proj", "mlp.w12", "mlp.w3") for kind in ("weight", "bias")),
        *(f"adaLN_modulation.1.{kind}" for kind in ("weight", "bias")),
    }


@pytest.mark.parametrize(("size", "count"), [("S", 190), ("XL", 382)])
def test_number_of_tensors_of_released_files(size: str, count: int) -> None:
    with torch.device("meta"):
        config = DiTDH.Config(size=size)
        backbone = DiTDH(config, (768, 16, 16), cond_width=config.shape.width)
        table = torch.empty(1001, config.shape.width)
    assert len(dit_to(Generator(backbone, "rae_ddt", table))) == count


@pytest.mark.parametrize("grid", [16, 32])
@pytest.mark.parametrize("size", ["S", "XL"])
def test_sizes_of_released_files_are_recognised(size: str, grid: int) -> None:
    """At 256 and at 512 px; nothing but shapes is looked at."""
    with torch.device("meta"):
        config = DiTDH.Config(size=size)
        backbone = DiTDH(config, (768, grid, grid), cond_width=config.shape.width)
    found = outline(dit_to(Generator(backbone, "rae_ddt")))
    assert isinstance(found, DiTDH) and found.config == config and found.latent_shape == (768, grid, grid)


def test_statistics_travel_with_the_head() -> None:
    statistics = {"data_mean": torch.randn(16, 6), "data_std": torch.rand(16, 6)}
    original = generator("scale_rae_dit")
    published = dit_to(Generator(original.backbone, original.layout, original.condition, statistics))
    assert "diff_head.data_mean" in published
    assert torch.equal(dit_from(published).statistics["data_std"], statistics["data_std"])


def test_rest_of_a_scale_rae_model_is_left_alone() -> None:
    published = dit_to(generator("scale_rae_dit"))
    assert dit_from(published | {"model.norm.weight": torch.ones(3)}).layout == "scale_rae_dit"


def test_rotary_tables_may_be_left_out() -> None:
    published = dit_to(generator("scale_rae_dit"))
    without = {key: value for key, value in published.items() if "feat_rope" not in key}
    with pytest.raises(UserError, match="give heads"):
        dit_from(without)
    again = dit_to(dit_from(without, heads=2))
    assert all(torch.equal(again[key], value) for key, value in published.items())


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_every_key_must_match(change: str) -> None:
    published = dit_to(generator("rae_lightning_dit"))
    if change == "missing":
        del published["blocks.1.mlp.w3.bias"]
    else:
        published["blocks.1.mlp.w4.bias"] = torch.ones(1)
    with pytest.raises(UserError, match=rf"1 {change} \(blocks.1.mlp.w[34].bias"):
        dit_from(published)


def test_equal_widths_need_the_depth_of_the_head() -> None:
    with pytest.raises(UserError, match="give head_depth"):
        dit_from(dit_to(generator("scale_rae_ddt")))


def test_other_weights_are_refused() -> None:
    with pytest.raises(UserError, match="no generator"):
        layout_of({"decoder_embed.weight": torch.ones(1)})


@pytest.mark.parametrize(
    ("made", "wanted", "message"),
    [
        ("rae_ddt", "rae_lightning_dit", "does not hold a DiTDH"),
        ("rae_lightning_dit", "scale_rae_dit", "has extra_silu = True"),
        ("scale_rae_wide_ddt", "scale_rae_ddt", "one width"),
    ],
)
def test_export_refuses_a_layout_that_would_lose_something(made: str, wanted: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dit_to(Generator(generator(made).backbone, wanted))


def test_an_early_head_fits_no_published_layout() -> None:
    config = DiT.Config(width=16, depth=2, heads=2, early_block=1)
    with pytest.raises(UserError, match="has no early head, this model has one"):
        dit_to(Generator(DiT(config, (3, 2, 2), cond_width=16), "rae_lightning_dit"))


def test_learned_time_frequencies_do_not_fit_scale_rae() -> None:
    original = generator("scale_rae_dit")
    original.backbone.time_embed.frequencies.add_(1)
    with pytest.raises(UserError, match="time frequencies"):
        dit_to(original)


def test_files(tmp_path: Path) -> None:
    original = generator("rae_ddt")
    export_dit(original, tmp_path / "model.pt")
    back = dit_from(read_tensors(tmp_path / "model.pt"))
    assert all(torch.equal(v, back.backbone.state_dict()[k]) for k, v in original.backbone.state_dict().items())
