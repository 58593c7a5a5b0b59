"""Ensembles of geometries to time, and momenta known well enough to judge a program by.

Every ion has charge 1 and starts at rest. OCS: Gaussian displacements of 0.1 Å about the
linear molecule. CH4, and N=2 to N=12 with H, C, N, O in turn: uniform in a sphere of 4 bohr,
no two ions closer than 0.25 bohr.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import peers
from ase.data import atomic_masses, atomic_numbers

from coulex.units import ANGSTROM, U

RADIUS = 4.0
SEPARATION = 0.25


@dataclass(frozen=True)
class Case:
    """Ions of a benchmark; in electron masses and elementary charges."""

    name: str
    symbols: tuple[str, ...]
    masses: np.ndarray
    charges: np.ndarray

    def draw(self, rng, size):
        """Draw initial positions (size, ions, 3) in bohr."""
        if self.name == "OCS":
            linear = np.array([[-1.1562, 0, 0], [0, 0, 0], [1.5614, 0, 0]])
            return (linear + 0.1 * rng.standard_normal((size, 3, 3))) * ANGSTROM
        return in_sphere(rng, size, len(self.symbols))


def case(name):
    """Return the case called "OCS", "CH4", or "N=2" to "N=12"."""
    sizes = {f"N={n}": n for n in range(2, 13)}
    if name in sizes:
        symbols = tuple(itertools.islice(itertools.cycle("HCNO"), sizes[name]))
    elif name in ("OCS", "CH4"):
        symbols = {"OCS": ("O", "C", "S"), "CH4": ("C", "H", "H", "H", "H")}[name]
    else:
        msg = f"no case {name!r}; there are OCS, CH4 and N=2 to N=12"
        raise ValueError(msg)
    charges = np.ones(len(symbols))
    masses = atomic_masses[[atomic_numbers[s] for s in symbols]] * U - charges
    return Case(name, symbols, masses, charges)


def in_sphere(rng, size, ions):
    """Draw points (size, ions, 3), uniform in the sphere where no two are too close."""
    kept, have = [], 0
    while have < size:
        way = rng.standard_normal((size, ions, 3))
        way /= np.linalg.norm(way, axis=2, keepdims=True)
        x = RADIUS * rng.random((size, ions, 1)) ** (1 / 3) * way
        apart = np.ones(size, bool)
        for i, j in itertools.combinations(range(ions), 2):
            apart &= np.linalg.norm(x[:, i] - x[:, j], axis=1) >= SEPARATION
        kept.append(x[apart])
        have += len(kept[-1])
    return np.concatenate(kept)[:size]


@dataclass(frozen=True)
class Reference:
    """Momenta to judge by, who made them, and the largest relative doubt about one."""

    positions: np.ndarray
    momenta: np.ndarray
    source: str
    doubt: float


def reference(case, positions):
    """Find the momenta by a program that is not ours, where there is one.

    heyoka at tolerance 1e-16 until 1e-5 of the energy is potential; the doubt is the change
    from 1e-4, a thousand times the error that is left.
    """
    try:
        near, far = (
            peers.heyoka(case.masses, case.charges, 1e-16, epsilon)(positions)[0]
            for epsilon in (1e-4, 1e-5)
        )
        source = "heyoka, tolerance 1e-16"
    except ImportError:
        near, far = (
            peers.coulex(case.masses, case.charges, "float64", tolerance, 1)(positions)[0]
            for tolerance in (1e-12, 1e-13)
        )
        source = "coulex itself, tolerance 1e-13: heyoka is not installed"
    return Reference(positions, far, source, float(errors(near, far).max()))


def errors(momenta, true):
    """Return the relative error of each event's whole momentum vector."""
    return np.linalg.norm(momenta - true, axis=(1, 2)) / np.linalg.norm(true, axis=(1, 2))
