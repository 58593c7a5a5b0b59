"""Events of a store as shuffled batches, with the parts that must not mix kept apart.

Whether an event is for training, validation or test is a function of its number and of a seed
alone: not of the size of the set, of files, or of what was trained before. So nothing that was
trained on is ever tested with. (A source whose events are alike when they are near, as frames
of a trajectory are, cuts its parts itself.)

A part is read in blocks, in an order that changes with the epoch, and shuffled in pools of
bounded memory. A part that fits into one pool is read once. The order, and whatever a
representation draws, are functions of (seed, epoch): an epoch can be repeated, or entered in
its middle, with the same batches.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from coulex import dataset, random
from coulex.dataset.canonical import canonical
from coulex.errors import InvalidDataError

from .representation import Batch, Representation, as_batch

PARTS = {"train": 0.70, "validation": 0.15, "test": 0.15}
NO_PART = 255  #: of an event between two parts, too much like either

_BLOCK = 1 << 13  #: consecutive events that are read at once
_POOL_BYTES = 1 << 29  #: of arrays as they come from the file, shuffled together
_FIXED = 2**32  #: the epoch of what must not change: validation, test, scales


def part_of(seed: int, first: int, count: int) -> np.ndarray:
    """Return the part of each event, as an index into `PARTS`, (count,) uint8."""
    drawn = random.uniform(seed, first, count, 1, random.SPLIT)[:, 0]
    edges = np.cumsum(list(PARTS.values()))[:-1]
    return np.searchsorted(edges, drawn, side="right").astype(np.uint8)


class Source(ABC):
    """A numbered set of events that can be read in pieces."""

    n_events: int
    notes: Sequence[str] = ()  #: what is worth telling before a training

    def for_training(self, seed: int) -> dict[str, np.ndarray]:
        """Return arrays of the first training events: enough to fit a representation to.

        Numbers that are not finite are left to `Stream`, which names their event.

        Raises
        ------
        ValueError
            If there is no event.
        """
        count = min(_BLOCK, self.n_events)
        mine = (self.part(seed, 0, count) == 0) & self.good(0, count)
        arrays = self.read(0, count)
        for name, array in arrays.items():
            if self.grows(name) and np.issubdtype(array.dtype, np.floating):
                mine &= np.isfinite(array.reshape(count, -1)).all(axis=1)
        if not mine.any():
            msg = f"none of the first {count} events can be trained on; more are needed"
            raise ValueError(msg)
        return {name: a[mine] if self.grows(name) else a for name, a in arrays.items()}

    def part(self, seed: int, first: int, count: int) -> np.ndarray:
        """Return the part of each event, (count,) uint8: an index into `PARTS`, or `NO_PART`.

        By the number of an event and the seed, unless neighbours are too much alike for that.
        """
        return part_of(seed, first, count)

    @property
    @abstractmethod
    def identity(self) -> str:
        """Return a digest of the contents: a resumed training compares it."""

    @property
    def drawn_by(self) -> str | None:
        """Return a digest of what drew the events, if they follow from it and their numbers.

        A set of another length that was drawn alike begins with the same events.
        """
        return None

    @abstractmethod
    def read(self, first: int, count: int) -> dict[str, np.ndarray]:
        """Return arrays by name; those with an axis of events have `count` rows."""

    @abstractmethod
    def good(self, first: int, count: int) -> np.ndarray:
        """Return which of these events are fit for use, (count,) bool."""

    @abstractmethod
    def grows(self, name: str) -> bool:
        """Return whether an array has an axis of events."""


class Events(Source):
    """The events of a file, or of a folder of shards.

    Parameters
    ----------
    path : Path
    names : sequence of str
        Arrays to read.
    optional : sequence of str
        Arrays to read if the file has them.

    Raises
    ------
    InvalidDataError
        If an array is missing.
    CorruptFileError
        If the file is damaged.
    """

    def __init__(
        self,
        path: Path | str,
        names: tuple[str, ...],
        optional: tuple[str, ...] = (),
    ):
        self.data = dataset.open(path)
        self.names = names + tuple(name for name in optional if name in self.data)
        missing = [name for name in names if name not in self.data]
        if missing:
            msg = (
                f"{path} holds no {', '.join(missing)}; it holds {', '.join(self.data.names)}"
            )
            raise InvalidDataError(msg)
        self.n_events = self.data.n_events

    @property
    def identity(self) -> str:
        arrays = {
            name: [
                part.stored[name].column.sha256
                if not part.foreign
                else hashlib.sha256(part.path.read_bytes()).hexdigest()
                for part in self.data.parts
            ]
            for name in self.names
        }
        return hashlib.sha256(canonical(arrays).encode()).hexdigest()

    @property
    def drawn_by(self) -> str | None:
        said = self.data.configuration
        drawn = {name: said.get(name) for name in ("ensemble", "molecule", "seed")}
        if None in drawn.values() or "sampler" in said:  # draws of a model have other seeds
            return None
        return hashlib.sha256(canonical(drawn).encode()).hexdigest()

    def read(self, first: int, count: int) -> dict[str, np.ndarray]:
        return {
            name: self.data.read(name, first, count) if self.grows(name) else self.data[name]
            for name in self.names
        }

    def good(self, first: int, count: int) -> np.ndarray:
        if "status" not in self.data:
            return np.ones(count, bool)
        return self.data.read("status", first, count) == 0

    def grows(self, name: str) -> bool:
        return self.data.grows(name)


class Arrays(Source):
    """Events in memory.

    Parameters
    ----------
    arrays : mapping
        By name; those named in `constants` have no axis of events.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], constants: tuple[str, ...] = ()):
        self._arrays = {name: np.asarray(array) for name, array in arrays.items()}
        self._constants = constants
        lengths = {len(a) for name, a in self._arrays.items() if name not in constants}
        if len(lengths) != 1:
            msg = f"arrays of events must have one length, got {sorted(lengths)}"
            raise ValueError(msg)
        self.n_events = lengths.pop()

    @property
    def identity(self) -> str:
        digest = hashlib.sha256()
        for name, array in sorted(self._arrays.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def read(self, first: int, count: int) -> dict[str, np.ndarray]:
        return {
            name: array[first : first + count] if self.grows(name) else array
            for name, array in self._arrays.items()
        }

    def good(self, first: int, count: int) -> np.ndarray:  # noqa: ARG002, all of them
        return np.ones(count, bool)

    def grows(self, name: str) -> bool:
        return name not in self._constants


class Stream:
    """One part of a source, encoded, in batches.

    Parameters
    ----------
    source : Source
    representation : Representation
    part : str
        One of `PARTS`, or "all".
    seed : int
        Of the split, the order, and what the representation draws.
    device : torch.device, optional
        Where batches are wanted.
    pool_bytes : int, optional
        Memory for the arrays that are shuffled together.

    Attributes
    ----------
    n : int
        Good events of this part.
    n_left_out : int
        Events of this part without a good status.
    """

    def __init__(
        self,
        source: Source,
        representation: Representation,
        part: str,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        pool_bytes: int = _POOL_BYTES,
    ):
        if part != "all" and part not in PARTS:
            msg = f"part must be {', '.join(PARTS)} or all, got {part!r}"
            raise ValueError(msg)
        self.source, self.representation = source, representation
        self.part, self.seed, self.device = part, seed, torch.device(device)
        self._firsts = np.arange(0, source.n_events, _BLOCK)
        counts = [self._chosen(int(first)) for first in self._firsts]
        self.n = sum(int(mine.sum()) for mine, _ in counts)
        self.n_left_out = sum(left for _, left in counts)
        self._pool_blocks = max(1, pool_bytes // max(self._block_bytes(), 1))
        self._kept: Batch | None = None

    def batches(
        self, size: int, *, epoch: int | None = None, skip: int = 0, whole: bool = False
    ) -> Iterator[Batch]:
        """Yield batches of one pass over the part.

        Parameters
        ----------
        size : int
            Samples in a batch.
        epoch : int, optional
            Decides the order and what is drawn. Without it the events come in the order of
            their numbers, and the draws are the same in every pass.
        skip : int
            Batches to leave out at the start.
        whole : bool
            Leave out a last batch of fewer than `size`.
        """
        rest, number = None, 0
        for pool in self._pools(epoch):
            rest = (
                pool if rest is None else Batch(*map(torch.cat, zip(rest, pool, strict=True)))
            )
            used = len(rest.x) // size * size
            for start in range(0, used, size):
                if number >= skip:
                    yield Batch(*(t[start : start + size] for t in rest))
                number += 1
            rest = Batch(*(t[used:] for t in rest))
        if rest is not None and len(rest.x) and not whole and number >= skip:
            yield rest

    def _pools(self, epoch: int | None) -> Iterator[Batch]:
        """Yield the part in pools that are encoded, shuffled and on the device."""
        order = self._firsts
        key = [self.seed, _FIXED if epoch is None else epoch]
        shuffle, draws = (np.random.default_rng([*key, purpose]) for purpose in (0, 1))
        single = len(self._firsts) <= self._pool_blocks
        if epoch is not None and not single:
            order = shuffle.permutation(order)
        for start in range(0, len(order), self._pool_blocks):
            pool = self._encoded(order[start : start + self._pool_blocks], draws, single)
            if epoch is not None:
                rows = torch.from_numpy(shuffle.permutation(len(pool.x))).to(self.device)
                pool = Batch(*(t[rows] for t in pool))
            yield pool

    def _encoded(self, firsts: np.ndarray, rng: np.random.Generator, single: bool) -> Batch:
        """Return a pool; one that never changes is kept."""
        if self._kept is not None:
            return self._kept
        batch = as_batch(*self.representation.encode(self._read(firsts), rng))
        self._check_finite(batch, firsts)
        batch = Batch(*(t.to(self.device) for t in batch))
        if single and not self.representation.draws:
            self._kept = batch
        return batch

    def _read(self, firsts: np.ndarray) -> dict[str, np.ndarray]:
        """Return the arrays of the chosen events of some blocks."""
        pieces: dict[str, list[np.ndarray]] = {}
        for first in firsts:
            mine, _ = self._chosen(int(first))
            for name, array in self.source.read(int(first), len(mine)).items():
                rows = array[mine] if self.source.grows(name) else array
                pieces.setdefault(name, []).append(rows)
        return {
            name: np.concatenate(rows) if self.source.grows(name) else rows[0]
            for name, rows in pieces.items()
        }

    def _chosen(self, first: int) -> tuple[np.ndarray, int]:
        """Return which events of a block are of this part and good, and how many are bad."""
        count = min(_BLOCK, self.source.n_events - first)
        mine = np.ones(count, bool)
        if self.part != "all":
            mine = self.source.part(self.seed, first, count) == list(PARTS).index(self.part)
        good = self.source.good(first, count)
        return mine & good, int((mine & ~good).sum())

    def _block_bytes(self) -> int:
        count = min(_BLOCK, self.source.n_events)
        arrays = self.source.read(0, count) if count else {}
        return sum(a.nbytes for name, a in arrays.items() if self.source.grows(name))

    def _check_finite(self, batch: Batch, firsts: np.ndarray) -> None:
        bad = ~(batch.x.flatten(1).isfinite().all(1) & batch.condition.isfinite().all(1))
        if not bad.any():
            return
        numbers = np.concatenate([f + np.flatnonzero(self._chosen(int(f))[0]) for f in firsts])
        first = int(numbers[int(bad.nonzero()[0])])
        msg = (
            f"{int(bad.sum())} events have numbers that are not finite, though their status "
            f"is good; the first is event {first}{self._place(first)}"
        )
        raise InvalidDataError(msg)

    def _place(self, event: int) -> str:
        """Return where an event lies, for a message."""
        if not isinstance(self.source, Events):
            return ""
        for part in self.source.data.parts:
            if part.identity.first <= event < part.identity.first + part.identity.count:
                return f" (row {event - part.identity.first} of {part.path})"
        return ""
