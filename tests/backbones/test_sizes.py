"""Every size's exact parameter count: pinned, against the closed formula, a full build, and what was published."""

from __future__ import annotations

import math
import typing

import pytest
import torch

from raekit.backbones import sizes
from raekit.backbones.base import Backbone, Shape
from raekit.backbones.dit import DiT
from raekit.backbones.dit_dh import DiTDH
from raekit.layers.feedforward import swiglu_width

pytestmark = pytest.mark.filterwarnings("ignore:.*is not above the latent token width")

COUNTS = {
    "dit": {
        "nano": 19_042_468,
        "S": 33_166_848,
        "B": 130_918_656,
        "L": 458_636_000,
        "XL": 675_800_064,
        "XXL": 951_973_440,
        "H": 1_370_089_216,
        "G": 3_038_109_072,
        "T": 5_231_416_832,
        "0.5B": 480_742_688,
        "2.4B": 2_435_418_560,
        "3.1B": 3_081_427_584,
        "5.5B": 5_474_602_112,
        "9.8B": 9_727_708_928,
    },
    "dit_dh": {
        "nano": 17_577_164,
        "S": 195_972_820,
        "B": 293_330_260,
        "L": 620_457_012,
        "XL": 837_227_476,
        "0.5B": 760_296_352,
        "2.4B": 2_711_037_760,
        "3.1B": 3_355_211_008,
    },
}
KINDS: dict[str, type[Backbone]] = {"dit": DiT, "dit_dh": DiTDH}
TABLES: dict[str, dict] = {"dit": sizes.DIT, "dit_dh": sizes.DIT_DH}


def blocks(shape: Shape, cond_width: int) -> int:
    """Attention, SwiGLU, modulation and two norms of each block (Scale-RAE's own accounting)."""
    d, m = shape.width, swiglu_width(shape.width, 4.0)
    return shape.depth * ((4 * d * d + 4 * d) + (3 * d * m + 2 * m + d) + 6 * d * (cond_width + 1) + 2 * d)


def around(channels: int, width: int, cond_width: int) -> int:
    """Embedding, final norm, final map and its modulation."""
    return (channels + 1) * width + width + (width + 1) * channels + 2 * width * (cond_width + 1)


def time_mlp(width: int) -> int:
    return 512 * width + width + width * width + width


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_exact_counts_of_every_size(kind: str) -> None:
    counts = {size: sizes.num_parameters(KINDS[kind], size) for size in TABLES[kind]}
    assert counts == COUNTS[kind]


@pytest.mark.parametrize("size", sorted(sizes.DIT))
def test_the_closed_formula_of_a_dit(size: str) -> None:
    shape, channels = sizes.DIT[size], sizes.latent_of(size)[0]
    width = shape.width
    assert blocks(shape, width) + around(channels, width, width) + time_mlp(width) == COUNTS["dit"][size]


@pytest.mark.parametrize("size", sorted(sizes.DIT_DH))
def test_the_closed_formula_of_a_dit_dh(size: str) -> None:
    shape, channels = sizes.DIT_DH[size], sizes.latent_of(size)[0]
    trunk, head = shape.trunk, shape.head
    total = blocks(trunk, trunk.width) + (channels + 1) * trunk.width + time_mlp(trunk.width)
    total += blocks(head, head.width) + around(channels, head.width, head.width)
    total += 0 if trunk.width == head.width else (trunk.width + 1) * head.width
    assert total == COUNTS["dit_dh"][size]


@pytest.mark.parametrize(("kind", "size"), [("dit", "B"), ("dit_dh", "S"), ("dit", "0.5B")])
def test_a_full_build_has_that_many(kind: str, size: str) -> None:
    backbone: typing.Any = KINDS[kind]
    config = backbone.Config(size=size)
    with torch.device("meta"):
        built = backbone(config, sizes.latent_of(size), config.shape.width)
    assert sum(parameter.numel() for parameter in built.parameters()) == COUNTS[kind][size]


def test_counts_as_they_were_published() -> None:
    """RAE counts the label table of 1001 rows, the position table and 256 frequencies too; Scale-RAE table and null."""
    xl = COUNTS["dit"]["XL"] + 1001 * 1152 + 256 * 1152 + 256
    wide = {size: COUNTS["dit_dh"][size] + (1001 + 256) * sizes.DIT_DH[size].width + 256 for size in ("S", "XL")}
    assert (xl, wide) == (677_248_384, {"S": 196_455_764, "XL": 838_675_796})
    one_null, position = 2048, 256 * 2048
    assert COUNTS["dit"]["2.4B"] + one_null + position == 2_435_944_896
    billions = {"0.5B": 0.481, "2.4B": 2.436, "3.1B": 3.082, "5.5B": 5.475, "9.8B": 9.729}
    for size, published in billions.items():
        assert COUNTS["dit"][size] / 1e9 == pytest.approx(published, abs=2e-3)


@pytest.mark.parametrize("size", ["0.5B", "2.4B", "3.1B"])
def test_the_wide_head_of_scale_rae_adds_what_the_paper_says(size: str) -> None:
    added = COUNTS["dit_dh"][size] - COUNTS["dit"][size]
    assert added / 1e9 == pytest.approx(0.28, abs=0.01)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_recipes_may_name_every_size(kind: str) -> None:
    backbone: typing.Any = KINDS[kind]
    assert typing.get_args(backbone.Config.model_fields["size"].annotation) == tuple(TABLES[kind])
    for shape in TABLES[kind].values():
        stacks = [shape] if kind == "dit" else [shape.trunk, shape.head]
        assert all(stack.width % (4 * stack.heads) == 0 for stack in stacks), "rotary positions need it"


def test_a_line_says_shape_count_and_latent() -> None:
    assert sizes.describe(DiT, "2.4B") == (
        "width 2048, depth 32, heads 32: 2,435,418,560 parameters in a latent of 1152 x 16 x 16"
    )
    assert sizes.describe(DiT, "S").endswith("of 768 x 16 x 16, not wider than its tokens (RAE, theorem 1)")
    assert "; head 2048, 2, 16: 195,972,820 parameters" in sizes.describe(DiTDH, "S")
    assert "wider" not in sizes.describe(DiTDH, "S")
    assert math.prod(sizes.latent_of("B")) == 196_608 and math.prod(sizes.latent_of("2.4B")) == 294_912
