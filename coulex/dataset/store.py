"""A set of events on disk, one file or a folder of shards, behind one face.

Opening reads and checks the headers; the numbers come in blocks, so that memory stays bounded
whatever the size of the set. The first read of an array from a file checks its SHA-256.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from coulex.errors import CorruptFileError, InvalidDataError

from .canonical import canonical
from .fields import FIELDS, grows
from .files import file_digest, read_json
from .layout import FORMAT_VERSION
from .parts import Part, read_part
from .plan import MANIFEST, PLAN, is_single, manifest_digest, parts_of

_SHARD = re.compile(r"shard-\d{6,}\.h5")


class Dataset:
    """Events on disk; what is read is in atomic units.

    No file stays open, and an instance can be pickled to workers.

    Attributes
    ----------
    path : Path
    n_events : int
    ions : int
        Ions of each event.
    names : tuple of str
        The arrays that the set holds.
    configuration, provenance : dict
        What determined the numbers, and how to make them again; empty in a foreign file.
    units : dict of str to str
        The unit that the file declares for each array.
    """

    def __init__(self, path: Path, parts: Sequence[Part]):
        first = parts[0]
        self.path = path
        self.parts = tuple(parts)
        self.n_events = first.identity.total
        self.names = tuple(first.stored)
        self.configuration: dict[str, Any] = first.identity.configuration
        self.provenance: dict[str, Any] = first.identity.provenance
        self.units = {name: s.units for name, s in first.stored.items()}
        self.ions = _ions(first)
        self._verified: set[tuple[Path, str]] = set()

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> np.ndarray:
        return self.read(name)

    def read(self, name: str, first: int = 0, count: int | None = None) -> np.ndarray:
        """Return rows of an array; of a constant, the whole.

        Parameters
        ----------
        name : str
            One of `names`.
        first : int
            Number of the first event; for lists of solutions, of the first solution.
        count : int, optional
            Up to the end when omitted.

        Raises
        ------
        InvalidDataError
            If there is no such array, or not that many rows.
        CorruptFileError
            If the digest of what is read for the first time is wrong.
        """
        if not self.grows(name):
            return self._constant(name)
        lengths = [part.stored[name].column.shape[0] for part in self.parts]
        stop = sum(lengths) if count is None else first + count
        if not 0 <= first <= stop <= sum(lengths):
            msg = f"{name} has {sum(lengths)} rows, not {first} to {stop}"
            raise InvalidDataError(msg)
        pieces, start = [], 0
        for part, length in zip(self.parts, lengths, strict=True):
            low, high = max(first - start, 0), min(stop - start, length)
            if low < high:
                self._verify_once(part, name)
                pieces.append(part.rows(name, low, high - low))
            start += length
        if not pieces:
            column = self.parts[0].stored[name].column
            return np.empty((0, *column.shape[1:]), column.dtype)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def blocks(
        self, names: Sequence[str], size: int = 2**16
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Yield the number of the first event of each block, and the arrays of the block.

        Parameters
        ----------
        names : sequence of str
            Arrays by event; constants such as masses (ions,) come whole with each block.
        size : int
            Events in a block; the last may be smaller.
        """
        constants = {name: self._constant(name) for name in names if not self.grows(name)}
        for first in range(0, self.n_events, size):
            count = min(size, self.n_events - first)
            rows = {n: self.read(n, first, count) for n in names if n not in constants}
            yield first, {name: (constants | rows)[name] for name in names}

    def map(self, name: str) -> list[np.ndarray]:
        """Return an array mapped into memory, read-only, one map for each file.

        Raises
        ------
        InvalidDataError
            If a foreign file stores it in pieces or in other units.
        """
        self.grows(name)  # a wrong name is refused
        for part in self.parts:
            self._verify_once(part, name)
        return [part.map(name) for part in self.parts]

    @property
    def foreign(self) -> bool:
        """Return whether the file was not written by coulex, and so has no checksums."""
        return self.parts[0].foreign

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a whole array."""
        columns = [part.stored[name].column for part in self.parts]
        if not self.grows(name):
            return columns[0].shape
        return (sum(c.shape[0] for c in columns), *columns[0].shape[1:])

    def grows(self, name: str) -> bool:
        """Return whether an array goes with the events (or solutions), or is a constant."""
        if name not in self.names:
            msg = f"{self.path} holds no {name!r}; it holds {', '.join(self.names)}"
            raise InvalidDataError(msg)
        return grows(name, len(self.parts[0].stored[name].column.shape))

    def _constant(self, name: str) -> np.ndarray:
        part = self.parts[0]
        self._verify_once(part, name)
        return part.rows(name, 0, part.stored[name].column.shape[0])

    def _verify_once(self, part: Part, name: str) -> None:
        if (part.path, name) not in self._verified:
            part.verify(name)
            self._verified.add((part.path, name))


def _ions(part: Part) -> int:
    for name, column in part.columns.items():
        axes = FIELDS[name].axes
        if "ions" in axes:
            return column.shape[axes.index("ions") - len(axes)]
    return 0


def open(path: str | Path) -> Dataset:
    """Open a file of events, or a folder of shards with its manifest.

    Raises
    ------
    InvalidDataError
        If nothing is there, or a foreign file declares no unit or one that is unknown.
    CorruptFileError
        If anything is damaged, missing, unfinished, or written by a newer coulex.
    """
    path = Path(path)
    if not path.exists() and (parts_of(path) / PLAN).exists():
        msg = f"{path} is unfinished: --resume it, or `coulex data finalize {path}`"
        raise CorruptFileError(msg)
    if path.is_dir():
        return Dataset(path, _open_folder(path))
    if path.is_file() and not (is_single(path) or h5py.is_hdf5(path)):
        msg = (
            f"{path} is not an HDF5 file; "
            f"`coulex data import {path} -o FILE.h5` reads csv, npz and extxyz"
        )
        raise InvalidDataError(msg)
    part = read_part(path)
    if part.identity.count != part.identity.total:
        first, last = part.identity.first, part.identity.first + part.identity.count - 1
        msg = (
            f"{path} is one shard, events {first} to {last} of {part.identity.total}; "
            "open the folder that it belongs to"
        )
        raise CorruptFileError(msg)
    return Dataset(path, [part])


def verify(path: str | Path) -> Dataset:
    """Read everything and compare every digest; return the set when all is well.

    Raises
    ------
    CorruptFileError
        As `open`, and if a digest differs.
    """
    data = open(path)
    if data.path.is_dir():
        expected = {s["file"]: s["sha256"] for s in read_json(data.path / MANIFEST)["shards"]}
        for part in data.parts:
            if file_digest(part.path) != expected[part.path.name]:
                msg = f"{part.path} is damaged: its SHA-256 is not the one in {MANIFEST}"
                raise CorruptFileError(msg)
    for part in data.parts:
        part.verify_all()
    return data


def _open_folder(folder: Path) -> list[Part]:
    """Check the manifest and the headers of every shard that it lists."""
    path = folder / MANIFEST
    if not path.exists():
        if (folder / PLAN).exists():
            msg = f"{folder} is unfinished: --resume it, or `coulex data finalize {folder}`"
        else:
            msg = f"{folder} has no {MANIFEST}; it is not a folder of events"
        raise CorruptFileError(msg)
    manifest = check_manifest(path)
    missing = [s["file"] for s in manifest["shards"] if not (folder / s["file"]).exists()]
    if missing:
        ids = ", ".join(name.removeprefix("shard-").removesuffix(".h5") for name in missing)
        many = f"{len(missing)} of {len(manifest['shards'])} shards"
        msg = f"{folder} lacks {many}: {ids}; restore them, or --resume"
        raise CorruptFileError(msg)
    parts = []
    for shard in manifest["shards"]:
        part = read_part(folder / shard["file"])
        found = part.identity
        if (found.first, found.count, found.total) != (
            *(shard["first"], shard["count"], manifest["n_events"]),
        ) or found.configuration != manifest["configuration"]:
            msg = f"{part.path} is not the shard that {MANIFEST} lists; restore the right one"
            raise CorruptFileError(msg)
        if parts and part.names_and_types() != parts[0].names_and_types():
            msg = f"{part.path} holds other arrays than {parts[0].path.name}"
            raise CorruptFileError(msg)
        parts.append(part)
    return parts


def check_manifest(path: Path) -> dict[str, Any]:
    """Return a manifest whose digest, version, names and event ranges are right."""
    manifest = read_json(path)
    if manifest.get("format_version", 0) > FORMAT_VERSION:
        msg = f"{path} needs coulex >= {manifest.get('needs')}"
        raise CorruptFileError(msg)
    if manifest.get("sha256") != manifest_digest(manifest):
        msg = f"{path} is damaged: its SHA-256 differs; restore it from a copy"
        raise CorruptFileError(msg)
    try:
        shards, total = list(manifest["shards"]), int(manifest["n_events"])
        ranges = [(s["file"], int(s["first"]), int(s["count"]), s["sha256"]) for s in shards]
        canonical(manifest["configuration"])
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path} is not a manifest: {error!r}"
        raise CorruptFileError(msg) from error
    expected = 0
    for name, first, count, _ in ranges:
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            msg = f"{path} lists {name!r}, expected shard-000000.h5 and the like beside it"
            raise CorruptFileError(msg)
        if first != expected or count < 1:
            what = "overlap" if first < expected else "leave a gap"
            msg = f"{path}: event ranges {what}: {name} starts at {first}, expected {expected}"
            raise CorruptFileError(msg)
        expected += count
    if expected != total or not shards:
        msg = f"{path}: its shards hold {expected} events, expected {total}"
        raise CorruptFileError(msg)
    return manifest
