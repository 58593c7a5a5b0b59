"""How asymptotic momenta change with what an explosion starts from: the Jacobian.

The variational equations are integrated with the explosion, for one direction in the space of
positions, initial momenta and charges after the other. Along some directions the answer is
known, and only the others cost anything:

    translation       dx = e                  dp = 0
    boost             dp0 = m e               dp = m e
    rotation          dx = e × x, dp0 = e × p0       dp = e × p
    size              dx = x, dp0 = -p0/2     dp = -p/2
    charge            dq = q, dp0 = p0        dp = p
    start             dx = p0/m, dp0 = F(x)   dp = 0

With e along three axes these are seven for the positions of an event from rest, where
3 ions - 7 columns are left; one more of collinear ions, which no rotation about their line
changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .explosions import Explosions, checked, in_blocks, runner
from .linear import put_together, rest_of_space, split

VARIABLES = ("positions", "initial_momenta", "charges")

_BLOCK = 2048  #: events whose matrices stay near the processor


@dataclass(frozen=True)
class Jacobian:
    """Explosions, and the derivatives of their momenta; None where not asked for."""

    explosions: Explosions
    positions: np.ndarray | None  #: (n, ions, 3, ions, 3): d momenta / d positions
    initial_momenta: np.ndarray | None  #: (n, ions, 3, ions, 3)
    charges: np.ndarray | None  #: (n, ions, 3, ions)


def jacobian(
    positions,
    masses,
    charges,
    *,
    initial_momenta=None,
    wrt: Sequence[str] = ("positions",),
    **options,
) -> Jacobian:
    """Simulate explosions, and differentiate their asymptotic momenta.

    Parameters
    ----------
    positions, masses, charges, initial_momenta
        As for `coulex.simulate`.
    wrt : sequence of {"positions", "initial_momenta", "charges"}
        With respect to what.
    **options
        `tolerance`, `precision`, `threads` and others of `coulex.simulate`.

    Returns
    -------
    Jacobian
        Derivatives in atomic units, indexed by the component of momenta first. They are
        integrated with the steps that the momenta need, and not a number in events that fail.

    Raises
    ------
    ValueError
        As `coulex.simulate`; if `wrt` names something else.
    """
    unknown = sorted(set(wrt) - set(VARIABLES))
    if unknown or not wrt:
        msg = f"wrt must name some of {', '.join(VARIABLES)}, got {list(wrt)}"
        raise ValueError(msg)
    x, p, m, q = checked(
        positions, initial_momenta, masses, charges, options.pop("allow_attraction", False)
    )
    run = runner(m, **options)
    one, size = replace(run, threads=1), 3 * len(m)
    result = Explosions.empty(len(x), len(m), run.lanes.dtype)
    columns = _columns(len(m), tuple(wrt))
    whole = np.empty((len(x), size, len(columns)))

    def work(first, last):
        here = slice(first, last)
        given = tuple(a[here] if len(a) == len(x) else a for a in (x, p, q))
        result.put(here, _differentiate(one, given, tuple(wrt), columns, whole[here]))

    in_blocks(len(x), run.threads, _BLOCK, lambda: work)
    return Jacobian(result, **_parts(whole, len(m), wrt))


def _differentiate(run, given, wrt, columns, whole):
    """Return the explosions of some events; write Jacobians (n, 3 ions, variables)."""
    x, p, q = given
    ions = len(run.masses)
    space = _Space(
        _last(x),
        _last(p) if len(p) else None,
        run.masses,
        _last(q + 0 * x[:, :, 0]),
        wrt,
        columns,
    )
    known = space.known()
    basis, lower = np.empty_like(known), np.empty((len(known), len(known), len(x)))
    ranks = np.empty(len(x), np.int64)
    split(known, basis, lower, ranks)

    result = Explosions.empty(len(x), ions, run.lanes.dtype)
    for rank in np.unique(ranks):
        every = (ranks == rank).all()
        chosen = slice(None) if every else np.flatnonzero(ranks == rank)
        own = basis if every else np.ascontiguousarray(basis[:, :, chosen])
        rest = np.empty((len(columns) - rank, len(columns), own.shape[2]))
        rest_of_space(own, rest)
        directions = np.zeros((own.shape[2], len(rest), 7 * ions))
        units, places = np.ascontiguousarray(space.scale[:, chosen]), np.arange(len(x))[chosen]
        directions[:, :, columns] = (rest * units).transpose(2, 0, 1)
        part, changes = run(
            *(a[chosen] if len(a) == len(x) else a for a in (x, p, q)), directions
        )
        changes = changes.reshape(*changes.shape[:2], 3 * ions)
        images = space.images(_last(part.momenta.astype(float)))
        factors = lower if every else np.ascontiguousarray(lower[:, :, chosen])
        put_together(images, factors, own, changes, rest, units, places, whole)
        result.put(chosen, part)
    return result


def _last(array):
    """Return the array with its events last, side by side."""
    return np.ascontiguousarray(np.moveaxis(array, 0, -1))


def _columns(ions, wrt):
    """Return where the variables of `wrt` stand among all 7 of every ion."""
    every = np.split(np.arange(7 * ions), [3 * ions, 6 * ions])
    return np.concatenate([c for name, c in zip(VARIABLES, every, strict=True) if name in wrt])


def _parts(whole, ions, wrt):
    """Return Jacobians (n, 3 ions, variables) by what they are with respect to."""
    shapes = [(ions, 3, ions, 3), (ions, 3, ions, 3), (ions, 3, ions)]
    parts, first = {}, 0
    for name, shape in zip(VARIABLES, shapes, strict=True):
        parts[name] = None
        if name in wrt:
            last = first + int(np.prod(shape[2:]))
            parts[name] = whole[:, :, first:last].reshape(len(whole), *shape)
            first = last
    return parts


@dataclass(frozen=True)
class _Space:
    """The variables that are asked for, in units that make them alike.

    They stand one behind the other: positions, initial momenta, charges. Events are the last
    index of all arrays.
    """

    x: np.ndarray  #: (ions, 3, n)
    p0: np.ndarray | None
    masses: np.ndarray
    q: np.ndarray  #: (ions, n)
    wrt: tuple[str, ...]
    columns: np.ndarray

    @cached_property
    def scale(self) -> np.ndarray:
        """Return the unit of every variable, (variables, n)."""
        root = np.repeat(np.sqrt(self.masses), 3)[:, None]
        size = np.sqrt(((self.x - self.x[0]) ** 2).sum(axis=(0, 1)))
        charge = np.sqrt((self.q**2).sum(axis=0))
        every = [size / root, charge / np.sqrt(size) * root, charge + 0 * self.q]
        return np.concatenate(every)[self.columns]

    def _tied(self) -> list[str]:
        """Return the kinds of known directions that lie in the space."""
        x, p0, q = (name in self.wrt for name in VARIABLES)
        turns = p0 or self.p0 is None
        kinds = {"translation": x, "boost": p0, "rotation": x and turns, "size": x and turns}
        kinds |= {"charge": q and turns, "start": p0 and (x or self.p0 is None)}
        return [kind for kind, there in kinds.items() if there]

    def known(self) -> np.ndarray:
        """Return the known directions, (directions, variables, n)."""
        x, p0 = self.x - self.x[0], 0 * self.x if self.p0 is None else self.p0
        kinds = self._tied()
        ions, _, count = x.shape
        every = np.zeros((sum(map(_ways, kinds)), 7 * ions, count))
        dx, dp, dq = np.split(every, [3 * ions, 6 * ions], axis=1)
        dx, dp = (a.reshape(len(every), ions, 3, count) for a in (dx, dp))
        first = 0
        for kind in kinds:
            rows = slice(first, first + _ways(kind))
            first = rows.stop
            if kind == "translation":
                dx[rows] = np.eye(3)[:, None, :, None]
            elif kind == "boost":
                dp[rows] = (np.eye(3)[:, None] * self.masses[:, None])[..., None]
            elif kind == "rotation":
                _turn(x, dx[rows])
                _turn(p0, dp[rows])
            elif kind == "size":
                dx[rows], dp[rows] = x, -0.5 * p0
            elif kind == "charge":
                dp[rows], dq[rows] = p0, self.q
            elif kind == "start":
                dx[rows], dp[rows] = p0 / self.masses[:, None, None], _forces(x, self.q)
        return every[:, self.columns] / self.scale

    def images(self, p: np.ndarray) -> np.ndarray:
        """Return how momenta `p` (ions, 3, n) change along them, (directions, 3 ions, n)."""
        kinds = self._tied()
        ions, _, count = p.shape
        images = np.zeros((sum(map(_ways, kinds)), ions, 3, count))
        first = 0
        for kind in kinds:
            rows = slice(first, first + _ways(kind))
            first = rows.stop
            if kind == "boost":
                images[rows] = (np.eye(3)[:, None] * self.masses[:, None])[..., None]
            elif kind == "rotation":
                _turn(p, images[rows])
            elif kind in ("size", "charge"):
                images[rows] = p if kind == "charge" else -0.5 * p
        return images.reshape(len(images), 3 * ions, count)


def _ways(kind):
    """Return how many directions of one kind there are."""
    return 3 if kind in ("translation", "boost", "rotation") else 1


def _turn(vectors, out):
    """Write e × vectors (ions, 3, n) for e along the three axes."""
    for k in range(3):
        one, two = (k + 1) % 3, (k + 2) % 3
        out[k, :, one], out[k, :, two] = -vectors[:, two], vectors[:, one]


def _forces(x, q):
    """Return the Coulomb forces (ions, 3, n)."""
    r = x[:, None] - x
    cube = np.sqrt((r**2).sum(axis=2)) ** 3
    cube += np.diag(np.full(len(x), np.inf))[..., None]
    return np.einsum("in,jn,ijkn->ikn", q, q, r / cube[:, :, None])
