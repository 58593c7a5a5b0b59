"""Files that are whole or absent, and locks that die with their process.

A file is written under a temporary name in the folder it will live in, synced, renamed.
Temporary names begin with a dot and end in ".tmp": no reader takes one for data.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coulex.errors import CorruptFileError, OutputError

BLOCK_BYTES = 2**24  #: how much of a file is in memory at once

_TEMPORARY = re.compile(r"\.(?P<final>.+)\.[0-9a-f]+\.tmp")
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def whole_file(path: Path, needed: int | None) -> Iterator[int]:
    """Give a file descriptor whose file appears as `path` when the block ends well.

    Parameters
    ----------
    path : Path
        Replaced, if it is there, in the same instant.
    needed : int or None
        Bytes that will be written, where that is known; named when they do not fit.

    Raises
    ------
    OutputError
        If the disk, a quota or a limit on file sizes is exceeded, or `path` cannot be made.
    """
    temporary = temporary_name(path)
    try:
        descriptor = os.open(
            temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666
        )
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OutputError):
            raise
        if error.errno in _FULL:
            what = f"{needed} bytes needed, " if needed is not None else ""
            msg = (
                f"no room for {path}: {what}{free_bytes(path.parent)} free "
                f"({error.strerror}); make room, then --resume"
            )
        else:
            msg = f"cannot write {path}: {error.strerror or error}"
        raise OutputError(msg) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def temporary_name(path: Path) -> Path:
    """Return a new name beside `path`; process numbers repeat on other machines."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def is_temporary(path: Path) -> bool:
    """Return whether a name is one of `temporary_name`."""
    return _TEMPORARY.fullmatch(path.name) is not None


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write all of `data` at `offset` and return the offset behind it."""
    view = memoryview(data)
    while len(view):
        done = os.pwrite(descriptor, view, offset)
        view, offset = view[done:], offset + done
    return offset


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent."""
    with whole_file(path, len(content)) as descriptor:
        write_at(descriptor, content, 0)


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file that is whole or absent."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    CorruptFileError
        If the file is not JSON, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        msg = f"{path} is not JSON ({error}); it was cut short or changed"
        raise CorruptFileError(msg) from error
    if not isinstance(value, dict):
        msg = f"{path} must hold a JSON object, got {type(value).__name__}"
        raise CorruptFileError(msg)
    return value


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last through a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(folder: Path) -> int:
    """Return the free space for data in `folder`."""
    return shutil.disk_usage(folder).free


def sweep(folder: Path, finals: set[str] | None = None) -> None:
    """Remove what a killed run left under temporary names, all or those for `finals`."""
    for path in folder.iterdir():
        found = _TEMPORARY.fullmatch(path.name)
        if found and (finals is None or found["final"] in finals):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


class Lock:
    """A lock on a file of its own; the kernel releases it when the process dies."""

    def __init__(self, path: Path):
        self.path = path
        self._descriptor = -1

    def take(self, *, shared: bool = False) -> bool:
        """Take the lock, or turn one held into the other kind; return whether it worked."""
        while True:
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            try:
                fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                self._close()
                return False
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                what = f"{self.path.parent} has no file locks; start no second run there"
                warnings.warn(what, stacklevel=2)
                return True
            if self._is_current():
                return True
            self._close()  # its last owner has removed the file: take the new one

    def release(self, *, remove: bool) -> None:
        """Let go; `remove` the file as well, for which the lock must be exclusive."""
        if self._descriptor >= 0:
            if remove:
                self.path.unlink(missing_ok=True)
            self._close()

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1
