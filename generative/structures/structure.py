"""A structure: atoms at positions, in a cell that repeats or in none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Atoms and their cell, as they are in one frame of a file.

    Attributes
    ----------
    positions : (atoms, 3) array
        In Å; atoms may lie outside of the cell.
    cell : (3, 3) array
        Rows are the vectors of the cell, in Å; zeros where there is none.
    periodic : (3,) bool array
        Along which of these vectors the structure repeats.
    numbers : (atoms,) int array
        Atomic numbers.
    info : mapping
        What the file says about the structure, such as ``environment=T``.
    """

    positions: np.ndarray
    cell: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))
    periodic: np.ndarray = field(default_factory=lambda: np.zeros(3, bool))
    numbers: np.ndarray
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arrays = {"positions": float, "cell": float, "periodic": bool, "numbers": int}
        for name, kind in arrays.items():
            array = np.asarray(getattr(self, name), kind)
            object.__setattr__(self, name, array)
        atoms = len(self.positions)
        if self.positions.shape != (atoms, 3) or self.numbers.shape != (atoms,):
            msg = (
                "positions must be (atoms, 3) and numbers (atoms,), got "
                f"{self.positions.shape}, {self.numbers.shape}"
            )
            raise ValueError(msg)
        if self.cell.shape != (3, 3) or self.periodic.shape != (3,):
            msg = (
                "cell must be (3, 3) and periodic (3,), got "
                f"{self.cell.shape}, {self.periodic.shape}"
            )
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def volume(self) -> float:
        """Return the volume of the cell in Å³, 0 where there is none."""
        return float(abs(np.linalg.det(self.cell)))
