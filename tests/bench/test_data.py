from __future__ import annotations

import pytest

from raekit.bench.data import DataTask, bench_data
from raekit.errors import UserError


def test_every_kind_is_measured() -> None:
    pytest.importorskip("aiohttp")
    task = DataTask(images=24, side=48, image_size=32, batch=8, step_seconds=0.02)
    reports = bench_data(task, precisions=("int8",))
    names = [report.name for report in reports]
    assert names == ["folder of JPEGs", "tar shards", "tar shards over HTTP", "cached latents, int8"]
    for report in reports:
        assert report.images_per_second > 0 and report.cpu_seconds > 0 and 0 <= report.data_wait <= 1
        assert dict(report.rows())["waiting"].endswith("could take 400 images/s")
    assert 196_608 < reports[-1].bytes_per_image < 201_000


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(UserError, match="--images: 10; give at least three batches of 32"):
        DataTask(images=10)
