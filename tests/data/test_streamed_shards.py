"""Streams of shards: from a web server too, exact in the middle of a shard, the same on any number of processes."""

from __future__ import annotations

import json
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import pytest
import torch

from raekit.data.dataset import DataConfig, build_dataset
from raekit.data.loader import Loader
from raekit.data.quarantine import Quarantine
from raekit.data.remote import RemoteFiles
from raekit.data.sample import BadSample
from raekit.data.streamed_shards import StreamedShards
from raekit.errors import UserError


@pytest.fixture
def shards(write_shard, tmp_path) -> str:
    """Four shards of five plain pictures, numbered through."""
    for number in range(4):
        write_shard(f"web-{number}.tar", range(5 * number, 5 * number + 5))
    return f"{tmp_path}/web-{{0..3}}.tar"


@pytest.fixture
def server(tmp_path):
    """A plain web server of the test's folder, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, code="-", size="-") -> None:
            asked.append(f"{self.command} {self.path}")

        def log_message(self, format, *args) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", asked
        http.shutdown()


def source(*shards: str, **settings: object) -> StreamedShards:
    return StreamedShards(StreamedShards.Config(shards=shards, **settings))


def dataset(shards: str, **settings: object):
    mixture = [{"name": "streamed_shards", "shards": [shards], "shuffle_buffer": 8, **settings}]
    return build_dataset(DataConfig.model_validate({"mixture": mixture, "image_size": 8}), seed=3)


def captions(loader: Loader, batches: int) -> list[str]:
    return [caption for batch in islice(loader, batches) for caption in batch.captions]


def test_any_sample_by_index(shards: str) -> None:
    stream = source(shards)
    assert len(stream) == 20
    for index in (19, 0, 7):
        sample = stream[index]
        assert sample.image[0, 0].tolist() == [index] * 3
        assert (sample.caption, sample.key) == (f"number {index}", f"web-{index // 5}/s{index:03d}")


def test_the_stream_goes_on_exactly_in_the_middle_of_a_shard(shards: str) -> None:
    whole = captions(Loader(dataset(shards), 3), 14)
    assert sorted(whole[:20]) == sorted(f"number {n}" for n in range(20)) != whole[:20]
    assert captions(Loader(dataset(shards), 3, start_position=12), 10) == whole[12:42]


@pytest.mark.parametrize("lanes", [1, 2])
def test_positions_hold_the_same_samples_on_any_number_of_processes(shards: str, lanes: int) -> None:
    alone = captions(Loader(dataset(shards, lanes=lanes, lane_run=2), 4), 7)
    shares = [Loader(dataset(shards, lanes=lanes, lane_run=2), 4, rank=rank, world=2) for rank in range(2)]
    parts = [[batch.captions for batch in islice(share, 7)] for share in shares]
    assert [caption for pair in zip(*parts, strict=True) for part in pair for caption in part] == alone


def test_each_process_fetches_only_the_shards_of_its_lanes(shards: str, server, tmp_path: Path) -> None:
    address, asked = server
    (tmp_path / "sizes.json").write_text(json.dumps({f"web-{n}.tar": 5 for n in range(4)}))
    fetched = []
    for rank in range(2):
        asked.clear()
        remote = dataset(f"{address}/web-{{0..3}}.tar", lanes=2, lane_run=2, cache=str(tmp_path / f"rank{rank}"))
        list(Loader(remote, 4, rank=rank, world=2, stop=20))
        fetched.append({line.split("/")[-1] for line in asked if line.startswith("GET") and line.endswith(".tar")})
    assert [len(shards) for shards in fetched] == [2, 2] and not fetched[0] & fetched[1]


def test_over_http_the_same_samples_come_and_nothing_is_fetched_twice(shards: str, server, tmp_path: Path) -> None:
    address, asked = server
    remote = dataset(f"{address}/web-{{0..3}}.tar", cache=str(tmp_path / "copies"))
    assert captions(Loader(remote, 3), 14) == captions(Loader(dataset(shards), 3), 14)
    assert sum(line.startswith("GET") and line.endswith(".tar") for line in asked) == 4
    asked.clear()
    again = dataset(f"{address}/web-{{0..3}}.tar", cache=str(tmp_path / "copies"))
    captions(Loader(again, 3), 7)
    assert not any(line.endswith(".tar") for line in asked)


def test_a_shard_that_is_dropped_while_it_is_read_stays_readable(shards: str, server, tmp_path: Path) -> None:
    address, _ = server
    remote = source(f"{address}/web-{{0..1}}.tar", cache=str(tmp_path / "copies"), cache_gigabytes=1e-9)
    assert [remote[index].caption for index in (0, 9, 1, 8)] == [f"number {n}" for n in (0, 9, 1, 8)]
    assert len(list((tmp_path / "copies").glob("*.tar"))) == 1


def test_a_broken_shard_is_passed_over_as_a_whole_and_noted_once(shards: str, tmp_path: Path) -> None:
    (tmp_path / "sizes.json").write_text(json.dumps({f"web-{n}.tar": 5 for n in range(4)}))
    path = tmp_path / "web-1.tar"
    path.write_bytes(path.read_bytes()[:3000])
    loader = Loader(dataset(shards), 4, stop=20)
    loader.quarantine = Quarantine(tmp_path / "run" / "quarantine.jsonl")
    found = [caption for batch in loader for caption in batch.captions]
    good = {f"number {n}" for n in range(20) if n // 5 != 1}
    assert set(found) == good and len(found) == 20
    (row,) = [json.loads(line) for line in loader.quarantine.path.read_text().splitlines()]
    assert (row["source"], row["key"]) == ("streamed_shards", "web-1") and "cut short" in row["reason"]


def test_samples_without_a_picture_are_bad_samples(tmp_path: Path, write_shard) -> None:
    stream = source(str(write_shard("a.tar", range(3), broken=(1,))), image="webp")
    with pytest.raises(BadSample, match=r"a\.tar:s000: holds no picture, but \.png, \.json"):
        stream[0]


def test_mistakes_are_one_sentence(shards: str, server, tmp_path: Path) -> None:
    address, _ = server
    with pytest.raises(UserError, match="lanes: 5, but there are only 4 shards"):
        source(shards, lanes=5)
    with pytest.raises(UserError, match=r"web-9\.tar: no such file on the server"):
        source(f"{address}/web-9.tar", cache=str(tmp_path / "copies"))
    with pytest.raises(UserError, match="127.0.0.1:9/.* cannot be fetched"):
        source("http://127.0.0.1:9/a.tar", cache=str(tmp_path / "copies"), retry_minutes=0)
    (tmp_path / "sizes.json").write_text(json.dumps({f"web-{n}.tar": 6 for n in range(4)}))
    with pytest.raises(UserError, match="holds 5 samples, not 6 as stated"):
        source(shards)[0]
    (tmp_path / "sizes.json").write_text("[]")
    with pytest.raises(UserError, match="no table of samples by shard"):
        source(shards)


def test_a_copy_broken_on_its_way_is_fetched_again(shards: str, server, tmp_path: Path) -> None:
    address, _ = server
    remote = source(f"{address}/web-{{0..3}}.tar", cache=str(tmp_path / "copies"))
    copy = RemoteFiles(tmp_path / "copies", 1).place_of(f"{address}/web-2.tar")
    copy.write_bytes(b"x" * 2000)
    assert remote[11].caption == "number 11"


def test_an_emptied_copy_whose_count_is_not_noted_is_fetched_again(shards: str, server, tmp_path: Path) -> None:
    address, _ = server
    source(f"{address}/web-{{0..3}}.tar", cache=str(tmp_path / "copies"))
    copy = RemoteFiles(tmp_path / "copies", 1).place_of(f"{address}/web-2.tar")
    copy.write_bytes(b"")
    copy.with_name(copy.name + ".samples").unlink()
    remote = source(f"{address}/web-{{0..3}}.tar", cache=str(tmp_path / "copies"))
    assert (len(remote), remote[11].caption, dict(remote.left_out)) == (20, "number 11", {})


def test_a_shard_that_is_broken_where_it_comes_from_and_not_counted_is_passed_over(
    shards: str, server, tmp_path: Path
) -> None:
    address, asked = server
    path = tmp_path / "web-1.tar"
    path.write_bytes(path.read_bytes()[:3000])
    for place in (f"{address}/web-{{0..3}}.tar", shards):
        broken = dataset(place, cache=str(tmp_path / "copies"), lanes=4)
        found = [caption for batch in Loader(broken, 5, stop=15) for caption in batch.captions]
        assert sorted(found) == sorted(f"number {n}" for n in range(20) if n // 5 != 1)
        (left_out,) = broken.left_out
        assert (left_out.source, left_out.key) == ("streamed_shards", "web-1") and "cut short" in left_out.reason
    # Once, and once more; not again when its turn comes.
    assert sum(line.startswith("GET") and line.endswith("web-1.tar") for line in asked) == 2
    with pytest.raises(UserError, match="hold no samples .*cut short"):
        source(str(path))


def test_shards_that_must_be_counted_are_told(shards: str, server, tmp_path: Path, caplog) -> None:
    address, _ = server
    with caplog.at_level("WARNING"):
        source(f"{address}/web-{{0..3}}.tar", cache=str(tmp_path / "copies"))
    assert "4 of 4 shards have no stated number of samples" in caplog.text and '{"web-0.tar": 10000' in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING"):
        source(f"{address}/web-{{0..3}}.tar", cache=str(tmp_path / "copies"))
        source(shards)
    assert not caplog.text


def test_signed_addresses_find_what_is_stated_beside_them(shards: str, server, tmp_path: Path) -> None:
    address, asked = server
    (tmp_path / "sizes.json").write_text(json.dumps({f"web-{n}.tar": 5 for n in range(4)}))
    signed = source(f"{address}/web-{{0..3}}.tar?signature=1/2", cache=str(tmp_path / "copies"))
    assert not any(".tar" in line for line in asked)
    assert signed[19].key == "web-3/s019"


def test_the_fingerprint_follows_names_counts_and_content(shards: str, server, tmp_path: Path, write_shard) -> None:
    address, _ = server
    first = source(shards).fingerprint()
    assert source(shards, lanes=2).fingerprint() == first
    write_shard("web-3.tar", range(6))
    assert source(shards).fingerprint() != first
    for folder, numbers in (("cats", range(3)), ("cars", range(10, 13))):
        (tmp_path / folder).mkdir()
        write_shard(f"{folder}/000.tar", numbers)
    own = {folder: source(f"{tmp_path}/{folder}/000.tar").fingerprint() for folder in ("cats", "cars")}
    far = {
        folder: source(f"{address}/{folder}/000.tar", cache=str(tmp_path / "copies")).fingerprint()
        for folder in ("cats", "cars")
    }
    assert len({*own.values(), *far.values()}) == 4
    (tmp_path / "cats").rename(tmp_path / "moved")
    assert source(f"{tmp_path}/moved/000.tar").fingerprint() == own["cats"]


def test_the_order_has_another_fingerprint_once_a_shard_is_added(shards: str, tmp_path: Path, write_shard) -> None:
    grown = f"{tmp_path}/web-*.tar"
    first = dataset(grown).mixture.fingerprint()
    assert dataset(shards).mixture.fingerprint() == first != dataset(shards, lanes=2).mixture.fingerprint()
    assert dataset(shards).with_seed(4).mixture.fingerprint() != first
    write_shard("web-4.tar", range(5))
    assert dataset(grown).mixture.fingerprint() != first


def test_pixels_are_those_of_a_source_read_at_random(shards: str, tmp_path: Path) -> None:
    settings = {"mixture": [{"name": "shards", "path": tmp_path}], "image_size": 8, "shuffle": False}
    straight = build_dataset(DataConfig.model_validate(settings))
    settings["mixture"] = [{"name": "streamed_shards", "shards": [shards]}]
    streamed = build_dataset(DataConfig.model_validate(settings))
    for position in range(20):
        assert torch.equal(torch.from_numpy(straight[position].image), torch.from_numpy(streamed[position].image))


FAILING_DISK = Path("/proc/self/mem")
"""A file whose first byte cannot be read: the system answers as for a disk that fails (EIO)."""


def test_a_disk_that_fails_is_read_again_and_its_shard_is_not_passed_over(
    shards: str, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "sizes.json").write_text(json.dumps({f"web-{n}.tar": 5 for n in range(4)}))
    tar, whole = tmp_path / "web-1.tar", tmp_path / "whole.tar"
    tar.rename(whole)
    tar.symlink_to(FAILING_DISK)
    with pytest.raises(UserError, match=r"web-1\.tar: cannot be read .*Input/output error.*see to the disk"):
        source(shards, retry_minutes=0)[7]
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:  # it is well again
            tar.unlink()
            whole.rename(tar)

    monkeypatch.setattr("raekit.data.remote.time.sleep", pause)
    assert source(shards)[7].caption == "number 7" and pauses == [1, 2]


def test_a_disk_that_fails_in_the_midst_of_an_open_shard_stops_the_run(shards: str, monkeypatch) -> None:
    stream = source(shards, retry_minutes=0)
    assert stream[7].caption == "number 7"
    with FAILING_DISK.open("rb") as failing:
        monkeypatch.setattr(stream._open.get(1), "_file", failing.fileno())
        with pytest.raises(UserError, match=r"web-1\.tar: cannot be read .*see to the disk"):
            stream[8]


def test_a_shard_that_is_replaced_on_its_server_is_told_once(
    shards: str, server, tmp_path: Path, write_shard, caplog
) -> None:
    address, _ = server
    settings = {"cache": str(tmp_path / "copies"), "cache_gigabytes": 1e-9, "shards_ahead": 1}
    stream = source(f"{address}/web-{{0..1}}.tar", **settings)
    assert [stream[index].caption for index in (9, 0)] == ["number 9", "number 0"]  # each fetched twice by now
    assert "was replaced" not in caplog.text
    write_shard("web-0.tar", range(10, 15))
    os.utime(tmp_path / "web-0.tar", (1e9, 1e9))
    again = source(f"{address}/web-{{0..1}}.tar", **settings)
    assert [again[index].caption for index in (9, 0)] == ["number 9", "number 10"]
    (line,) = [record.message for record in caplog.records if "was replaced" in record.message]
    assert "web-0.tar" in line and "give changed shards another name" in line
