"""Files that are there whole or not at all."""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Bytes of a name that the file beside it keeps: file systems take 255, and a mark of its own comes on top.
_KEPT = 200


def write_whole(path: Path, data: bytes | str) -> None:
    """Write beside the place and rename: a crash, or a full disk, leaves the old file or the new one.

    Args:
        path: file to write; its folder is made.
        data: text, or bytes.

    Raises:
        OSError: the file cannot be written; what was there still is, and the message names it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    head = os.fsdecode(os.fsencode(path.name)[:_KEPT])
    beside = path.with_name(f".{head}.{secrets.token_hex(8)}.part")  # processes of two containers may have one number
    try:
        with open(beside, "xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:  # that of a full disk names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)


def remove_parts(folder: Path, name: str = "") -> None:
    """Remove what a killed process left of the files that it was writing; no other may be writing them now.

    Args:
        folder: where they lie.
        name: of the one file that is meant; all, by default.
    """
    for part in folder.glob(f".{glob.escape(name) or '*'}.*.part"):
        part.unlink(missing_ok=True)


@contextmanager
def alone(lock: Path, wait: bool = False) -> Iterator[None]:
    """Keep other processes out of what a lock stands for; the lock goes with the process, however it ends.

    Args:
        lock: file to lock; it is made, with its folder.
        wait: for another process to end.

    Raises:
        OSError: another process has the lock, or a file lies where the folder should be; the message names the folder.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(f"{str(lock.parent)!r} must be a folder; it is a file. Choose another one.") from None
    with open(lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            where = str(lock.parent)
            raise OSError(f"another process works in {where!r}. Wait for it, or choose another folder.") from None
        if not lock.exists() or not os.path.samestat(os.fstat(file.fileno()), lock.stat()):
            raise OSError(f"another process has just ended its work in {str(lock.parent)!r}. Try again.")
        yield


def size_and_time(path: Path) -> tuple[int, int]:
    """Bytes, and the newest modification in nanoseconds, of an image's files: of a folder all in it, and MIRAX's."""
    files = [path]
    beside = path.with_suffix("")  # where MIRAX keeps its pixels
    for folder in (path, beside if path.suffix.lower() == ".mrxs" else path):
        if folder.is_dir():
            files += [Path(where, file) for where, _, names in os.walk(folder) for file in names]
    nbytes = modified = 0
    for file in dict.fromkeys(files):
        try:
            status = file.stat()
        except OSError:
            continue
        nbytes += 0 if file.is_dir() else status.st_size
        modified = max(modified, status.st_mtime_ns)
    return nbytes, modified
