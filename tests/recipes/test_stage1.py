"""The published decoders as recipes: each is explained without a network, with the sizes and steps of its paper."""

from __future__ import annotations

import socket
from functools import cache
from pathlib import Path

import pytest

from raekit.errors import UserError
from raekit.training.recipe import load_recipe
from raekit.training.stage1 import Stage1

RECIPES = Path(__file__).parents[2] / "recipes"
STAGE1 = sorted((RECIPES / "stage1").glob("*.yaml"))
DOCUMENT = RECIPES.parent / "docs" / "reproducing.md"

PINNED = {
    "dinov2_base": (415_352_704, 40_036, (256, 768), 256),
    "dinov2_base_512": (416_237_440, 40_036, (1024, 768), 512),
    "dinov2_base_no_noise": (415_352_704, 40_036, (256, 768), 256),
    "dinov2_base_upsampling": (418_009_216, 40_036, (256, 768), 512),
    "dinov2_large": (415_647_616, 40_036, (256, 1024), 256),
    "dinov2_small": (414_910_336, 40_036, (256, 384), 256),
    "dinov3_large_1_layer": (415_647_616, 40_036, (256, 1024), 256),
    "dinov3_large_23_layers": (415_647_616, 40_036, (256, 1024), 256),
    "dinov3_large_7_layers": (415_647_616, 40_036, (256, 1024), 256),
    "mae_base": (415_352_704, 40_036, (256, 768), 256),
    "one_gpu_base": (86_435_328, 40_036, (256, 768), 256),
    "one_gpu_small": (21_836_928, 40_036, (256, 384), 256),
    "siglip2_base": (415_352_704, 40_036, (256, 768), 256),
    "siglip2_so400m": (415_587_532, 200_000, (256, 1152), 224),
    "webssl_300m": (415_440_076, 200_000, (256, 1024), 224),
}
"""Decoder weights as published counts have them (with the table of positions), steps, tokens, pixels out."""

MARKS = ("# Hardware: ", "# Expected: ", "# Not run here")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name in ((socket, "getaddrinfo"), (socket.socket, "connect")):
        monkeypatch.setattr(place, name, lambda *_, **__: pytest.fail("went to the network"))


@cache
def explained(path: Path) -> dict[str, str]:
    return dict(load_recipe(path).describe())


def settings(name: str) -> Stage1.Config:
    recipe = load_recipe(RECIPES / f"stage1/{name}.yaml")
    assert isinstance(recipe, Stage1.Config)
    return recipe


@pytest.mark.parametrize("path", STAGE1, ids=lambda path: path.stem)
def test_sizes_and_steps_are_pinned(path: Path) -> None:
    rows = explained(path)
    count, steps, (num_tokens, width), size = PINNED[path.stem]
    assert rows["decoder parameters"].endswith(f" {count:,}")
    assert rows["steps"].startswith(f"{steps:,} of ")
    assert rows["tokens"].startswith(f"[B, {num_tokens}, {width}], ")
    assert rows["decoder output"] == f"{size} x {size} px"
    assert rows["discriminator parameters"] == "7,386,245"


@pytest.mark.parametrize("path", STAGE1, ids=lambda path: path.stem)
def test_a_recipe_opens_with_hardware_expectation_and_state(path: Path) -> None:
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert all(any(line.startswith(mark) for line in head) for mark in MARKS)
    assert f"raekit train recipes/stage1/{path.name}" in DOCUMENT.read_text(encoding="utf-8")


QUICK = ("imagenet256_dit_dh_xl", "t2i_pretrain_2.4b", "raev2_t2i")
"""Recipes of stage 2, one of each kind, that are explained in every run of the tests; the others take two minutes."""


def cases() -> list[object]:
    """Every recipe; those like one that is looked at anyway are marked slow."""
    found = sorted(RECIPES.rglob("*.yaml"))
    is_slow = [path.parent.name == "stage2" and path.stem not in QUICK for path in found]
    return [
        pytest.param(path, id=f"{path.parent.name}/{path.stem}", marks=[pytest.mark.slow] if slow else [])
        for path, slow in zip(found, is_slow, strict=True)
    ]


@pytest.mark.parametrize("path", cases())
def test_explain_needs_no_network(path: Path) -> None:
    """Published networks are known by their tables. What a run here has yet to make is asked for in one sentence."""
    try:
        assert explained(path) or path.parent.name == "nano"
    except UserError as error:
        assert path.parent.name != "stage1", error


def test_paper_a() -> None:
    """RAE, table 12: epochs of 1,281,167 pictures, 512 at a time."""
    rows, recipe = explained(RECIPES / "stage1/dinov2_base.yaml"), settings("dinov2_base")
    assert rows["pictures"] == "20,498,432, 16 epochs of 1,281,167"
    assert rows["learning rate"] == "up to 0.0002 at step 2,502, cosine to 2e-05 at step 40,036"
    assert recipe.adversary is not None
    assert (recipe.adversary.discriminator_start_steps, recipe.adversary.start_steps) == (15_014, 20_018)
    assert rows["losses"] == "l1 1, lpips 1, adversarial 0.75 x ratio of gradients from step 20,018"
    frozen = "encoder 86,583,552, discriminator 21,669,504, VGG16 and LPIPS 14,716,160"
    assert rows["frozen parameters"] == f"122,969,216, {frozen}"
    assert (recipe.autoencoder.tau, recipe.optim.ema, recipe.data.crop) == (0.8, 0.9978, "zoomed")
    assert rows["image as the discriminator sees it"].endswith("logits [B, 3920]")


@pytest.mark.parametrize(
    ("name", "lr", "discriminator_lr", "starts"),
    [("siglip2_so400m", 4e-4, 5e-5, (7, 8)), ("webssl_300m", 2e-4, 2e-5, (10, 11))],
)
def test_paper_b(name: str, lr: float, discriminator_lr: float, starts: tuple[int, int]) -> None:
    """Scale-RAE, table 7: virtual epochs of 1.28 million pictures, 2500 steps each."""
    recipe, rows = settings(name), explained(RECIPES / f"stage1/{name}.yaml")
    adversary = recipe.adversary
    assert adversary is not None
    assert (recipe.optim.lr, adversary.optim.lr) == (lr, discriminator_lr)
    assert (adversary.discriminator_start_steps, adversary.start_steps) == tuple(2500 * epoch for epoch in starts)
    assert rows["learning rate"] == f"up to {lr:g} at step 5,000, cosine to {lr / 10:g} at step 200,000"
    assert rows["losses"] == f"l1 1, lpips 1, gram 100, adversarial 10 from step {2500 * starts[1]:,}"
    assert recipe.autoencoder.tau == 0 and recipe.autoencoder.statistics == "none"
    assert [source.weight for source in recipe.data.mixture] == [39.3, 24.7, 9.0]
    assert rows["image as the discriminator sees it"].endswith("logits [B, 980]")


def test_variants_differ_by_what_they_are_named_after() -> None:
    base = settings("dinov2_base").model_dump()
    for name in ("no_noise", "upsampling", "512"):
        other = settings(f"dinov2_base_{name}").model_dump()
        different = {key for key in base if base[key] != other[key]} - {"run"}
        assert different == ({"autoencoder"} if name == "no_noise" else {"data", "held_out", "autoencoder", "train"})
    for name in ("dinov2_small", "dinov2_large", "siglip2_base", "mae_base"):
        other = settings(name).model_dump()
        assert {key for key in base if base[key] != other[key]} == {"run", "autoencoder"}
        assert {key for key, value in base["autoencoder"].items() if value != other["autoencoder"][key]} == {"encoder"}


def test_layer_sums_take_the_published_blocks() -> None:
    blocks = "12, 14, 16, 18, 20, 22, 24"
    assert explained(RECIPES / "stage1/dinov3_large_7_layers.yaml")["tokens"].endswith(f"mean of blocks {blocks} of 24")
    assert explained(RECIPES / "stage1/dinov3_large_1_layer.yaml")["tokens"].endswith("of block 24 of 24")
    assert explained(RECIPES / "stage1/dinov3_large_23_layers.yaml")["tokens"].endswith("blocks 2, 3, ..., 24 of 24")
    assert [source.weight for source in settings("dinov3_large_7_layers").data.mixture] == [1.0] * 4


def test_one_gpu_takes_as_many_steps_in_small_passes() -> None:
    for name in ("one_gpu_small", "one_gpu_base"):
        rows = explained(RECIPES / f"stage1/{name}.yaml")
        assert rows["steps"] == "40,036 of 256 pictures, in 8 passes of 32"
        assert rows["learning rate"] == explained(RECIPES / "stage1/dinov2_base.yaml")["learning rate"]
