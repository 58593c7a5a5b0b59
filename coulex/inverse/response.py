"""How the shape of the momenta responds to the shape of a molecule, and where it does not.

Positions times sqrt(m) and momenta over sqrt(m), each divided by its length, change by steps
in what is left of them beside translation, rotation and size. The matrix K between orthonormal
bases of the two has 3 ions - 7 rows and columns (one more for collinear ions). Where its
determinant vanishes, at a fold, two geometries with the same momenta meet.

Along the weakest direction the momenta change by s sigma u + s**2 kappa / 2: the fold lies at
about s = -sigma/kappa, and behind it, at twice that, the other geometry.
"""

from dataclasses import dataclass, fields

import numpy as np

from coulex.explosions import checked, runner
from coulex.linear import complement, orthonormalize

_TIGHT = 1e-13  #: of the simulation for second differences, as of that which proves solutions

#: share of the size by which a geometry is bent to find the curvature
_BEND = 1e-2
#: share of the size, off a line, up to which ions are collinear
_LINE = 1e-6


@dataclass(frozen=True)
class Response:
    """The Jacobian of geometries, taken apart."""

    momenta: np.ndarray  #: (n, ions, 3), asymptotic
    singular_values: (
        np.ndarray
    )  #: (n, unknowns), of K, descending; zeros where there are fewer
    unknowns: np.ndarray  #: (n,)
    sign: np.ndarray  #: (n,), of the determinant of d momenta / d positions
    log_determinant: np.ndarray  #: (n,), of it, mass-weighted, without translations
    weakest: np.ndarray  #: (n, ions, 3), change of positions that the momenta see least, bohr
    answer: np.ndarray  #: (n, 3 ions), unit change of momenta over sqrt(m) along it

    def at(self, rows) -> "Response":
        """Return the response of some geometries."""
        return Response(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def condition(self) -> np.ndarray:
        """Return the condition number of K, (n,)."""
        if not self.unknowns.any():  # two ions have no shape
            return np.ones(len(self.unknowns))
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.singular_values[:, 0] / self.least

    @property
    def least(self) -> np.ndarray:
        """Return the least singular value of each, (n,)."""
        last = self.unknowns[:, None] - 1
        return np.take_along_axis(self.singular_values, last, axis=1)[:, 0]


def joined(parts: list[Response]) -> Response:
    """Return several as one."""
    names = [field.name for field in fields(Response)]
    return Response(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def response(positions, masses, charges, *, threads=None) -> Response:
    """Take the Jacobian of explosions from rest apart.

    Parameters
    ----------
    positions : (n, ions, 3) array
        In bohr; three ions at least.
    masses : (ions,) array
    charges : (ions,) or (n, ions) array
    threads : int, optional

    Returns
    -------
    Response
        Not a number where the simulation fails.
    """
    x, _, m, q = checked(positions, None, masses, charges)
    count, ions, _ = x.shape
    run, root = runner(m, threads=threads), np.sqrt(m)[:, None]
    middle = np.einsum("nik,i->nk", x, m)[:, None] / m.sum()
    u = (x - middle) * root
    size = np.linalg.norm(u, axis=(1, 2))
    unit = u / size[:, None, None]
    square = np.einsum("nia,nib->nab", unit, unit)
    inertia, axes = np.linalg.eigh(np.eye(3) - square)
    line = inertia[:, 0] < _LINE**2
    ranks = np.where(line, 6, 7)
    known, spins = _gauge(unit, root, axes, line)
    out = Response(
        np.full(x.shape, np.nan),
        np.zeros((count, max(3 * ions - 6, 0))),
        3 * ions - ranks,
        np.full(count, np.nan),
        np.full(count, np.nan),
        np.full(x.shape, np.nan),
        np.full((count, 3 * ions), np.nan),
    )
    for rank in np.unique(ranks):
        chosen = np.flatnonzero(ranks == rank)
        number = 3 * ions - rank
        ways = np.empty((len(chosen), number, 3 * ions))
        complement(known[chosen], ways)
        steps = (
            ways.reshape(len(chosen), number, ions, 3) / root * size[chosen, None, None, None]
        )
        directions = np.zeros((len(chosen), number, 7 * ions))
        directions[:, :, : 3 * ions] = steps.reshape(len(chosen), number, 3 * ions)
        own = q[chosen] if len(q) > 1 else q
        explosions, changes = run(x[chosen], np.empty((0, ions, 3)), own, directions)
        good = np.asarray(np.isfinite(explosions.momenta).all(axis=(1, 2)))
        v = np.where(good[:, None, None], explosions.momenta, 1.0) / root
        speed = np.linalg.norm(v, axis=(1, 2))
        image, image_spins = _gauge(v / speed[:, None, None], root, axes[chosen], line[chosen])
        seen = np.empty_like(ways)
        complement(image, seen)
        answers = np.where(good[:, None, None, None], changes, 0.0) / root
        answers = answers.reshape(len(chosen), number, 3 * ions) / speed[:, None, None]
        k = np.einsum("nai,nbi->nba", answers, seen)  # rows: momenta
        left, values, right = np.linalg.svd(k)
        turned = [
            np.linalg.det(np.concatenate([a[:, :rank], b], axis=1))
            for a, b in ((known[chosen], ways), (image, seen))
        ]
        sign = np.sign(np.linalg.det(k)) * np.sign(turned[0] * turned[1])
        with np.errstate(divide="ignore"):
            log = np.log(values).sum(axis=1) + np.log(0.5)
        log += (3 * ions - 3) * np.log(speed / size[chosen])
        log += image_spins - spins[chosen]
        out.momenta[chosen] = explosions.momenta
        out.singular_values[chosen, :number] = values
        out.sign[chosen] = np.where(good, -sign, np.nan)  # the size goes with -p/2
        out.log_determinant[chosen] = np.where(good, log, np.nan)
        if number:
            out.weakest[chosen] = np.einsum("na,naij->nij", right[:, -1], steps)
            out.answer[chosen] = np.einsum("na,nai->ni", left[:, :, -1], seen)
    return out


def _gauge(unit, root, axes, line):
    """Return the orthonormal rows of translation, rotation and size, and a volume.

    Rotations are about `axes`, but not about the first for ions on a `line`. The volume is the
    logarithm of that of the rotations.
    """
    count, ions, _ = unit.shape
    rows = np.zeros((count, 7, ions, 3))
    for k, e in enumerate(np.eye(3)):
        rows[:, k] = root * e
        rows[:, 3 + k] = np.cross(axes[:, None, :, k], unit)
    rows[line, 3] = 0.0
    rows[:, 6] = unit
    volume = np.einsum("nkia,nlia->nkl", rows[:, 3:6], rows[:, 3:6])
    volume[line, 0, 0] = 1.0
    rows = rows.reshape(count, 7, 3 * ions)
    orthonormalize(rows, np.empty((count, 7, 0)), np.empty(count, np.int64))
    return rows, 0.5 * np.linalg.slogdet(volume)[1]


def across_fold(found: Response, positions, masses, charges, *, threads=None) -> np.ndarray:
    """Return s of the fold, in units of `weakest`, with its sign; infinite without a fold.

    Parameters are those of `response`. The other geometry lies at about twice that.
    """
    x, _, m, q = checked(positions, None, masses, charges)
    if not len(x):
        return np.empty(0)
    run, root = runner(m, tolerance=_TIGHT, threads=threads), np.sqrt(m)[:, None]
    start = np.empty((0, *x.shape[1:]))
    step = np.where(np.isfinite(found.weakest), found.weakest, 0.0)
    # so short that no distance changes by much
    nearest = _closest(x) / np.linalg.norm(step, axis=2).max(axis=1).clip(1e-300)
    bend = np.minimum(_BEND, 0.1 * nearest)
    ahead, behind = (
        run(x + s * bend[:, None, None] * step, start, q)[0].momenta for s in (1.0, -1.0)
    )
    speed = np.linalg.norm(found.momenta / root, axis=(1, 2))
    second = (ahead + behind - 2 * found.momenta) / root / (speed * bend**2)[:, None, None]
    kappa = np.einsum("ni,ni->n", second.reshape(len(x), -1), found.answer)
    with np.errstate(divide="ignore", invalid="ignore"):
        return -found.least / kappa


def _closest(x):
    """Return the shortest distance of each geometry."""
    r = np.linalg.norm(x[:, :, None] - x[:, None], axis=-1)
    return (r + np.diag(np.full(x.shape[1], np.inf))).min(axis=(1, 2))
