"""All shapes of three ions in one table, read backwards: from momenta to every geometry.

From rest, the size of a molecule follows from the energy, so that an explosion maps shapes of
triangles to shapes of triangles, two numbers to two. The map is smooth but not one-to-one; it
is tabulated once, by polynomials on adaptive cells, and every cell whose image may hold a
measured shape is then searched.

**Geometry.** The shortest side (v, s) of a triangle and its third corner o choose one of three
charts; in it t = ln(r_vs / r_vo) from -7 to 0 and the angle α at v from 0 to π. The logarithm
resolves the collision of v and s, and as each chart ends where another side is the shortest,
no chart holds another collision. (One strip for all shapes, about one central ion, has the
third collision as a point singularity at its corner, and ends in thousands of tiny cells.)
Mirror images are planar, hence rotations, and one of each pair is enough. Shapes whose sides
differ by more than e^7 = 1100 are not searched. Nor are the cells in `unresolved`: an ion that
is sent head-on from one to another and back depends on its aim ever more finely.

**Image.** Jacobi vectors of the momenta, weighted by masses, ρ₁ ~ v₁ - v₀ and ρ₂ ~ v₂ - v₀₁,
scaled to |ρ₁|² + |ρ₂|² = 1 and read as complex numbers of the plane, are tabulated: they hold
the orientation, too. The shape alone is Kendall's point (Hopf's map)

    s = (|ρ₁|² - |ρ₂|², 2 ρ₁·ρ₂, 2 ρ₁×ρ₂),    |s| = 1,

smooth everywhere, collinear momenta at s₃ = 0. (Dalitz's energies are a projection of s, with
a fold there.) Of 6e5 shapes of ten molecules, from equal ions to masses of 1 : 100 and charges
of 1 : 10, none turned over: s₃ > 0 for all that are not collinear, so that a measured shape,
which has no orientation, has one s.

**Search.** Cells are cut into patches of three kinds. On a plain one the Jacobian stays close
to that at the centre, and Newton's method finds the only pre-image. On all others one
combination of image coordinates still gives one parameter as a function of the other. That
curve is climbed where the determinant has one sign, so that there is one pre-image at most;
where it may change sign, at a fold, the curve is followed from side to side, and every change
of sign of the other image coordinate, and every extremum that touches zero, is a pre-image.
Bins over (s₁, s₂) tell which patches to search. Signs and bounds of a patch are those on a
grid of 7 × 7 points that reaches beyond its rim, with margins: of a polynomial that is cut
until it is nearly linear they are safe, and far tighter than Bernstein's coefficients.

References
----------
D. G. Kendall, Bull. London Math. Soc. 16, 81 (1984), doi:10.1112/blms/16.2.81.
"""

import hashlib
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.polynomial import chebyshev

from ..explosions import available_threads, simulate
from .preimages import BINS, DEGREE, ROW, SLOTS, classify, geometries, image, search

#: the closest collision that is searched, as ln of a ratio of sides
CLOSEST = -7.0

_NODES = DEGREE + 1
_TOLERANCE = 1e-12  #: of the explosions
_INTERPOLATION = 1e-9  #: of the tabulated numbers, which are at most one
_SAFETY = 4.0  #: between the largest error measured and the error stated
_LEVELS = (
    20  #: of cells, each a halving: head-on returns between ions have ever finer structure
)
_PATCH_LEVELS = 10
_BLOCK = 1 << 12
_VERSION = 1


@dataclass(frozen=True)
class Table:
    """The map from shapes to momenta of three ions from rest, and its inverse."""

    masses: np.ndarray  #: (3,), electron masses, in the order of the caller
    charges: np.ndarray  #: (3,)
    order: np.ndarray  #: (3,), the caller's ions by mass and charge: ions of the arrays below
    error: (
        float  #: bound on the error of the tabulated Jacobi vectors, measured, with a factor
    )
    cells: np.ndarray  #: (cells, 5), chart, centre and half width in t, in α
    unresolved: np.ndarray  #: (., 5), of cells too fine to resolve, which are not searched
    coefficients: np.ndarray  #: (cells, degree + 1, 4 (degree + 1)), of powers of α, of t
    parents: np.ndarray  #: (patches,), cell of a patch
    patches: np.ndarray  #: (patches, 4), centre and half width in its cell's u, v
    kinds: np.ndarray  #: (patches,), 0 plain, 1, 2 climbed, 3, 4 followed along u, v
    centres: np.ndarray  #: (patches, 3), image of the centre
    frames: np.ndarray  #: (patches, 2, 3), two image coordinates about it
    bends: np.ndarray  #: (patches, 2), linear and square part of the second in the first
    bounds: np.ndarray  #: (patches, 2, 2), of the first, and of the second less these parts
    bins: np.ndarray  #: (bins² + 1,), where the patches of a bin begin
    members: np.ndarray  #: patches by bin

    @classmethod
    def build(cls, masses, charges, *, threads=None) -> "Table":
        """Tabulate all shapes of three ions.

        Parameters
        ----------
        masses : (3,) array
            In electron masses; only ratios matter.
        charges : (3,) array
            In elementary charges, positive; only ratios matter.
        threads : int, optional
            As many as the process may use, unless given. The table does not depend on it.

        Raises
        ------
        ValueError
            If there are not three ions, or a mass or charge is not positive.
        """
        masses, charges = _checked(masses, charges)
        order, m, q = _ratios(masses, charges)
        cells, coefficients, unresolved, error = _interpolate(m, q, threads)
        arrays = _patches(cells, coefficients)
        bins, members = _binned(arrays.pop("boxes"))
        return cls(
            masses,
            charges,
            order,
            error,
            cells,
            unresolved,
            coefficients,
            bins=bins,
            members=members,
            **arrays,
        )

    def candidates(self, momenta, *, threads=None):
        """Return every geometry that explodes into the momenta.

        Parameters
        ----------
        momenta : (n, 3, 3) array
            Asymptotic, atomic units. A common motion of all ions is ignored.
        threads : int, optional
            As many as the process may use, unless given. The result does not depend on it.

        Returns
        -------
        event : (m,) int64 array
            Ascending; events without a geometry, without energy or with a momentum that is not
            finite do not occur.
        positions : (m, 3, 3) array
            In bohr, about the centre of mass, oriented as the momenta demand.

        Raises
        ------
        ValueError
            If the shape is not (n, 3, 3).

        Notes
        -----
        Momenta of the candidates are right to a few times `error`. So are the shapes, but near
        a fold: at a distance d from it they are right to `error` / d, at the fold to the root
        of `error`, and two solutions closer than that may be returned as one.
        """
        p = np.ascontiguousarray(momenta, dtype=float)
        if p.ndim != 3 or p.shape[1:] != (3, 3):
            msg = f"momenta must be (n, 3, 3), got {p.shape}"
            raise ValueError(msg)
        firsts = range(0, len(p), _BLOCK)
        workers = min(available_threads() if threads is None else int(threads), len(firsts))
        if workers <= 1:
            parts = [self._block(p, first) for first in firsts]
        else:
            with ThreadPoolExecutor(workers) as pool:
                parts = list(pool.map(lambda first: self._block(p, first), firsts))
        none = (np.empty(0, np.int64), np.empty((0, 3, 3)))
        events, positions = zip(none, *parts, strict=True)
        return np.concatenate(events), np.concatenate(positions)

    def count(self, momenta, *, threads=None):
        """Return the number of geometries (n,) that explode into each of the momenta."""
        event, _ = self.candidates(momenta, threads=threads)
        return np.bincount(event, minlength=len(momenta))

    def _block(self, momenta, first):
        """Return events and positions of one block."""
        p = np.ascontiguousarray(momenta[first : first + _BLOCK, self.order])
        m, q = self.masses[self.order], self.charges[self.order]
        images, jacobi = np.empty((len(p), 3)), np.empty((len(p), 2, 3))
        image(images, jacobi, p, m)
        found = np.zeros(len(p), np.int64)
        shapes = np.empty((len(p), SLOTS, 5))
        search(
            found,
            shapes,
            images,
            self.error,
            self.cells,
            self.coefficients,
            self.parents,
            self.patches,
            self.kinds,
            self.centres,
            self.frames,
            self.bends,
            self.bounds,
            self.bins,
            self.members,
        )
        assert found.max(initial=0) <= SLOTS, "an event has more pre-images than slots"
        event = np.repeat(np.arange(len(p)), found)
        shapes = shapes[np.arange(SLOTS) < found[:, None]]
        x = np.empty((len(event), 3, 3))
        geometries(x, event, shapes, self.cells, self.coefficients, jacobi, m, q)
        positions = np.empty_like(x)
        positions[:, self.order] = x
        return event + first, positions


def table_of(masses, charges, *, threads=None) -> Table:
    """Return the table of three ions: from memory, else from the disk, else built.

    The folder is COULEX_CACHE_DIR, else coulex in XDG_CACHE_HOME, else ~/.cache/coulex. A file
    that cannot be read is built anew; a folder that cannot be written to is no error.
    """
    masses, charges = _checked(masses, charges)
    order, m, q = _ratios(masses, charges)
    table = _remembered(tuple(m), tuple(q), _folder(), threads)
    return replace(table, masses=masses, charges=charges, order=order)


@lru_cache(maxsize=8)
def _remembered(masses, charges, folder, threads):
    """Return the table of ratios, from the disk or built."""
    here = Path(__file__)
    parts = (here, here.with_name("preimages.py"))
    source = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()
    key = repr((_VERSION, source, masses, charges))
    path = folder / f"table-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    table = _load(path, key)
    if table is None:
        table = Table.build(masses, charges, threads=threads)
        _save(path, key, table)
    return table


def _folder():
    given = os.environ.get("COULEX_CACHE_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "coulex"


def _load(path, key):
    """Return the table of a file, or None where the file is not one of ours."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            if str(file["key"]) != key:
                return None
            arrays = {f.name: file[f.name] for f in fields(Table)}
    except Exception:  # whatever a damaged archive raises, it is built anew
        return None
    arrays["error"] = float(arrays["error"])
    return Table(**arrays)


def _save(path, key, table):
    """Write a table under a temporary name and rename it; do nothing where that fails."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
            arrays = {f.name: getattr(table, f.name) for f in fields(table)}
            np.savez(file, key=np.array(key), **arrays)
        temporary.replace(path)
    except OSError:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _checked(masses, charges):
    m, q = np.array(masses, dtype=float), np.array(charges, dtype=float)
    if m.shape != (3,) or q.shape != (3,):
        msg = f"a table is of three ions, got masses {m.shape} and charges {q.shape}"
        raise ValueError(msg)
    for name, values in (("masses", m), ("charges", q)):
        if not (np.isfinite(values).all() and (values > 0).all()):
            msg = f"{name} must be positive for a table of all shapes, got {values}"
            raise ValueError(msg)
    return m, q


def _ratios(masses, charges):
    """Return the order of the ions, and ratios that all multiples have in common."""
    # In one order the permutations of a molecule share a table, and agree to the last bit.
    m = np.array([float(f"{value:.12e}") for value in 3 * masses / masses.sum()])
    q = np.array([float(f"{value:.12e}") for value in 3 * charges / charges.sum()])
    order = np.lexsort((q, m))
    return order, m[order], q[order]


# Tabulation ----------------------------------------------------------------------------------


def _border(angle):
    """Return t where r_vs = min(r_vo, r_so): the end of a chart at an angle."""
    return np.where(angle < np.pi / 3, -np.log(2 * np.cos(np.minimum(angle, np.pi / 3))), 0.0)


def _explode(charts, t, angle, masses, charges, threads):
    """Return the Jacobi vectors (n, 4) of shapes."""
    x = np.zeros((len(t), 3, 3))
    row, chart = np.arange(len(t)), charts.astype(int)
    pair, other = (chart + 1) % 3, (chart + 2) % 3
    x[row, pair, 0] = np.exp(t) * np.cos(angle)
    x[row, pair, 1] = -np.exp(t) * np.sin(angle)
    x[row, other, 0] = 1.0
    result = simulate(x, masses, charges, tolerance=_TOLERANCE, threads=threads)
    images, jacobi = np.empty((len(t), 3)), np.empty((len(t), 2, 3))
    image(images, jacobi, np.asarray(result.momenta, float), masses)
    assert np.isfinite(jacobi).all(), result.failures()
    flat = jacobi[:, :, :2].reshape(-1, 4)
    return flat / np.linalg.norm(flat, axis=1)[:, None]


def _interpolate(masses, charges, threads):
    """Return cells, coefficients, unresolved cells and the bound on the error."""
    u = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
    transform = 2 / _NODES * chebyshev.chebvander(u, DEGREE).T
    transform[0] /= 2
    # points of control, none of them a node, some close to the rim where errors are largest
    check = np.array([[-0.98, 0.97], [-0.62, -0.4], [0.07, 0.99], [0.99, -0.98], [0.55, 0.13]])
    at_check = [chebyshev.chebvander(c, DEGREE) for c in check.T]
    side = -CLOSEST / 4, np.pi / 4
    work = np.array(
        [
            (c, CLOSEST + (i + 0.5) * side[0], side[0] / 2, (j + 0.5) * side[1], side[1] / 2)
            for c in range(3)
            for i in range(4)
            for j in range(4)
        ]
    )
    cells, tables, error = [], [], 0.0

    def explode(u, v):
        t = work[:, 1, None] + work[:, 2, None] * u
        angle = work[:, 3, None] + work[:, 4, None] * v
        charts = np.repeat(work[:, 0], len(u))
        out = _explode(charts, t.ravel(), angle.ravel(), masses, charges, threads)
        return out.reshape(*t.shape, 4)

    for _ in range(_LEVELS):
        work = work[work[:, 1] - work[:, 2] < _border(work[:, 3] + work[:, 4]) + 0.01]
        if not len(work):
            break
        values = explode(np.repeat(u, _NODES), np.tile(u, _NODES))
        values = values.reshape(-1, _NODES, _NODES, 4)
        c = np.einsum("pi,qj,nijk->npqk", transform, transform, values, optimize=True)
        tails = [
            np.abs(c[:, -2:]).sum((1, 2)).max(1),
            np.abs(c[:, :, -2:]).sum((1, 2)).max(1),
        ]
        rough = np.array(tails) > 6 * _INTERPOLATION  # the last two terms overstate the error
        measured = np.abs(
            np.einsum("jp,jq,npqk->njk", *at_check, c, optimize=True) - explode(*check.T)
        ).max((1, 2))
        missed = measured > _INTERPOLATION
        rough |= missed & ~rough.any(axis=0)  # halved both ways where no tail says which
        good = ~missed & ~rough.any(axis=0)
        cells.append(work[good])
        tables.append(c[good])
        error = max(error, measured[good].max(initial=0.0))
        work, rough = work[~good], rough[:, ~good]
        for axis in range(2):
            work, rough = _halved(work, rough, axis)
    powers = np.array(
        [
            np.pad(chebyshev.cheb2poly(row), (0, DEGREE - k))
            for k, row in enumerate(np.eye(_NODES)[k, : k + 1] for k in range(_NODES))
        ]
    )
    c = np.einsum("pi,qj,npqk->njik", powers, powers, np.concatenate(tables), optimize=True)
    c = np.ascontiguousarray(c.reshape(-1, _NODES, ROW))
    return np.concatenate(cells), c, work, _SAFETY * float(error)


def _halved(work, rough, axis):
    """Halve the cells that are rough along an axis, in place of the whole."""
    at, split = 1 + 2 * axis, rough[axis]
    lower, upper = work[split].copy(), work[split].copy()
    for part, sign in ((lower, -1), (upper, 1)):
        part[:, at + 1] /= 2
        part[:, at] += sign * part[:, at + 1]
    rest = rough[:, split]
    return (
        np.concatenate([work[~split], lower, upper]),
        np.concatenate([rough[:, ~split], rest, rest], axis=1),
    )


def _patches(cells, coefficients):
    """Cut cells into patches that are plain or have one fold; return the arrays of a table."""
    parents, work = np.arange(len(cells)), np.tile([0.0, 1.0, 0.0, 1.0], (len(cells), 1))
    done = []
    for level in range(_PATCH_LEVELS + 1):
        n = len(work)
        if not n:
            break
        kinds, centres, frames = np.empty(n, np.int64), np.empty((n, 3)), np.empty((n, 2, 3))
        bends, bounds, boxes = np.empty((n, 2)), np.empty((n, 2, 2)), np.empty((n, 3, 2))
        out = (kinds, centres, frames, bends, bounds, boxes)
        classify(*out, parents, work, coefficients, level == _PATCH_LEVELS)
        # 5 and 6: to be halved in u, in v
        good = kinds < 5
        done.append([a[good] for a in (parents, work, *out)])
        rough = np.array([kinds == 5, kinds == 6])[:, ~good]
        work = np.column_stack([parents, work])[~good]
        for axis in range(2):
            work, rough = _halved(work, rough, axis)
        parents, work = work[:, 0].astype(np.int64), np.ascontiguousarray(work[:, 1:])
        t = cells[parents, 1] + cells[parents, 2] * (work[:, 0] - work[:, 1])
        angle = cells[parents, 3] + cells[parents, 4] * (work[:, 2] + work[:, 3])
        inside = t < _border(angle) + 0.01
        parents, work = parents[inside], work[inside]
    names = ("parents", "patches", "kinds", "centres", "frames", "bends", "bounds", "boxes")
    return {
        name: np.concatenate(parts)
        for name, parts in zip(names, zip(*done, strict=True), strict=True)
    }


def _binned(boxes):
    """Return where the patches of each bin over (s₁, s₂) begin, and the patches by bin."""
    low = np.clip(((boxes[:, :2, 0] + 1) * (BINS / 2)).astype(int), 0, BINS - 1)
    high = np.clip(((boxes[:, :2, 1] + 1) * (BINS / 2)).astype(int), 0, BINS - 1)
    bins = [[] for _ in range(BINS**2)]
    for patch, ((i0, j0), (i1, j1)) in enumerate(zip(low, high, strict=True)):
        for i in range(i0, i1 + 1):
            for j in range(j0, j1 + 1):
                bins[i * BINS + j].append(patch)
    starts = np.concatenate([[0], np.cumsum([len(b) for b in bins])])
    return starts.astype(np.int64), np.array([p for b in bins for p in b], np.int64)


# Kernels -------------------------------------------------------------------------------------
