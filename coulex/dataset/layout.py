"""The bytes of an HDF5 file around its numbers, as a pure function of what it holds.

HDF5 runs on an imaginary file that keeps what is written to it and has no room for numbers:
the arrays are allocated, never filled. What results is a table of small pieces (headers and
attributes) and the offset of each array, whatever their size. The numbers then go straight to
their place with `os.pwrite`, so that no crash inside the HDF5 library can lose them, a full
disk is an ordinary OSError, and equal contents give equal bytes.

The format is that of HDF5 1.8, whose headers carry checksums; times are left out.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5f, h5fd, h5p, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]

from .canonical import canonical
from .fields import FIELDS
from .seal import SEAL_BYTES, seal

FORMAT = "coulex"
FORMAT_VERSION = 1
NEEDS = "0.1"  #: the first coulex that reads FORMAT_VERSION

_ALIGNMENT = 64  # bytes: memory maps of the arrays then suit any vector instruction
_NO_DIGEST = "0" * 64


@dataclass(frozen=True)
class Column:
    """One array as a file declares it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    sha256: str = _NO_DIGEST

    @property
    def nbytes(self) -> int:
        """Return the size of the numbers in bytes."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


@dataclass(frozen=True)
class Identity:
    """Which events a file holds, and what determined them."""

    first: int  #: number of the first event
    count: int  #: events in this file
    total: int  #: events in the whole set
    configuration: dict[str, Any]
    provenance: dict[str, Any]

    def attributes(self, columns: Mapping[str, Column]) -> dict[str, str | int]:
        """Return the attributes of the root, with the digest that covers them all."""
        plain: dict[str, str | int] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "needs": NEEDS,
            "first_event": self.first,
            "n_events": self.count,
            "total_events": self.total,
            "configuration": canonical(self.configuration),
            "provenance": canonical(self.provenance),
        }
        return plain | {"sha256": root_digest(plain, columns)}


def root_digest(plain: Mapping[str, str | int], columns: Mapping[str, Column]) -> str:
    """Return the SHA-256 of the root's attributes and of all that is said of the arrays."""
    arrays = {
        name: [list(c.shape), c.dtype.str, FIELDS[name].units, c.sha256]
        for name, c in columns.items()
    }
    return hashlib.sha256(canonical([dict(plain), arrays]).encode()).hexdigest()


@dataclass
class _Imaginary(io.RawIOBase):
    """A file that keeps what is written and is never read."""

    pieces: dict[int, bytes] = field(default_factory=dict)
    position: int = 0
    end: int = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = offset + (0, self.position, self.end)[whence]
        return self.position

    def write(self, data: Any) -> int:
        self.pieces.pop(self.position, None)  # pieces stay in the order they were written
        self.pieces[self.position] = bytes(data)
        self.position += len(data)
        self.end = max(self.end, self.position)
        return len(data)

    def between(self, start: int, stop: int) -> bytes:
        """Return what was written from `start` to `stop`, zeros where nothing was."""
        out = bytearray(stop - start)
        for offset, piece in self.pieces.items():
            if start <= offset < stop:
                out[offset - start : offset - start + len(piece)] = piece
        assert len(out) == stop - start
        return bytes(out)

    def readinto(self, buffer: Any) -> int:
        buffer[:] = bytes(len(buffer))
        return len(buffer)

    def truncate(self, size: int | None = None) -> int:
        self.end = self.position if size is None else size
        return self.end


@dataclass(frozen=True)
class Layout:
    """Where everything lies in a file that is yet to be written."""

    pieces: dict[int, bytes]  #: headers and attributes, by offset
    offsets: dict[str, int]  #: first byte of each array; empty arrays have none
    size: int  #: bytes of the whole file


def lay_out(identity: Identity, columns: Mapping[str, Column]) -> Layout:
    """Return the layout of a file; it depends on the digests only in their own bytes.

    Parameters
    ----------
    identity : Identity
    columns : mapping of str to Column
        In the order of `FIELDS`.
    """
    access, creation = h5p.create(h5p.FILE_ACCESS), h5p.create(h5p.FILE_CREATE)
    imaginary = _Imaginary()
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    access.set_fileobj_driver(h5fd.fileobj_driver, imaginary)
    access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)
    access.set_alignment(1, _ALIGNMENT)
    creation.set_obj_track_times(False)
    offsets = {}
    with h5py.File(h5f.create(b"imaginary", h5f.ACC_TRUNC, creation, access)) as file:
        for key, value in identity.attributes(columns).items():
            file.attrs[key] = np.int64(value) if isinstance(value, int) else value
        # of fixed length, in the headers, where it can be read from a file without its seal
        file.attrs["needs"] = np.bytes_(NEEDS)
        for name, column in columns.items():
            kind = h5t.py_create(column.dtype, logical=True)
            space = h5s.create_simple(column.shape)
            made = h5d.create(file.id, name.encode(), kind, space, _contiguous())
            dataset = h5py.Dataset(made)
            dataset.attrs["units"] = FIELDS[name].units
            dataset.attrs["sha256"] = column.sha256
            offset = made.get_offset()
            if offset is not None:
                offsets[name] = offset
    extents = sorted((offsets[name], columns[name].nbytes) for name in offsets)
    last = seal(extents, imaginary.end, imaginary.between)
    pieces = imaginary.pieces | {imaginary.end: last}
    return Layout(pieces, offsets, imaginary.end + SEAL_BYTES)


def _contiguous() -> h5p.PropDCID:
    """Return the properties of an array that is allocated at once and not filled."""
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_layout(h5d.CONTIGUOUS)
    properties.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    return properties
