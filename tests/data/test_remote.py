from __future__ import annotations

import errno
import fcntl
import os
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from raekit.data import remote
from raekit.data.remote import RemoteFiles, expand_addresses, identity_of, read_if_there
from raekit.errors import UserError

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def bucket():
    """Five files of 1000 bytes in fsspec's file system in memory."""
    files = fsspec.filesystem("memory")
    for number in range(5):
        files.pipe(f"/bucket/web-{number:03d}.tar", bytes([number]) * 1000)
    yield files
    files.rm("/bucket", recursive=True)


def test_braces_and_wildcards_of_every_kind(bucket, tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    found = expand_addresses(["memory://bucket/web-{001..002}.tar", "memory://bucket/*3.tar", f"{tmp_path}/*.tar"])
    assert found == [
        "memory://bucket/web-001.tar",
        "memory://bucket/web-002.tar",
        "memory:///bucket/web-003.tar",
        str(tmp_path / "a.tar"),
    ]
    with pytest.raises(UserError, match="nothing matches; web servers seldom list files"):
        expand_addresses(["memory://bucket/none-*.tar"])


def test_a_copy_is_fetched_once(bucket, tmp_path: Path) -> None:
    files = RemoteFiles(tmp_path, 1)
    path = files.fetch("memory://bucket/web-001.tar")
    assert path.read_bytes() == b"\1" * 1000
    bucket.pipe("/bucket/web-001.tar", b"changed")
    assert files.fetch("memory://bucket/web-001.tar") == path and path.stat().st_size == 1000
    files.forget("memory://bucket/web-001.tar")
    assert files.fetch("memory://bucket/web-001.tar").read_bytes() == b"changed"
    assert files.fetch(str(path)) == path


def test_the_folder_keeps_to_its_size_and_drops_the_oldest(bucket, tmp_path: Path) -> None:
    files = RemoteFiles(tmp_path, 2.5e-6)
    paths = [files.fetch(f"memory://bucket/web-{number:03d}.tar") for number in (0, 1)]
    files.fetch("memory://bucket/web-000.tar")
    paths.append(files.fetch("memory://bucket/web-002.tar"))
    assert [path.is_file() for path in paths] == [True, False, True]
    assert not list(tmp_path.glob(".*"))


def test_a_missing_file_and_a_dead_server_are_one_sentence(bucket, tmp_path: Path, monkeypatch) -> None:
    files = RemoteFiles(tmp_path, 1)
    with pytest.raises(UserError, match=r"web-009\.tar: no such file on the server"):
        files.fetch("memory://bucket/web-009.tar")
    monkeypatch.setattr(remote, "FIRST_PAUSE_SECONDS", 0.01)
    attempts: list[str] = []

    def refuse(self, place, local):
        attempts.append(place)
        raise ConnectionRefusedError("connection refused")

    monkeypatch.setattr(type(bucket), "get_file", refuse)
    with pytest.raises(UserError, match="cannot be fetched .connection refused"):
        RemoteFiles(tmp_path, 1, retry_seconds=0.05).fetch("memory://bucket/web-001.tar")
    assert len(attempts) > 2 and not list(tmp_path.glob(".*.part"))


def failing(bucket, monkeypatch, errors: list[Exception]) -> None:
    """The next fetches end with these errors; those after them are as they were."""
    real = type(bucket).get_file

    def get_file(self, place, local):
        if errors:
            raise errors.pop(0)
        real(self, place, local)

    monkeypatch.setattr(type(bucket), "get_file", get_file)


def test_a_server_that_fails_for_a_while_is_asked_again_after_growing_waits(
    bucket, tmp_path: Path, monkeypatch, caplog
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", waits.append)
    failing(bucket, monkeypatch, [ConnectionResetError("reset")] * 8)
    with caplog.at_level("WARNING"):
        assert RemoteFiles(tmp_path, 1).fetch("memory://bucket/web-001.tar").is_file()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert len(caplog.records) == 8 and "web-001.tar: reset; asked again in 1 s" in caplog.text


def test_a_full_disk_is_told_at_once_and_is_no_fault_of_the_address(bucket, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: pytest.fail("asked again"))
    failing(bucket, monkeypatch, [OSError(errno.ENOSPC, "No space left on device")])
    with pytest.raises(UserError, match="the disk is full; free some space"):
        RemoteFiles(tmp_path, 1).fetch("memory://bucket/web-001.tar")


def test_what_killed_processes_had_half_fetched_is_swept_and_counted_until_then(bucket, tmp_path: Path) -> None:
    files = RemoteFiles(tmp_path, 2.5e-6)
    first = files.fetch("memory://bucket/web-000.tar")
    halves = {name: tmp_path / f".{name}.tar.999.part" for name in ("left", "locked", "young")}
    for half in halves.values():
        half.write_bytes(b"x" * 300)
    for name in ("left", "locked"):
        os.utime(halves[name], (0, 0))
    with (tmp_path / "locked.tar.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = files.fetch("memory://bucket/web-001.tar")
    assert [half.is_file() for half in halves.values()] == [False, True, True]
    # 2000 bytes of copies and 600 of those that are being fetched are more than 2500.
    assert not first.is_file() and second.is_file()


def test_the_identity_follows_what_the_server_says_of_the_content(bucket) -> None:
    first = identity_of("memory://bucket/web-001.tar")
    assert identity_of("memory://bucket/web-001.tar") == first != identity_of("memory://bucket/web-002.tar")
    bucket.pipe("/bucket/web-001.tar", b"other")
    assert identity_of("memory://bucket/web-001.tar") != first
    with pytest.raises(UserError, match=r"web-009\.tar: no such file on the server"):
        identity_of("memory://bucket/web-009.tar")


class _Web(SimpleHTTPRequestHandler):
    """Web-0 is there with a mark, whatever else is forbidden; once it has failed twice."""

    codes: ClassVar[list[int]] = []

    def send_head(self):
        if self.codes:
            self.send_error(self.codes.pop(0))
            return None
        return super().send_head()

    def send_error(self, code, message=None, explain=None) -> None:
        super().send_error(403 if code == 404 else code, message, explain)

    def log_message(self, format, *args) -> None:
        pass


def test_a_web_server_that_stumbles_and_forbids(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(remote, "FIRST_PAUSE_SECONDS", 0.01)
    (tmp_path / "web-0.tar").write_bytes(b"x" * 5000)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Web, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        _Web.codes[:] = [503, 500]
        files = RemoteFiles(tmp_path / "copies", 1)
        assert files.fetch(f"{address}/web-0.tar").read_bytes() == b"x" * 5000 and not _Web.codes
        _Web.codes[:] = [503] * 4  # two for each question, which is asked as HEAD and as GET
        mark = identity_of(f"{address}/web-0.tar")
        assert "web-0.tar 5000 " in mark and mark == identity_of(f"{address}/web-0.tar?signature=1/2")
        # What is forbidden is absent where it may be, and told at once where it must be there.
        assert read_if_there(f"{address}/sizes.json") is None
        with pytest.raises(UserError, match=r"web-1\.tar: cannot be fetched .403"):
            files.fetch(f"{address}/web-1.tar")
        # Whoever is slow may be, as long as something comes.
        settings, _ = remote._file_system(f"{address}/web-0.tar")
        assert settings.client_kwargs["timeout"].total is None
        assert settings.client_kwargs["timeout"].sock_read == remote.SILENT_SECONDS
        server.shutdown()


def test_small_files_may_be_absent(bucket, tmp_path: Path) -> None:
    assert read_if_there("memory://bucket/web-001.tar") == b"\1" * 1000
    assert read_if_there("memory://bucket/sizes.json") is None
    assert read_if_there(str(tmp_path / "sizes.json")) is None


def test_without_the_package_the_error_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UserError, match=r"pip install 'raekit\[remote\]'"):
        read_if_there("https://host/sizes.json")
    monkeypatch.undo()
    with pytest.raises(UserError, match="http, https and s3 work with"):
        read_if_there("gopher://host/sizes.json")


class _Bucket(SimpleHTTPRequestHandler):
    """As much of S3's protocol as fetching takes: objects by path, and an empty listing."""

    def do_GET(self) -> None:
        if "list-type=2" not in self.path:
            return super().do_GET()
        answer = b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def end_headers(self) -> None:
        self.send_header("ETag", '"1"')
        super().end_headers()

    def log_message(self, format, *args) -> None:
        pass


def test_from_an_object_store(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("s3fs")
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "web-0.tar").write_bytes(b"x" * 5000)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Bucket, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        files = RemoteFiles(tmp_path / "copies", 1)
        assert files.fetch("s3://bucket/web-0.tar").read_bytes() == b"x" * 5000
        assert read_if_there("s3://bucket/sizes.json") is None
        with pytest.raises(UserError, match=r"s3://bucket/web-1\.tar: no such file on the server"):
            files.fetch("s3://bucket/web-1.tar")
        server.shutdown()
