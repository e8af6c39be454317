"""Pictures through a latent space: names, figures, what is kept from an earlier run, and what cannot be read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_data
import tiny_encoders
import tiny_generator
from raekit.autoencoder import artefact
from raekit.autoencoder.base import Autoencoder, load_autoencoder
from raekit.autoencoder.rae import RAE
from raekit.data.picture import read_square
from raekit.data.transforms import to_float
from raekit.errors import UserError
from raekit.image_grid import to_arrays
from raekit.metrics.reconstruction import psnr
from raekit.reconstruct import Picture, find_pictures, reconstruct, write_sheet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder, and eight pictures in two folders."""
    folder = tmp_path_factory.mktemp("reconstruct")
    tiny_generator.latent_space(folder / "autoencoder")
    tiny_data.pictures(folder / "pictures")
    (folder / "pictures" / "below").mkdir()
    for path in sorted((folder / "pictures").glob("blue*")):
        path.rename(folder / "pictures" / "below" / path.name)
    return folder


@pytest.fixture(scope="module")
def autoencoder(folder: Path) -> Autoencoder:
    return load_autoencoder(folder / "autoencoder", "cpu")


def names(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def times(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.rglob("*.png")}


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_folder_keeps_its_shape_and_every_picture_its_figure(
    folder: Path, autoencoder: Autoencoder, tmp_path: Path
) -> None:
    out, seen = tmp_path / "out", []
    pictures = find_pictures([folder / "pictures"], out)
    report = reconstruct(autoencoder, pictures, out, batch_size=3, progress=seen.append)
    assert len(pictures) == 8 and report.num_kept == 0 and not report.unreadable
    assert {"below/blue_circle.png", "red_square.png", "metrics.jsonl", "metrics.csv"} <= set(names(out))
    assert len(names(out)) == 10
    assert seen == [0, 3, 6, 8]
    # By hand: the picture, the network, the file.
    row = next(row for row in report.rows if row.output == "below/blue_circle.png")
    image = to_float(read_square(folder / "pictures/below/blue_circle.png", 16))[None]
    with torch.no_grad():
        redrawn = autoencoder(image)
    with Image.open(out / row.output) as written:
        assert (np.asarray(written) == to_arrays(redrawn)[0]).all()
    assert row.psnr == pytest.approx(psnr(redrawn, image).item(), abs=1e-4)
    assert report.mean_psnr == pytest.approx(sum(row.psnr or 0 for row in report.rows) / 8)
    table = list(csv.DictReader((out / "metrics.csv").open()))
    assert [entry["output"] for entry in table] == [row.output for row in report.rows]
    assert [float(entry["psnr"]) for entry in table] == [row.psnr for row in report.rows]


def test_the_batch_size_changes_no_figure(folder: Path, autoencoder: Autoencoder, tmp_path: Path) -> None:
    figures = []
    for size in (1, 8):
        out = tmp_path / str(size)
        report = reconstruct(autoencoder, find_pictures([folder / "pictures"], out), out, batch_size=size)
        figures.append([row.psnr for row in report.rows])
    assert figures[0] == pytest.approx(figures[1], abs=1e-4)


def test_a_second_run_makes_only_what_is_missing_or_changed(
    folder: Path, autoencoder: Autoencoder, tmp_path: Path
) -> None:
    sources, out = tiny_data.pictures(tmp_path / "pictures"), tmp_path / "out"
    pictures = find_pictures([sources], out)
    first = reconstruct(autoencoder, pictures, out)
    before = times(out)
    assert reconstruct(autoencoder, pictures, out).num_kept == 8
    assert times(out) == before

    (out / "red_circle.png").unlink()
    (out / "red_square.png").write_bytes(b"damaged")
    Image.new("RGB", (20, 20), "purple").save(sources / "blue_circle.png")
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"picture": "cut sho')
    again = reconstruct(autoencoder, pictures, out)
    remade = {name for name, time in times(out).items() if time != before[name]}
    assert again.num_kept == 5 and remade == {"red_circle.png", "red_square.png", "blue_circle.png"}
    assert len(lines(out)) == 8
    figures = {row.output: row.psnr for row in first.rows}
    assert all(row.psnr == figures[row.output] for row in again.rows if row.output != "blue_circle.png")

    assert reconstruct(autoencoder, pictures, out, is_overwriting=True).num_kept == 0
    assert not set(times(out).values()) & set(before.values())


def test_an_interrupted_run_goes_on(
    folder: Path, autoencoder: Autoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    pictures = find_pictures([folder / "pictures"], out)

    def stop(num_done: int) -> None:
        if num_done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconstruct(autoencoder, pictures, out, batch_size=2, progress=stop)
    assert len(lines(out)) == 4
    assert reconstruct(autoencoder, pictures, out).num_kept == 4
    assert len(lines(out)) == 8


def test_other_pictures_join_the_same_folder(folder: Path, autoencoder: Autoencoder, tmp_path: Path) -> None:
    first, second = (folder / "pictures" / f"red_{shape}.png" for shape in ("circle", "square"))
    for path in (first, second):
        reconstruct(autoencoder, find_pictures([path], tmp_path / "out"), tmp_path / "out")
    assert {row["output"] for row in lines(tmp_path / "out")} == {"red_circle.png", "red_square.png"}


def test_another_models_folder_is_refused_unless_overwritten(
    folder: Path, autoencoder: Autoencoder, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    pictures = find_pictures([folder / "pictures"], out)
    reconstruct(autoencoder, pictures, out)
    other = tiny_generator.latent_space(tmp_path / "other", seed=3)
    with pytest.raises(
        UserError, match=f"another model .{autoencoder.checksum[:12]}, this one is {other.checksum[:12]}"
    ):
        reconstruct(other, pictures, out)
    reconstruct(other, pictures, out, is_overwriting=True)
    assert {row["model"] for row in lines(out)} == {other.checksum}


def test_unreadable_pictures_are_left_out_and_listed(folder: Path, autoencoder: Autoencoder, tmp_path: Path) -> None:
    sources, out = tmp_path / "pictures", tmp_path / "out"
    sources.mkdir()
    (sources / "empty.png").write_bytes(b"")
    (sources / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (sources / "notes.txt").write_text("not meant")
    Image.new("RGBA", (40, 10), (255, 0, 0, 99)).save(sources / "wide.png")
    Image.new("CMYK", (1, 1)).save(sources / "dot.jpg")
    report = reconstruct(autoencoder, find_pictures([sources], out), out, batch_size=2)
    assert [Path(row.picture).name for row in report.unreadable] == ["drawing.svg", "empty.png"]
    assert "vector drawing" in report.unreadable[0].error
    assert [row.output for row in report.done] == ["dot.png", "wide.png"]
    errors = {entry["picture"]: entry["error"] for entry in csv.DictReader((out / "metrics.csv").open())}
    assert "is empty" in errors[str(sources / "empty.png")] and not errors[str(sources / "wide.png")]
    assert reconstruct(autoencoder, find_pictures([sources], out), out).num_kept == 2


def test_nothing_readable_is_an_error(autoencoder: Autoencoder, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(UserError, match="none of 1 can be read, e.g. .*bad.png: is empty"):
        reconstruct(autoencoder, find_pictures([tmp_path / "bad.png"], tmp_path / "out"), tmp_path / "out")


def test_names_never_meet(tmp_path: Path) -> None:
    for name in ("a/x.png", "a/x.jpg", "a/X.webp", "a/sheet.png", "b/x.png", "out/a/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_pictures([tmp_path / "a", tmp_path / "b", tmp_path / "a" / "x.png"], tmp_path / "out")
    assert [picture.output for picture in found] == ["a/X.png", "a/sheet.png", "a/x.jpg.png", "a/x.png.png", "b/x.png"]
    assert [p.output for p in find_pictures([tmp_path / "a"], tmp_path / "out")][1] == "sheet.png.png"
    below = find_pictures([tmp_path], tmp_path / "out")
    assert [picture.output for picture in below if "out" in picture.output] == [], "its own output is no input"
    # A picture by itself goes to the top, wherever it lies.
    assert find_pictures([tmp_path / "b" / "x.png"], tmp_path) == [(tmp_path / "b" / "x.png", "x.png")]


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path, autoencoder: Autoencoder) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").touch()
    with pytest.raises(UserError, match=r"images: '.*absent.png': no such file or folder"):
        find_pictures([tmp_path / "absent.png"], tmp_path / "out")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"images: no \.webp, .* files below '.*none'"):
        find_pictures([tmp_path / "none"], tmp_path / "out")
    with pytest.raises(UserError, match=r"out '.*a': is the folder of the pictures; name another one"):
        find_pictures([tmp_path / "a"], tmp_path / "a")
    with pytest.raises(UserError, match=r"out '.*a': x.png there is one of the pictures; name another folder"):
        find_pictures([tmp_path / "a" / "x.png"], tmp_path / "a")
    with pytest.raises(UserError, match=r"out '.*x.png': .*; name a directory that can be written to"):
        reconstruct(autoencoder, [Picture(tmp_path / "a" / "x.png", "x.png")], tmp_path / "a" / "x.png")
    with pytest.raises(UserError, match="batch_size: 0"):
        reconstruct(autoencoder, [], tmp_path / "out", batch_size=0)


def test_the_sheet_has_a_row_of_three_per_picture(folder: Path, autoencoder: Autoencoder, tmp_path: Path) -> None:
    report = reconstruct(autoencoder, find_pictures([folder / "pictures" / "below"], tmp_path), tmp_path)
    with Image.open(write_sheet(report, tmp_path, 16)) as sheet:
        assert 3 * 128 < sheet.width < 3 * 140 and 2 * 128 < sheet.height < 2 * 160


def test_an_artefact_of_another_encoder_is_refused(tmp_path: Path) -> None:
    tiny_generator.latent_space(tmp_path / "autoencoder")
    tiny_encoders.save("nano", tmp_path / "autoencoder_encoder", seed=7)
    with pytest.raises(UserError, match=r"made with encoder nano .*, found nano .*; give the encoder it was made with"):
        load_autoencoder(tmp_path / "autoencoder")


def test_an_artefact_of_another_latent_grid_is_refused(tmp_path: Path) -> None:
    """A checksum only says that nothing changed since it was written; this was written wrong."""
    tiny_generator.latent_space(tmp_path / "autoencoder")
    identity, tensors = artefact.read(tmp_path / "autoencoder")
    identity.pop("checksum")
    wrong = {"statistics.mean": torch.zeros(32, 5, 5), "statistics.var": torch.ones(32, 5, 5)}
    artefact.write(tmp_path / "autoencoder", identity, {**tensors, **wrong})
    with pytest.raises(UserError, match=r"statistics: \[32, 5, 5\] do not fit the latent grid \[32, 4, 4\]"):
        RAE.load(tmp_path / "autoencoder")
