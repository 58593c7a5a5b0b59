"""The last bytes of a file: a digest of everything in it that is no array.

HDF5 has checksums of its own, but not for the strings of attributes: one flipped bit there
sends its library into an endless loop. So the headers are compared with the seal before HDF5
sees the file. It is a text of fixed length behind the end that HDF5 knows of, which other
readers ignore: where the arrays lie, and the SHA-256 of that list and all bytes between them.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .canonical import canonical

SEAL_BYTES = 2048
_MARK = b"\ncoulex seal "

Extents = Sequence[tuple[int, int]]  #: offset and size of each array, in bytes, ascending


def seal(extents: Extents, end: int, read: Callable[[int, int], bytes]) -> bytes:
    """Return the seal of a file.

    Parameters
    ----------
    extents : sequence of pairs
    end : int
        Bytes of the file without the seal.
    read : callable
        Gives the bytes from one offset to another.
    """
    digest = hashlib.sha256(canonical([list(pair) for pair in extents]).encode())
    for start, stop in _between(extents, end):
        digest.update(read(start, stop))
    content = {"arrays": [list(pair) for pair in extents], "sha256": digest.hexdigest()}
    text = _MARK + canonical(content).encode()
    assert len(text) < SEAL_BYTES
    return text.ljust(SEAL_BYTES - 1) + b"\n"


def seal_is_whole(path: Path) -> bool:
    """Return whether a file ends in a seal that fits it; a foreign file has none."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END) - SEAL_BYTES
        if end < 0:
            return False
        file.seek(end)
        found = file.read()
        if not found.startswith(_MARK):
            return False

        def read(start: int, stop: int) -> bytes:
            file.seek(start)
            return file.read(stop - start)

        try:
            extents = [(int(a), int(b)) for a, b in json.loads(found[len(_MARK) :])["arrays"]]
            return seal(extents, end, read) == found
        except (ValueError, KeyError, TypeError, OverflowError):
            return False  # the seal itself is damaged


def _between(extents: Extents, end: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of bytes that belong to no array.

    Raises
    ------
    ValueError
        If the arrays overlap or leave the file.
    """
    start = 0
    for offset, size in extents:
        if not start <= offset <= offset + size <= end:
            msg = f"an array at {offset} + {size}, but {start} to {end} is free"
            raise ValueError(msg)
        yield start, offset
        start = offset + size
    yield start, end
