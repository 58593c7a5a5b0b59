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
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .explosions import Explosions, checked, runner
from .linear import complement, orthonormalize

VARIABLES = ("positions", "initial_momenta", "charges")


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
    space = _Space(x, p if len(p) else None, m, np.broadcast_to(q, x.shape[:2]), tuple(wrt))
    given, ranks = space.known(), np.empty(len(x), np.int64)
    known = given.copy()
    orthonormalize(known, np.zeros((*known.shape[:2], 0)), ranks)

    ions = len(m)
    result = Explosions.empty(len(x), ions, run.lanes.dtype)
    whole = np.full((len(x), 3 * ions, space.scale.shape[1]), np.nan)
    for rank in np.unique(ranks):
        chosen = np.flatnonzero(ranks == rank)
        here_x, here_p, here_q = (a[chosen] if len(a) == len(x) else a for a in (x, p, q))
        basis, here = known[chosen], space.only(chosen)
        rest = np.empty((len(chosen), known.shape[2] - rank, known.shape[2]))
        complement(basis, rest)
        directions = np.zeros((len(chosen), rest.shape[1], 7 * ions))
        directions[:, :, space.columns] = rest * here.scale[:, None]
        part, changes = run(here_x, here_p, here_q, directions)
        result.put(chosen, part)
        images = here.images(part.momenta)
        orthonormalize(given[chosen], images, ranks[chosen])
        changes = changes.reshape(*rest.shape[:2], 3 * ions)
        whole[chosen] = images[:, :rank].swapaxes(1, 2) @ basis[:, :rank]
        whole[chosen] += changes.swapaxes(1, 2) @ rest
    return Jacobian(result, **space.parts(whole / space.scale[:, None]))


@dataclass(frozen=True)
class _Space:
    """The variables that are asked for, in units that make them alike.

    They stand one behind the other: positions, initial momenta, charges.
    """

    x: np.ndarray
    p0: np.ndarray | None
    masses: np.ndarray
    q: np.ndarray
    wrt: tuple[str, ...]

    @property
    def columns(self) -> np.ndarray:
        """Return where the variables stand among all 7 of every ion."""
        size = 3 * len(self.masses)
        all_of = np.split(np.arange(2 * size + size // 3), [size, 2 * size])
        return np.concatenate(
            [c for name, c in zip(VARIABLES, all_of, strict=True) if name in self.wrt]
        )

    @cached_property
    def scale(self) -> np.ndarray:
        """Return the unit of every variable, (n, variables)."""
        x = self.x - self.x[:, :1]
        root = np.repeat(np.sqrt(self.masses), 3)
        size = np.linalg.norm(x, axis=(1, 2), keepdims=True)[:, 0]
        charge = np.linalg.norm(self.q, axis=1, keepdims=True)
        every = [size / root, charge / np.sqrt(size) * root, charge + 0 * self.q]
        return np.concatenate(every, axis=1)[:, self.columns]

    def only(self, chosen):
        """Return the variables of some events."""
        p0 = None if self.p0 is None else self.p0[chosen]
        return _Space(self.x[chosen], p0, self.masses, self.q[chosen], self.wrt)

    def _tied(self) -> list[str]:
        """Return the kinds of known directions that lie in the space."""
        x, p0, q = (name in self.wrt for name in VARIABLES)
        turns = p0 or self.p0 is None
        kinds = {"translation": x, "boost": p0, "rotation": x and turns, "size": x and turns}
        kinds |= {"charge": q and turns, "start": p0 and (x or self.p0 is None)}
        return [kind for kind, there in kinds.items() if there]

    def known(self) -> np.ndarray:
        """Return the known directions, (n, directions, variables)."""
        none = np.zeros_like(self.x)
        p0 = none if self.p0 is None else self.p0
        shape = (len(self.x), 3 * len(self.masses))
        vectors = [np.empty((len(self.x), 0, self.scale.shape[1]))]
        for kind in self._tied():
            ways: list[tuple] = []
            if kind in ("translation", "boost"):
                along = np.eye(3)[:, None, None] + none
                weight = self.masses[:, None]
                shift = kind == "translation"
                ways = [(e, none, 0) if shift else (none, weight * e, 0) for e in along]
            elif kind == "rotation":
                ways = [(np.cross(e, self.x), np.cross(e, p0), 0) for e in np.eye(3)]
            elif kind == "size":
                ways = [(self.x - self.x[:, :1], -0.5 * p0, 0)]
            elif kind == "charge":
                ways = [(none, p0, self.q)]
            elif kind == "start":
                ways = [(p0 / self.masses[:, None], _forces(self.x, self.q), 0)]
            for dx, dp, dq in ways:
                flat = [dx.reshape(shape), dp.reshape(shape), dq + 0 * self.q]
                inside = np.concatenate(flat, axis=1)[:, self.columns]
                vectors.append((inside / self.scale)[:, None])
        return np.concatenate(vectors, axis=1)

    def images(self, p: np.ndarray) -> np.ndarray:
        """Return how momenta `p` change along them, (n, directions, 3 ions)."""
        p, none = p.astype(float), np.zeros(p.shape)
        changes = {
            "translation": [none] * 3,
            "boost": [self.masses[:, None] * e + none for e in np.eye(3)],
            "rotation": [np.cross(e, p) for e in np.eye(3)],
            "size": [-0.5 * p],
            "charge": [p],
            "start": [none],
        }
        chosen = [change for kind in self._tied() for change in changes[kind]]
        images = np.empty((len(p), len(chosen), p.shape[1] * 3))
        for k, change in enumerate(chosen):
            images[:, k] = change.reshape(len(p), p.shape[1] * 3)
        return images

    def parts(self, whole: np.ndarray) -> dict[str, np.ndarray | None]:
        """Return a Jacobian (n, 3 ions, variables) by what it is with respect to."""
        count, ions, _ = self.x.shape
        shapes = [(ions, 3, ions, 3), (ions, 3, ions, 3), (ions, 3, ions)]
        parts, first = {}, 0
        for name, shape in zip(VARIABLES, shapes, strict=True):
            parts[name] = None
            if name in self.wrt:
                last = first + int(np.prod(shape[2:]))
                parts[name] = whole[:, :, first:last].reshape(count, *shape)
                first = last
        return parts


def _forces(x, q):
    """Return the Coulomb forces (n, ions, 3)."""
    r = x[:, :, None] - x[:, None]
    cube = np.linalg.norm(r, axis=-1) ** 3 + np.diag(np.full(x.shape[1], np.inf))
    return np.einsum("ni,nj,nijk->nik", q, q, r / cube[..., None])
