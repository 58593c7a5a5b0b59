"""The numbers of one HDF5 file of events, read in blocks or mapped, in atomic units.

HDF5 only reads the headers (see `headers`); the numbers of our own files are read at their
offset, without the library, so that a file needs neither locks nor closing.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from coulex.errors import CorruptFileError, CoulexError, InvalidDataError

from .fields import grows
from .files import BLOCK_BYTES
from .headers import Stored, read_foreign, read_own, why_unsealed
from .layout import Column, Identity
from .seal import seal_is_whole


@dataclass(frozen=True)
class Part:
    """One file of events whose headers have been checked."""

    path: Path
    identity: Identity
    stored: dict[str, Stored]
    foreign: bool  #: not written by coulex: no digests
    stamp: tuple[int, int]  #: size and time of last change, to notice a swap

    @property
    def columns(self) -> dict[str, Column]:
        """Return what the file declares of each array."""
        return {name: s.column for name, s in self.stored.items()}

    def names_and_types(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Return what all shards of a set share: names, types, and lengths within a row."""
        columns = self.columns.items()
        return {n: (c.shape[int(grows(n, len(c.shape))) :], c.dtype) for n, c in columns}

    def rows(self, name: str, first: int, count: int) -> np.ndarray:
        """Return `count` rows of an array from row `first` of this file, in atomic units."""
        stored = self.stored[name]
        self._check_unchanged()
        if stored.offset is None:
            values = self._rows_by_hdf5(name, first, count)
        else:
            shape = stored.column.shape[1:]
            width = math.prod(shape)
            start = stored.offset + first * width * stored.column.dtype.itemsize
            flat = np.fromfile(self.path, stored.column.dtype, count * width, offset=start)
            if flat.size != count * width:
                msg = f"{self.path} ends before row {first + count} of {name}"
                raise CorruptFileError(msg)
            values = flat.reshape(count, *shape)
        return values if stored.factor == 1 else values * stored.factor

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        """Yield all rows of an array in blocks of about `BLOCK_BYTES`."""
        column = self.stored[name].column
        size = max(1, BLOCK_BYTES * column.shape[0] // max(column.nbytes, 1))
        for first in range(0, column.shape[0], size):
            yield self.rows(name, first, min(size, column.shape[0] - first))

    def check(self, name: str, digest: str) -> None:
        """Raise unless `digest` is the one that the file declares for an array."""
        if digest != self.stored[name].column.sha256:
            msg = f"{self.path}: {name} is damaged, its SHA-256 differs; {_REMAKE}"
            raise CorruptFileError(msg)

    def verify(self, name: str) -> None:
        """Read a whole array and compare its digest; a foreign file has none."""
        if self.foreign:
            return
        digest = hashlib.sha256()
        for block in self.chunks(name):
            digest.update(block.data)
        self.check(name, digest.hexdigest())

    def verify_all(self) -> None:
        """Verify every array."""
        for name in self.stored:
            self.verify(name)

    def map(self, name: str) -> np.memmap | np.ndarray:
        """Return an array mapped into memory, read-only."""
        stored = self.stored[name]
        self._check_unchanged()
        if stored.offset is None or stored.factor != 1:
            why = "is stored in pieces" if stored.offset is None else f"is in {stored.units}"
            msg = f"{self.path}: {name} {why} and cannot be mapped; run `coulex data import`"
            raise InvalidDataError(msg)
        column = stored.column
        if column.nbytes == 0:
            return np.empty(column.shape, column.dtype)
        return np.memmap(self.path, column.dtype, "r", stored.offset, column.shape)

    def _rows_by_hdf5(self, name: str, first: int, count: int) -> np.ndarray:
        try:
            with h5py.File(self.path, "r", locking=False) as file:
                dataset = file[name]
                assert isinstance(dataset, h5py.Dataset)
                return dataset[first : first + count]
        except (OSError, RuntimeError, KeyError) as error:
            msg = f"{self.path}: {name} cannot be read: {error}"
            raise CorruptFileError(msg) from error

    def _check_unchanged(self) -> None:
        if _stamp(self.path) != self.stamp:
            msg = f"{self.path} was changed while it was open; open it again"
            raise CorruptFileError(msg)


_REMAKE = "restore it, or delete it and make it again with --resume"


def read_part(path: Path) -> Part:
    """Check the headers of one file of events.

    Raises
    ------
    CorruptFileError
        If the file is empty, truncated, not HDF5, or its headers are wrong in any way.
    InvalidDataError
        If a foreign file declares no unit, or one that is unknown.
    """
    stamp = _stamp(path)
    if stamp[0] == 0:
        msg = f"{path} is empty; delete it"
        raise CorruptFileError(msg)
    try:
        sealed = seal_is_whole(path)
        with h5py.File(path, "r", locking=False) as file:
            if "format" in file.attrs and not sealed:
                raise CorruptFileError(why_unsealed(file))
            foreign = "format" not in file.attrs
            identity, stored = (read_foreign if foreign else read_own)(file, stamp[0])
    except CoulexError as error:
        msg = f"{path}: {error}"
        raise type(error)(msg) from error
    # what HDF5 and numpy raise on damaged headers follows no rule
    except (
        *(OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError),
        *(OverflowError, MemoryError, SystemError),
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"{path} is not a whole HDF5 file ({reason}); {_REMAKE}"
        raise CorruptFileError(msg) from error
    return Part(path, identity, stored, foreign, stamp)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        msg = f"{path} does not exist"
        raise InvalidDataError(msg) from error
    if not path.is_file():
        msg = f"{path} is not a file"
        raise InvalidDataError(msg)
    return found.st_size, found.st_mtime_ns
