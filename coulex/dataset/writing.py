"""A whole HDF5 file of events, written in one pass: one shard, or many merged into one.

The numbers stream through SHA-256 to their place; the headers, which carry the digests, come
last. A merged file has the very bytes of a file written at once.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from coulex.errors import CorruptFileError, InvalidDataError

from .fields import FIELDS, check_shapes, grows, in_file_order
from .files import whole_file, write_at
from .layout import Column, Identity, lay_out
from .parts import Part


def write_arrays(path: Path, identity: Identity, arrays: Mapping[str, np.ndarray]) -> None:
    """Write one file of events from arrays in memory.

    Parameters
    ----------
    path : Path
    identity : Identity
    arrays : mapping of str to array
        Names and shapes as `fields.FIELDS` says, atomic units.

    Raises
    ------
    InvalidDataError
        If a name, shape or type is wrong.
    OutputError
        If there is no room, or the file cannot be written.
    """
    ready = in_file_order(arrays)
    columns = {name: Column(a.shape, a.dtype) for name, a in ready.items()}
    check_shapes(
        {n: a.shape for n, a in ready.items()},
        {n: a.dtype for n, a in ready.items()},
        identity.count,
    )
    _write(path, identity, columns, lambda name: [ready[name]])


def merge(path: Path, parts: Sequence[Part]) -> None:
    """Join all shards, which hold the same arrays, into one file.

    Raises
    ------
    CorruptFileError
        If a shard is damaged, or they differ in a constant.
    OutputError
        If there is no room.
    """
    first = parts[0]
    columns = dict(first.columns)
    for name, column in columns.items():
        if grows(name, len(column.shape)):
            rows = sum(part.stored[name].column.shape[0] for part in parts)
            columns[name] = Column((rows, *column.shape[1:]), column.dtype)
        else:
            check_constant(parts, name)
            columns[name] = Column(column.shape, column.dtype)

    def blocks(name: str) -> Iterable[np.ndarray]:
        growing = grows(name, len(columns[name].shape))
        for part in parts if growing else parts[:1]:
            digest = hashlib.sha256()
            for block in part.chunks(name):
                digest.update(block.data)
                yield block
            part.check(name, digest.hexdigest())

    total = first.identity.total
    _write(path, replace(first.identity, first=0, count=total), columns, blocks)


def check_same_arrays(parts: Sequence[Part]) -> None:
    """Raise unless all shards hold the same arrays, of the same types."""
    for part in parts[1:]:
        if part.names_and_types() != parts[0].names_and_types():
            msg = f"{part.path} holds other arrays than {parts[0].path}; make both again"
            raise CorruptFileError(msg)


def check_constant(parts: Sequence[Part], name: str) -> None:
    """Raise unless an array such as the masses is the same in all shards."""
    for part in parts:
        if part.stored[name].column.sha256 != parts[0].columns[name].sha256:
            msg = f"{name} differ between {parts[0].path} and {part.path}; make both again"
            raise CorruptFileError(msg)


def _write(
    path: Path,
    identity: Identity,
    columns: Mapping[str, Column],
    blocks: Callable[[str], Iterable[np.ndarray]],
) -> None:
    layout = lay_out(identity, columns)
    done = {}
    with whole_file(path, layout.size) as descriptor:
        for name, column in columns.items():
            digest = hashlib.sha256()
            offset = start = layout.offsets.get(name, 0)
            for block in blocks(name):
                view = block.reshape(-1).view(np.uint8).data
                digest.update(view)
                offset = write_at(descriptor, view, offset)
            assert offset - start == column.nbytes
            done[name] = replace(column, sha256=digest.hexdigest())
        for offset, piece in lay_out(identity, done).pieces.items():
            write_at(descriptor, piece, offset)


def predicted_bytes(
    n_events: int,
    ions: int,
    names: Sequence[str] = ("initial_positions", "momenta", "status"),
    *,
    dtype: str = "float64",
) -> int:
    """Return the size of a file of events, headers apart (some ten kilobytes).

    Parameters
    ----------
    n_events, ions : int
    names : sequence of str
        The arrays that it will hold; see `fields.FIELDS`.
    dtype : {"float64", "float32"}
        Of all arrays that are not whole numbers; charges count as float64.

    Raises
    ------
    InvalidDataError
        If a name is unknown.
    """
    return n_events * sum(_bytes_per_event(name, ions, np.dtype(dtype)) for name in names)


def _bytes_per_event(name: str, ions: int, dtype: np.dtype) -> int:
    if name not in FIELDS:
        msg = f"unknown array {name!r}; known are {', '.join(FIELDS)}"
        raise InvalidDataError(msg)
    field = FIELDS[name]
    if field.axes[0] != "events":
        return 0
    size = {"f": dtype.itemsize, "u": 1}.get(field.kinds, 8)
    for axis in field.axes[1:]:
        size *= ions if axis == "ions" else int(axis)
    return size
