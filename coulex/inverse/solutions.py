"""What an inversion returns: every geometry found for every event, and how sure each is."""

from dataclasses import dataclass

import numpy as np

(
    SOLVED,
    SEVERAL,
    FOLD,
    NO_GEOMETRY,
    SIZE,
    MOMENTUM_SUM,
    NO_ENERGY,
    NOT_CONVERGED,
    NO_MOMENTA,
) = range(9)

#: what the status of an event means, and what to do about it, by code; the first three have
#: solutions
STATUS = {
    SOLVED: ("solved", ""),
    SEVERAL: ("several solutions", "the weights say how probable each is"),
    FOLD: ("at a fold", "two solutions merge there; the linear error of a bond fails"),
    NO_GEOMETRY: ("no geometry", "no positions at rest give these momenta"),
    SIZE: ("size out of bounds", "check units and charges, or widen the bounds"),
    MOMENTUM_SUM: ("momentum sum off", "an ion is missing; or project the sum away"),
    NO_ENERGY: ("no energy", "ions without momenta have no geometry"),
    NOT_CONVERGED: ("not converged", "allow more starts"),
    NO_MOMENTA: ("no momenta", "the event has no momenta that are finite"),
}


@dataclass(frozen=True)
class Solutions:
    """Geometries that explain measured momenta, each in the frame of its event's momenta.

    Solutions of an event stand together, the most probable first; `solution_event` ascends.
    """

    positions: np.ndarray  #: (n, ions, 3), the most probable; not a number where there is none
    n_solutions: np.ndarray  #: (n,)
    status: np.ndarray  #: (n,) uint8; `STATUS` has the meaning
    solution_event: np.ndarray  #: (m,), which event a solution belongs to
    solution_positions: np.ndarray  #: (m, ions, 3), bohr, about the centre of mass
    solution_residual: np.ndarray  #: (m,), relative, of the whole vector of momenta
    solution_weight: np.ndarray  #: (m,), probability among the solutions of the event
    solution_condition: np.ndarray  #: (m,), condition number of the Jacobian of the shape
    solution_sign: np.ndarray  #: (m,), of the determinant of that Jacobian

    def __len__(self) -> int:
        return len(self.status)
