"""Two processes never write one run; a dead one never stands in the way."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raekit.errors import UserError
from raekit.training.saving.run_lock import NAME, RunLock, identity, is_alive

HOLDER = """
import os, sys, time
from pathlib import Path
from raekit.training.saving.run_lock import RunLock
RunLock(Path(sys.argv[1])).acquire()
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(60)
"""


def test_another_process_is_kept_out_until_it_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        lock = RunLock(tmp_path)
        with pytest.raises(
            UserError, match=rf"process {holder.pid} on .* is writing it; wait until it ends, or .*--run"
        ):
            lock.acquire()
        assert not lock.is_held
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        lock.acquire()  # although a child of the dead one lives on
        os.kill(child, signal.SIGKILL)
    assert lock.is_held and json.loads((tmp_path / NAME).read_text()) == identity()
    lock.release()


def test_one_process_does_not_exclude_itself(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.acquire()
    first.acquire()
    second.acquire()
    second.release()
    assert not second.is_held


def test_a_file_system_without_locks_goes_by_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def knows_no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", knows_no_locks)
    record = tmp_path / NAME
    record.write_text(json.dumps({**identity(), "started": "1"}))  # its number was given to another process since
    RunLock(tmp_path).acquire()
    record.write_text(json.dumps({**identity(), "process": os.getppid(), "started": _started(os.getppid())}))
    with pytest.raises(UserError, match=f"process {os.getppid()} on"):
        RunLock(tmp_path).acquire()
    record.write_text(json.dumps({"host": "elsewhere", "process": 1, "started": "1"}))
    with pytest.raises(UserError, match=rf"process 1 on elsewhere .*; if it has ended already, delete '{record}'"):
        RunLock(tmp_path).acquire()


def test_without_locks_another_machine_goes_on_where_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def knows_no_locks(*_: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "lockf", knows_no_locks)
    lock = RunLock(tmp_path)
    lock.acquire()
    monkeypatch.setattr(socket, "gethostname", lambda: "the-other-one")
    with pytest.raises(UserError, match="is writing it"):
        RunLock(tmp_path).acquire()
    lock.release()
    RunLock(tmp_path).acquire()


def test_a_number_that_was_given_to_another_process_is_not_the_owner() -> None:
    assert is_alive(identity()) and not is_alive({**identity(), "started": "1"}) and not is_alive({})


def _started(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
