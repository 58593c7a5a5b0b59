"""Silicon by molecular dynamics: melted, cooled, relaxed, recorded.

A melt is made of atoms on a coarse grid at a temperature at which they forget it within a
picosecond. It is cooled at constant volume, most of the time where it freezes: the slower
there, the fewer defects. All is a function of the seed.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from coulex import __version__
from generative.structures import Structure
from generative.structures.reading import believed_density

from .engine import MASS_U, SILICON, TIMESTEP_PS, Engine
from .potentials import potential_of

DENSITY = 2.29  #: g/cm³, of amorphous silicon: Custer et al., Appl. Phys. Lett. 64, 437 (1994)
_U_PER_A3 = 1.66053906660  # g/cm³ in an atomic mass unit per cubic ångström
MELT_K = 3000.0
_MELT_PS = 10.0
# Cooling to the melting point, to 0.55 of it and to the end takes these shares of the time.
# With EDIP, 512 atoms and 250 ps, 90 and 93 % of the atoms (two seeds) then have four
# neighbours; cooled at a constant rate it is 88 and 85 %.
_SLOW = (1.0, 0.55)
_SHARES = (0.1, 0.8, 0.1)
_PIECE_PS = 0.5  # between two looks at `stop`
_FORCE = 1e-6  # eV/Å, of the largest component in a relaxed structure


class Stopped(Exception):
    """`stop` said so."""


@dataclass(frozen=True, kw_only=True)
class Quench:
    """How a glass is made from a melt.

    Attributes
    ----------
    atoms : int
    potential : {"edip", "sw", "tersoff"}
    density : float
        g/cm³.
    temperature : float
        Where cooling, which begins at 3000 K, ends.
    cooling : float
        How long it takes, ps.
    seed : int

    Raises
    ------
    ValueError
        If a number makes no sense.
    """

    atoms: int
    potential: str = "edip"
    density: float = DENSITY
    temperature: float = 300.0
    cooling: float = 250.0
    seed: int = 1

    def __post_init__(self):
        potential_of(self.potential)
        if self.atoms < 2:
            msg = f"atoms must be at least 2, got {self.atoms}"
            raise ValueError(msg)
        for name in ("density", "temperature", "cooling"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                msg = f"{name} must be above 0 and finite, got {value}"
                raise ValueError(msg)
        believed = believed_density(SILICON)
        assert believed is not None
        low, crystal, high = believed
        if not low <= self.density <= high:
            msg = (
                f"density must be {low:.3g} to {high:.3g} g/cm³, which files of silicon are "
                f"believed to have (crystal {crystal:.3g}), got {self.density:g}"
            )
            raise ValueError(msg)

    @property
    def edge(self) -> float:
        """Return the edge of the cubic cell, Å."""
        return (self.atoms * MASS_U * _U_PER_A3 / self.density) ** (1 / 3)

    @property
    def picoseconds(self) -> float:
        """Return how long it takes, melting included."""
        return _MELT_PS + self.cooling

    def engine(self) -> Engine:
        """Return the atoms on a grid, at rest."""
        sites = math.ceil(self.atoms ** (1 / 3) - 1e-9)
        grid = np.indices((sites, sites, sites)).reshape(3, -1).T / sites
        chosen = np.arange(self.atoms) * len(grid) // self.atoms
        return Engine(
            potential_of(self.potential),
            grid[chosen] * self.edge,
            np.eye(3) * self.edge,
            np.ones(3, bool),
        )

    def run(
        self,
        engine: Engine,
        progress: Callable[[float], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Melt the atoms of an engine and cool them.

        Parameters
        ----------
        engine : Engine
            By `engine`.
        progress : callable
            Given the picoseconds just done.
        stop : callable

        Raises
        ------
        Stopped
            If `stop` returned true.
        """
        rng = np.random.default_rng((self.seed, 0))
        melting = potential_of(self.potential).melting
        ends = [max(share * melting, self.temperature) for share in _SLOW]
        course = [MELT_K, MELT_K, *ends, self.temperature]
        times = [_MELT_PS, *(share * self.cooling for share in _SHARES)]
        engine.draw_velocities(MELT_K, rng)
        for first, last, time in zip(course, course[1:], times, strict=False):
            hold(engine, first, last, time, rng, progress, stop)

    def describe(self, engine: Engine) -> dict[str, Any]:
        """Return how the atoms came to be, as flat words and numbers."""
        reference = potential_of(self.potential).reference
        versions = {"lammps": engine.version, "coulex": __version__}
        return {**asdict(self), "reference": reference, **versions}


def glass(
    quench: Quench,
    progress: Callable[[float], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Structure:
    """Make amorphous silicon: melted, cooled, and relaxed at constant cell.

    Parameters
    ----------
    quench : Quench
    progress, stop : callable
        As in `Quench.run`.

    Returns
    -------
    Structure
        Its info says how it was made, with the energy per atom in eV and the pressure in GPa.

    Raises
    ------
    Stopped
        If `stop` returned true.
    MissingExtraError
        If LAMMPS is not installed.
    """
    with quench.engine() as engine:
        quench.run(engine, progress, stop)
        relaxed(engine)
        measured = {
            "energy_per_atom": engine.thermo("pe") / quench.atoms,
            "pressure_gpa": engine.thermo("press"),
        }
        return Structure(
            positions=engine.positions() % quench.edge,
            cell=np.eye(3) * quench.edge,
            periodic=np.ones(3, bool),
            numbers=np.full(quench.atoms, SILICON),
            info=quench.describe(engine) | measured,
        )


def hold(
    engine: Engine,
    first_k: float,
    last_k: float,
    picoseconds: float,
    rng: np.random.Generator,
    progress: Callable[[float], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Let the atoms move while the temperature goes from one to another.

    Raises
    ------
    Stopped
        If `stop` returned true.
    """
    steps, piece = steps_of(picoseconds), steps_of(_PIECE_PS)
    engine.thermostat(first_k, last_k, rng)
    engine.commands("reset_timestep 0")
    for first in range(0, steps, piece):
        last = min(first + piece, steps)
        engine.commands(f"run {last - first} start 0 stop {steps} post no")
        progress((last - first) * TIMESTEP_PS)
        if stop():
            raise Stopped


def steps_of(picoseconds: float) -> int:
    """Return the number of steps of a time, one at least."""
    return max(1, round(picoseconds / TIMESTEP_PS))


def relaxed(engine: Engine, iterations: int = 10_000) -> None:
    """Let the atoms go downhill at constant cell until no force is left."""
    engine.commands(
        "min_style cg",
        "min_modify line quadratic",
        f"minimize 0 {_FORCE} {iterations} {10 * iterations}",
    )
