"""The events of a file, read in blocks: the good ones come out, the others are counted.

Momenta may be arrays, memory maps or anything else with a shape that can be sliced: 1e9 events
need no more memory than 1e6.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .dataset import Dataset
from .dataset.exchange.labels import symbols_of
from .dataset.solutions import has_solutions
from .errors import InvalidDataError

BLOCK = 1 << 17  #: events read at a time
_SAMPLED = 1 << 14  #: events looked at, from all over the file, to choose axes by


@dataclass(frozen=True, kw_only=True)
class Events:
    """The momenta of one file, and whose they are."""

    momenta: Any  #: (n, ions, 3), atomic units; sliced, never copied whole
    masses: np.ndarray  #: (ions,), electron masses
    ions: tuple[str, ...]  #: how each ion is called: "O", "S²⁺"
    name: str  #: what a title or a message calls them
    status: Any = None  #: (n,), 0 = good; None where nothing has a status

    def __post_init__(self):
        shape: tuple[int, ...] = tuple(self.momenta.shape)
        if len(shape) != 3 or shape[2] != 3:
            msg = f"{self.name}: momenta must have shape (n, ions, 3), got {shape}"
            raise InvalidDataError(msg)
        if not len(self.masses) == len(self.ions) == shape[1]:
            msg = (
                f"{self.name}: {shape[1]} ions, but masses ({len(self.masses)},) "
                f"and {len(self.ions)} names"
            )
            raise InvalidDataError(msg)

    def __len__(self) -> int:
        return self.momenta.shape[0]


class Cuts:
    """How many events were read, and how many of them left out for which reason."""

    def __init__(self):
        self.total = self.drawn = 0
        self.status = self.nan = self.rest = self.outside = 0

    def said(self) -> str:
        """Return the counts as one line."""
        parts = [
            (self.status, "with bad status"),
            (self.nan, "not finite"),
            (self.rest, "at rest"),
            (self.outside, "outside the axes"),
        ]
        left_out = [f"{count:,} {why}" for count, why in parts if count]
        return f"{self.total:,} events" + (f"; {', '.join(left_out)}" if left_out else "")

    def leave_out_resting(self, rests: np.ndarray) -> None:
        """Count events (n,) that were read but, being at rest, cannot be drawn."""
        self.rest += int(rests.sum())
        self.drawn -= int(rests.sum())

    def require_some(self, name: str) -> None:
        """Raise InvalidDataError if nothing of the file called `name` is left."""
        if self.drawn == 0:
            msg = f"{name}: nothing is left to draw of {self.said()}"
            raise InvalidDataError(msg)


def _good(events: Events, first: int, last: int, cuts: Cuts) -> np.ndarray:
    """Return the momenta of the good events from `first` to `last`; count the rest."""
    momenta = np.asarray(events.momenta[first:last], dtype=np.float64)
    good = np.ones(len(momenta), bool)
    if events.status is not None:
        good = np.asarray(events.status[first:last]) == 0
    usable = np.isfinite(momenta).all(axis=(1, 2))
    cuts.total += len(momenta)
    cuts.status += int((~good).sum())
    cuts.nan += int((good & ~usable).sum())
    return momenta[good & usable]


def blocks(events: Events, cuts: Cuts) -> Iterator[np.ndarray]:
    """Yield all good momenta, (block, ions, 3) each."""
    for first in range(0, len(events), BLOCK):
        momenta = _good(events, first, min(first + BLOCK, len(events)), cuts)
        if len(momenta):
            cuts.drawn += len(momenta)
            yield momenta


def sample(events: Events) -> np.ndarray:
    """Return good momenta from slices all over the data, to choose axes by."""
    slices = 16
    length = _SAMPLED // slices
    starts = np.linspace(0, max(len(events) - length, 0), slices).astype(int)
    parts = [
        _good(events, first, min(first + length, len(events)), Cuts())
        for first in np.unique(starts)
    ]
    found = np.concatenate(parts)
    # The few good events of a file that is mostly bad may lie between the slices.
    return found if len(found) else next(blocks(events, Cuts()), found)


@dataclass(frozen=True)
class _Rows:
    """One array of a dataset, read when it is sliced."""

    data: Dataset
    name: str
    shape: tuple[int, ...]

    def __getitem__(self, rows: slice) -> np.ndarray:
        first, last, _ = rows.indices(self.shape[0])
        return self.data.read(self.name, first, last - first)


def column(data: Dataset, name: str) -> _Rows | None:
    """Return an array of `data` that goes with the events, to be sliced; None if absent."""
    if name not in data:
        return None
    return _Rows(data, name, data.shape(name))


def of_dataset(data: Dataset) -> Events:
    """Return the events of a dataset, called after its molecule and charges.

    Raises
    ------
    InvalidDataError
        If it has no momenta, or does not say the masses of the ions.
    """
    momenta = column(data, "momenta")
    if momenta is None or "masses" not in data:
        msg = f"{data.path}: momenta and masses are needed, it holds {', '.join(data.names)}"
        raise InvalidDataError(msg)
    symbols = [f"ion {i + 1}" for i in range(data.ions)]
    if "numbers" in data:
        symbols = list(symbols_of(data["numbers"]))
    charges = data["charges"] if "charges" in data else np.empty((0, 0))
    name = data.configuration.get("molecule", {}).get("name") or data.path.stem
    if charges.ndim == 1:
        name += ", charges " + ",".join(f"{charge:g}" for charge in charges)
    return Events(
        momenta=momenta,
        masses=data["masses"],
        ions=ion_names(symbols, charges if charges.ndim == 1 else None),
        name=name,
        # of solutions, a status says nothing of the momenta
        status=None if has_solutions(data) else column(data, "status"),
    )


_SUPERSCRIPT = str.maketrans("0123456789+-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")
_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def ion_names(symbols: Sequence[str], charges: np.ndarray | None = None) -> tuple[str, ...]:
    """Return names such as O²⁺, numbered (H₁⁺, H₂⁺) where an element is there twice."""
    names = []
    for i, symbol in enumerate(symbols):
        number = f"{symbols[: i + 1].count(symbol)}" if symbols.count(symbol) > 1 else ""
        names.append(symbol + number.translate(_SUBSCRIPT))
        if charges is not None and charges[i] != 0:
            size, sign = abs(charges[i]), "+" if charges[i] > 0 else "-"
            text = f"{size:g}" if size != 1 else ""
            names[-1] += (
                (text + sign).translate(_SUPERSCRIPT) if size % 1 == 0 else f" {text}{sign}"
            )
    return tuple(names)
