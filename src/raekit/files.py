"""Files that are whole or absent, and what to say when the disk is full.

In: a path and a block that writes. Out: the old content or the whole new content, never half of it: everything is
written under a temporary name beside the target, flushed, and renamed in one step, so that a crash or a full disk
leaves what was there before. Nothing here needs torch, so the command line and the data readers start fast.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from raekit.errors import UserError
from raekit.liveness import sign_of_life

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""System error numbers that mean there is no room: the disk's, or the user's share of it."""
UMASK = os.umask(0o022)
"""What the user keeps from others. It can only be read by changing it, so once, before any thread runs."""
os.umask(UMASK)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content as 64 hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    sign_of_life()
    return digest


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary sibling file that becomes ``path`` when the block ends well.

    Raises:
        UserError: the disk is full or the place is not writable; nothing half-written is left.
    """
    # Not the process number: on a disk that machines share, two of them may have the same one.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        share(temporary)
        flush(temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise UserError(disk_sentence(path, error)) from error
    finally:
        if temporary.exists():
            temporary.unlink()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, whatever happens in between."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_files(directory: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write several files of a directory, each as :func:`write_atomically` does; returns their paths."""
    for name, content in contents.items():
        write_atomically(directory / name, content)
    return [directory / name for name in contents]


@contextmanager
def atomic_directory(directory: Path) -> Iterator[Path]:
    """A temporary sibling that becomes ``directory`` when the block ends well, and vanishes when it does not.

    Raises:
        UserError: the disk is full or the place is not writable; an older ``directory`` is still there.
    """
    temporary: Path | None = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        yield temporary
        share(temporary)
        for path in temporary.rglob("*"):
            share(path)
            if path.is_file():
                flush(path)
        _replace(temporary, directory)
    except (OSError, SafetensorError) as error:
        raise UserError(disk_sentence(directory, error)) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def share(path: Path) -> None:
    """Give a file or folder the permissions that the user's umask leaves: temporary folders and, from safetensors 0.8
    on, files of weights are made for their owner's eyes alone."""
    path.chmod((0o777 if path.is_dir() else 0o666) & ~UMASK)


def make_writable(folder: Path, option: str = "out") -> None:
    """Make ``folder`` and try a file in it, so that a bad place is known before the work and not after it.

    Args:
        folder: made with its parents where it is not there.
        option: what the user called it, for the sentence.

    Raises:
        UserError: it cannot be made or written to.
    """
    trial = folder / f".raekit.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise UserError(
            f"{option} {str(folder)!r}: {error.strerror}; name a directory that can be written to"
        ) from None


def disk_sentence(path: Path, error: Exception) -> str:
    """Why writing ``path`` failed and what to do about it, in one sentence."""
    full = getattr(error, "errno", None) in DISK_FULL or "No space left" in str(error)
    if full:
        return f"saving {str(path)!r}: the disk is full; free some space, nothing half-written was left"
    return f"saving {str(path)!r}: {error}; check the path and its permissions, nothing half-written was left"


def require_space(folder: Path, num_bytes: int, purpose: str) -> None:
    """See that the disk of ``folder`` has room before anything is written.

    Args:
        folder: there already.
        num_bytes: that will be written.
        purpose: of the room, for the sentence.

    Raises:
        UserError: there is not enough room.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise UserError(
            f"{purpose} needs {gigabytes(num_bytes)} but the disk of {str(folder)!r} has {gigabytes(free)} free; free "
            "some space, then go on with --resume"
        )


def gigabytes(num_bytes: float) -> str:
    """A size in words: ``1.25 GB``, ``3.4 MB``."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"


def flush(path: Path) -> None:
    """Force a file's bytes, or a folder's names, to disk, so that no rename ever names data that is not there yet."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sign_of_life()


def _replace(temporary: Path, directory: Path) -> None:
    """Rename into place; an existing directory is moved aside first and removed last."""
    old = directory.with_name(f".{directory.name}.old")
    if directory.exists():
        shutil.rmtree(old, ignore_errors=True)
        directory.rename(old)
    temporary.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
