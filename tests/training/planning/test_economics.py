"""The arithmetic of a cache, and what ``raekit explain`` makes of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

import tiny_recipes
from raekit.data import DATASETS
from raekit.data.sample import Endless
from raekit.training.planning.economics import Economics, economics_of, rows
from raekit.training.planning.machines import Machine

PLAIN = Economics(
    encode={"encoder": 200 * 10**9, "language model": 200 * 10**9},
    total=10**12,
    latent_bytes={"fp32": 100_000, "bf16": 50_000, "int8": 26_000},
    text_bytes=0,
    tflops=400,
    rests_on="assumed",
    num_pictures=1_000_000,
    epochs=80.0,
)


def test_a_cache_pays_when_writing_and_reading_have_cost_less_than_encoding() -> None:
    """Encoding takes 1 ms at 400 TFLOP/s, a latent 0.1 ms at 1 GB/s: (1 + 0.1) / (1 - 0.1) epochs."""
    assert PLAIN.share == pytest.approx(0.4)
    assert PLAIN.break_even("fp32") == pytest.approx(1.1 / 0.9)
    epochs, cached, plain = PLAIN.break_even("fp32"), 1.0 + 0.1, 0.0
    cached, plain = cached + epochs * 0.1, plain + epochs * 1.0
    assert cached == pytest.approx(plain)
    assert math.isinf(replace(PLAIN, text_bytes=950_000).break_even("fp32"))


def test_the_advice_follows_the_figures() -> None:
    def advice(economics: Economics, precision: str = "fp32", is_cached: bool = False) -> str:
        return dict(economics.rows(precision, is_cached))["advice"]

    assert advice(PLAIN) == "set cache: it saves 40% of a step's operations"
    assert advice(PLAIN, is_cached=True).startswith("the cache is right")
    assert "the run is too short" in advice(replace(PLAIN, epochs=1.2))
    assert "it is 4.0% of the work" in advice(replace(PLAIN, total=10**13))
    slow = replace(PLAIN, latent_bytes={"fp32": 2_000_000, "bf16": 1_000_000, "int8": 520_000})
    assert "takes longer than computing it; cache_precision: int8 would pay" in advice(slow)
    seconds = (slow.latent_bytes["fp32"] + slow.text_bytes) / 1e9
    assert slow.paying_tflops("fp32") == pytest.approx(sum(slow.encode.values()) / 1e12 / seconds) and seconds > 0
    assert f"reaches less than {slow.paying_tflops('fp32'):.3g} TFLOP/s had better read them" in advice(slow)
    assert advice(replace(PLAIN, obstacle="it changes")) == "encode at every step: it changes"
    assert "100 GB" in dict(PLAIN.rows("fp32", False))["cache size"]


def test_a_recipe_is_counted(tmp_path: Path) -> None:
    values = tiny_recipes.stage2(tmp_path, are_queries_trained=False)
    config = tiny_recipes.resolve(values, images_per_epoch=8)
    found = economics_of(config)
    assert found is not None and found.obstacle is None and found.epochs == 4.0
    channels, height, width = 32, 4, 4
    assert found.latent_bytes["int8"] == channels * height * width + 4 * channels
    assert found.encode.keys() == {"encoder", "language model"} and 0 < found.share < 1
    assert found.text_bytes == 16 * 32 * 2
    told = dict(rows(config))
    assert "for 8 pictures" in told["cache size"] and "this run takes 4" in told["cache pays"]
    assert economics_of(config.model_copy(update={"cache": tmp_path})) == found


def test_encoding_is_reckoned_with_the_gpu_that_is_asked_for(tmp_path: Path) -> None:
    config = tiny_recipes.resolve(tiny_recipes.stage2(tmp_path, are_queries_trained=False), precision="bf16")
    usual, slow = economics_of(config), economics_of(config, Machine("rtx4090", mfu=0.5))
    assert usual is not None and slow is not None
    assert usual.tflops == pytest.approx(0.4 * 989) and slow.tflops == pytest.approx(0.5 * 165.2)
    told = dict(rows(config))["cache pays"]
    assert "encoding at 395.6 TFLOP/s, assumed: 40% of the peak of h100 in bf16, as no --gpu is named" in told
    told = dict(rows(config, Machine("rtx4090", mfu=0.5)))["cache pays"]
    assert "encoding at 82.6 TFLOP/s, assumed: 50% of the peak of rtx4090 in bf16; disk" in told
    seconds = {each.tflops: replace(each, latent_bytes={"fp32": 1}, text_bytes=0) for each in (usual, slow)}
    assert seconds[slow.tflops].break_even("fp32") < seconds[usual.tflops].break_even("fp32")


@pytest.mark.parametrize("name", DATASETS)
def test_a_source_that_never_ends_is_told_by_its_kind(name: str, tmp_path: Path) -> None:
    is_endless = name in ("scenes", "rendered_text", "huggingface_stream")
    assert issubclass(DATASETS[name], Endless) is is_endless
    if name == "rendered_text":
        values = tiny_recipes.stage2(tmp_path, are_queries_trained=False)
        values["data"] = {"image_size": 32, "mixture": [{"name": name}]}
        advice = dict(rows(tiny_recipes.resolve(values)))["advice"]
        assert advice == "encode at every step: source rendered_text never gives the same picture twice"


def test_what_keeps_a_recipe_from_a_cache_is_said(tmp_path: Path) -> None:
    values = tiny_recipes.stage2(tmp_path)
    assert "queries are trained" in dict(rows(tiny_recipes.resolve(values)))["advice"]
    values["data"] = {**values["data"], "mirror": True}
    assert "data.mirror changes the pictures" in dict(rows(tiny_recipes.resolve(values)))["advice"]
