"""From a file of momenta to a file of geometries that a sampler draws for each event.

The file is one of solutions, of which there are as many for each event as were asked for: what
reads solutions reads draws. `positions` is their mean, which need not be a possible geometry.
Draws are not solved for: `coulex validate` says how far their momenta are from those given.

What is drawn for an event follows from the seed, the momenta and the sampler. What the file
holds as `momenta` is what the sampler was given, noise that was added included.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from . import __version__
from .dataset.exchange import Source
from .errors import InvalidDataError
from .filling import Arrays
from .inverse.noise import without_sum

_TOGETHER = 1 << 16  #: draws that are made at once
_SHARD_BLOCKS = 32
_READ = 1 << 14
_SUM_ROUNDING = 1e-12  # below this, momenta stay as they are to the bit


class Sampler(Protocol):
    """Draws geometries of momenta.

    Positions are in the frame of the momenta; log_q is the logarithm of the density that they
    were drawn with, in mass-weighted Cartesian coordinates relative to the centre of mass.
    """

    def __call__(
        self,
        momenta: np.ndarray,
        n: int,
        *,
        charges: np.ndarray,
        masses: np.ndarray,
        noise: float | None,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return positions (k, n, ions, 3) of momenta (k, ions, 3), and log_q (k, n)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Everything that determines the draws, the momenta among them."""

    source: Source
    constants: Arrays  #: masses, charges, numbers, as far as all events share
    origin: dict[str, Any]  #: what the momenta come from, for the configuration
    sampler: Sampler
    described: dict[str, Any]  #: what the sampler is, ready for JSON
    draws: int  #: for each event
    outside: Callable[..., np.ndarray] | None = None  #: momenta, noise -> (k,) bool
    noise: float | None = None  #: of each component of a momentum, relative to its length
    add_noise: bool = False  #: whether it is yet to be added to the momenta
    seed: int = 1

    def __post_init__(self):
        held = {*self.constants, *self.source.by_event}
        missing = [name for name in ("momenta", "masses", "charges") if name not in held]
        if missing:
            msg = f"no {' and no '.join(missing)} to draw with; there are {sorted(held)}"
            raise InvalidDataError(msg)

    @property
    def block(self) -> int:
        """Return how many events are drawn for together."""
        return int(np.clip(_TOGETHER // self.draws, 1, 1024))

    @property
    def shard_events(self) -> int:
        """Return how many events an interrupted run may lose."""
        return _SHARD_BLOCKS * self.block

    def configuration(self) -> dict[str, Any]:
        """Return, ready for JSON, all that determines the draws, their count apart."""
        return {
            **self.origin,
            "sampler": self.described,
            "draws": self.draws,
            "noise": self.noise,
            "noise_added": self.add_noise,
            "seed": self.seed,
            "block": self.block,
            "log_density": "mass-weighted Cartesian coordinates about the centre of mass",
            **{name: array.tolist() for name, array in self.constants.items()},
            "versions": {"coulex": __version__, "numpy": np.__version__},
        }

    def bytes_per_event(self) -> int:
        """Return what an event takes in a file."""
        ions = len(self.constants.get("masses", ())) or len(self.source.symbols)
        return 8 * (3 * ions * (self.draws + 3) + 3 * self.draws + ions + 2)

    def events(self, given: Arrays, first: int) -> Arrays:
        """Draw for a block of events.

        Parameters
        ----------
        given : dict of arrays
            As the source yields them.
        first : int
            Number of the first event.

        Returns
        -------
        dict
            Arrays by event, and the flat lists, whose events count from the first of the
            block. Draws that are not finite are left out.
        """
        rng = np.random.default_rng([self.seed, first])
        momenta, charges = given["momenta"].astype(np.float64), self._of(given, "charges")
        masses = self._of(given, "masses")
        moves = np.asarray((momenta != 0).any(axis=(1, 2)))
        usable = np.asarray(np.isfinite(momenta).all(axis=(1, 2))) & moves
        if "status" in given:
            usable &= given["status"] == 0
        momenta[~usable] = np.nan
        if self.noise is None:
            momenta = _centred(momenta, masses)
        elif self.add_noise:
            momenta = _noisy(momenta, self.noise, rng)
        else:
            momenta = without_sum(momenta, self.noise)
        rows = np.flatnonzero(usable)
        own = charges if charges.ndim == 1 else charges[rows]
        about = {"charges": own, "masses": masses, "noise": self.noise}
        x, log_q = self.sampler(momenta[rows], self.draws, rng=rng, **about)
        if x.shape != (len(rows), self.draws, *momenta.shape[1:]):
            msg = (
                f"the sampler must return ({len(rows)}, {self.draws}, ions, 3), got {x.shape}"
            )
            raise ValueError(msg)
        kept = {name: given[name] for name in ("initial_positions",) if name in given}
        if charges.ndim == 2:
            kept["charges"] = charges
        if self.outside is not None:
            beyond = np.zeros(len(momenta), np.uint8)
            beyond[rows] = self.outside(momenta[rows], self.noise)
            kept["outside_training"] = beyond
        return {**kept, "momenta": momenta, **_lists(x, log_q, rows, momenta.shape)}

    def _of(self, given: Arrays, name: str) -> np.ndarray:
        return np.asarray(self.constants.get(name, given.get(name)), np.float64)


def _centred(momenta: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Return momenta as seen from the centre of mass, where they add up to zero."""
    total = momenta.sum(axis=1)
    size = np.linalg.norm(momenta.reshape(len(momenta), -1), axis=1)
    total[np.linalg.norm(total, axis=1) <= _SUM_ROUNDING * size] = 0.0
    return momenta - total[:, None] * (masses / masses.sum())[:, None]


def _noisy(momenta: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Return momenta with noise that adds up to zero, as `coulex.inverse.posterior` has it."""
    variance = (momenta**2).sum(axis=2, keepdims=True)
    off = noise * np.sqrt(variance) * rng.normal(size=momenta.shape)
    share = variance / variance.sum(axis=1, keepdims=True)
    return momenta + off - share * off.sum(axis=1, keepdims=True)


def _lists(x: np.ndarray, log_q: np.ndarray | None, rows, shape) -> Arrays:
    """Return draws (k, n, ions, 3) of the events `rows` as flat lists, and their means."""
    good = np.asarray(np.isfinite(x).all(axis=(2, 3)))
    numbers, positions = np.zeros(shape[0], np.int32), np.full(shape, np.nan)
    numbers[rows] = good.sum(axis=1)
    some = np.asarray(good.any(axis=1))
    kept = np.where(good[:, :, None, None], x, 0.0)[some]
    positions[rows[some]] = kept.sum(axis=1) / good[some].sum(axis=1)[:, None, None]
    event = np.broadcast_to(rows[:, None], good.shape)[good]
    out = {
        "positions": positions,
        "n_solutions": numbers,
        "solution_event": event.astype(np.int64),
        "solution_positions": x[good].astype(np.float64),
        "solution_weight": 1.0 / numbers[event],
    }
    if log_q is not None:
        out["solution_log_density"] = np.asarray(log_q, np.float64)[good]
    return out


def some_of(
    source: Source,
    keep: Callable[[int, int], np.ndarray] | None = None,
    most: int | None = None,
) -> Source:
    """Return the events of a source that are kept, numbered anew.

    Parameters
    ----------
    source : Source
    keep : callable, optional
        Of the number of the first event of a block, and of how many: (count,) bool.
    most : int, optional
        The first so many of them.
    """

    def rows() -> Iterator[Arrays]:
        number = 0
        for block in source.blocks(_READ):
            count = len(block["momenta"])
            mine = np.ones(count, bool) if keep is None else keep(number, count)
            number += count
            yield {name: array[mine] for name, array in block.items()}

    def blocks(size: int) -> Iterator[Arrays]:
        left, rest = wanted, {}
        for block in rows():
            rest = {n: np.concatenate([rest[n], a]) if rest else a for n, a in block.items()}
            while left and len(rest["momenta"]) >= min(size, left):
                count = min(size, left)
                yield {name: array[:count] for name, array in rest.items()}
                rest, left = (
                    {name: array[count:] for name, array in rest.items()},
                    left - count,
                )
            if not left:
                return

    total = source.n_events
    if keep is not None:
        total = sum(
            int(keep(first, min(_READ, source.n_events - first)).sum())
            for first in range(0, source.n_events, _READ)
        )
    wanted = total if most is None else min(most, total)
    return replace(source, n_events=wanted, blocks=blocks)
