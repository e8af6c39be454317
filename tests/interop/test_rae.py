"""The official collection: files by their folders' names, whatever their capitals."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import tiny_encoders
import tiny_published
from raekit.autoencoder.decoder import ViTDecoder
from raekit.autoencoder.rae import RAE
from raekit.encoders.dinov2 import DINOv2
from raekit.errors import UserError
from raekit.interop.convert import convert, detect
from raekit.interop.files import read_tensors
from raekit.interop.format import ConvertConfig, Source
from raekit.interop.rae import ENCODERS_OF, RAECollection, place_of
from tiny_published import same

NAME = "dinov2/wReg_base/ViTXL_n08"
HEADS = tiny_published.HEADS


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """The collection's folders, with the capitals as they are published."""
    root = tmp_path / "RAE-collections"
    tiny_published.save_decoder(root / "decoders" / NAME, with_config=False, with_statistics=False)
    tiny_published.save_decoder(root / "decoders/mae/base_p16/ViTXL_n08", with_config=False, with_statistics=False)
    for place in ("dinov2/wReg_base/imagenet1k", "mae/base_p16/ImageNet1k"):
        (root / "stats" / place).mkdir(parents=True)
        torch.save(tiny_published.statistics(), root / "stats" / place / "stat.pt")
    return root


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the hub, a tiny DINOv2."""
    saved = str(tiny_encoders.save("dinov2", tmp_path / "hub"))
    monkeypatch.setattr(DINOv2.Config, "hub_id", property(lambda self: saved))


@pytest.mark.parametrize("file", ["", "model.pt"])
def test_a_decoder_in_a_mirror_finds_its_encoder_and_statistics(mirror: Path, hub, tmp_path: Path, file: str) -> None:
    source = mirror / "decoders" / NAME / file
    rows = dict(convert(source, tmp_path / "ours", ConvertConfig(heads=HEADS)))
    assert rows["from"].endswith("(rae)")
    assert rows["encoder"].endswith("56 px, 4 x 4 tokens (by the folder of its decoder)")
    assert rows["statistics"] == str(mirror / "stats/dinov2/wReg_base/imagenet1k/stat.pt")
    assert rows["latent"] == "[32, 4, 4], statistics per_position, tau 0.8"
    convert(tmp_path / "ours", tmp_path / "again")
    assert same(read_tensors(tmp_path / "again" / "model.pt"), tiny_published.decoder())
    assert same(read_tensors(tmp_path / "again" / "stat.pt"), tiny_published.statistics())


def test_a_decoder_by_its_name(mirror: Path, hub, tmp_path: Path) -> None:
    config = ConvertConfig(heads=HEADS, decoder=NAME.upper())
    assert dict(convert(mirror, tmp_path / "ours", config))["from"] == f"{mirror} (rae)"
    assert RAE.load(tmp_path / "ours").config.statistics == "per_position"


def test_names_that_are_not_there(mirror: Path, tmp_path: Path) -> None:
    known = r"takes one of dinov2/wReg_base/ViTXL_n08, mae/base_p16/ViTXL_n08"
    for config, reason in (
        (ConvertConfig(), "no decoder was named"),
        (ConvertConfig(decoder="x/y"), "no decoder 'x/y'"),
    ):
        with pytest.raises(UserError, match=f"{reason}; --decoder {known}"):
            convert(mirror, tmp_path / "ours", config)
    with pytest.raises(UserError, match="--decoder names a folder below decoders/"):
        convert(mirror / "decoders" / NAME, tmp_path / "ours", ConvertConfig(decoder=NAME))
    assert not (tmp_path / "ours").exists()


def test_missing_statistics_are_not_passed_over(mirror: Path, hub, tmp_path: Path) -> None:
    shutil.rmtree(mirror / "stats" / "dinov2")
    with pytest.raises(UserError, match=r"no stats/dinov2/wreg_base/imagenet1k/stat.pt in .*--statistics"):
        convert(mirror / "decoders" / NAME, tmp_path / "ours", ConvertConfig(heads=HEADS))
    config = ConvertConfig(heads=HEADS, statistics="none")
    assert dict(convert(mirror / "decoders" / NAME, tmp_path / "ours", config))["latent"].endswith("none, tau 0.8")


def test_statistics_depend_on_the_resolution() -> None:
    place = place_of(Path("/a/decoders/dinov2/wReg_base/ViTXL_n08_i512/model.pt"))
    assert place is not None and (place.root, place.encoder) == (Path("/a"), "dinov2/wreg_base")
    assert (place.data_of(256), place.data_of(512)) == ("imagenet1k", "imagenet1k_512")
    assert place_of(Path("/a/decoders/model.pt")) is None and place_of(Path("/a/model.pt")) is None


@pytest.mark.parametrize(
    ("folder", "grid", "encoder"),
    [
        ("dinov2/wReg_small", 16, {"name": "dinov2", "size": "small", "input_size": 224}),
        ("dinov2/wReg_base", 32, {"name": "dinov2", "size": "base", "input_size": 448}),
        ("mae/base_p16", 16, {"name": "mae", "size": "base", "input_size": 256}),
        ("siglip2/base_p16_i256", 16, {"name": "siglip2", "size": "base", "input_size": 256}),
    ],
)
def test_encoders_of_the_collection(folder: str, grid: int, encoder: dict[str, object]) -> None:
    width = ENCODERS_OF[folder.lower()].width
    tiny = ViTDecoder.Config(width=16, depth=1, heads=2, mlp_width=16, patch_size=1)
    source = Source(Path("decoders", folder, "ViTXL_n08", "model.pt"))
    found, _ = RAECollection(RAECollection.Config()).encoder_of(source, ViTDecoder(tiny, width, grid))
    assert {key: found.model_dump()[key] for key in encoder} == encoder


@pytest.mark.parametrize(
    ("width", "sentence"), [(768, "dinov2 base, mae base, siglip2 base"), (32, "no published one")]
)
def test_an_encoder_that_the_width_does_not_show(width: int, sentence: str) -> None:
    tiny = ViTDecoder.Config(width=16, depth=1, heads=2, mlp_width=16, patch_size=1)
    rae = RAECollection(RAECollection.Config())
    with pytest.raises(UserError, match=f"{width} channels, which {sentence} has; name its encoder with --encoder"):
        rae.encoder_of(Source(Path("model.pt")), ViTDecoder(tiny, width, 4))
    found, origin = rae.encoder_of(Source(Path("model.pt")), ViTDecoder(tiny, 384, 16))
    assert found.model_dump()["size"] == "small" and origin == "the only published one with 384 channels"


def test_an_altered_position_table_is_kept(mirror: Path, hub, tmp_path: Path) -> None:
    convert(mirror, tmp_path / "ours", ConvertConfig(heads=HEADS, decoder=NAME))
    assert torch.equal(RAE.load(tmp_path / "ours").decoder.position, tiny_published.decoder()["decoder_pos_embed"])


def test_it_is_recognised_without_another_layouts_settings(mirror: Path, tmp_path: Path) -> None:
    assert detect(Source(mirror)) == detect(Source(mirror / "decoders" / NAME)) == "rae"
    assert detect(Source(tiny_published.save_decoder(tmp_path / "scale_rae"))) != "rae"
