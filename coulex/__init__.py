"""Coulomb explosions: simulate them, and find the geometry behind a measured one.

Names are imported when they are first used: ``import coulex`` alone costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dataset import open
    from .derivatives import Jacobian, jacobian
    from .ensemble import ENSEMBLES, Box, Ensemble, Equilibrium, Frames, Gaussian, Sphere
    from .errors import CoulexError
    from .explosions import STATUS, Explosions, simulate
    from .inverse.inversion import invert
    from .inverse.roots import Search
    from .inverse.solutions import Solutions
    from .molecule import Molecule
    from .production import Production

__version__ = "0.1.0"

_HOMES = {
    "Box": "ensemble",
    "CoulexError": "errors",
    "ENSEMBLES": "ensemble",
    "Ensemble": "ensemble",
    "Equilibrium": "ensemble",
    "Explosions": "explosions",
    "Frames": "ensemble",
    "Gaussian": "ensemble",
    "Jacobian": "derivatives",
    "Molecule": "molecule",
    "Production": "production",
    "STATUS": "explosions",
    "Search": "inverse.roots",
    "Solutions": "inverse.solutions",
    "Sphere": "ensemble",
    "invert": "inverse.inversion",
    "jacobian": "derivatives",
    "open": "dataset",
    "simulate": "explosions",
}

__all__ = [
    "ENSEMBLES",
    "STATUS",
    "Box",
    "CoulexError",
    "Ensemble",
    "Equilibrium",
    "Explosions",
    "Frames",
    "Gaussian",
    "Jacobian",
    "Molecule",
    "Production",
    "Search",
    "Solutions",
    "Sphere",
    "__version__",
    "invert",
    "jacobian",
    "open",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'coulex' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
