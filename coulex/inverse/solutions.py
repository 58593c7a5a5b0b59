"""What an inversion returns: every geometry found for every event, and how sure each is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from coulex.geometry import Coordinate

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

(LINEAR, NEAR_FOLD, NEAR_STRAIGHT, NEAREST, UNSETTLED, NO_ESTIMATE) = range(6)

#: what the status of an estimate means, and what its covariance is then worth, by code
ESTIMATE_STATUS = {
    LINEAR: ("linear", ""),
    NEAR_FOLD: ("near a fold", "its distance is within two standard deviations"),
    NEAR_STRAIGHT: ("nearly straight", "the angle may be 180 or 0 degrees as well"),
    NEAREST: ("nearest", "no geometry gives the momenta exactly"),
    UNSETTLED: ("not settled", "the search ended before a minimum, or nothing is known"),
    NO_ESTIMATE: ("none", "see the status of the event"),
}


@dataclass(frozen=True)
class Estimate:
    """The most probable geometries of noisy momenta, and the errors of linear theory."""

    positions: np.ndarray  #: (n, ions, 3), bohr, about the centre of mass
    covariance: np.ndarray  #: (n, ions, 3, ions, 3), of these, bohr²
    coordinates: "tuple[Coordinate, ...]"  #: bonds, and of three ions their angle
    values: np.ndarray  #: (n, coordinates), Å and degrees
    deviations: np.ndarray  #: (n, coordinates), standard deviations of these
    misfit: np.ndarray  #: (n,), |p(x) - p|² in units of the noise
    weight: np.ndarray  #: (n,), probability of this geometry among those that were found
    status: np.ndarray  #: (n,) uint8; `ESTIMATE_STATUS` has the meaning

    @property
    def linear(self) -> np.ndarray:
        """Return (n,) whether the deviations are to be believed."""
        return self.status == LINEAR


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
    estimate: Estimate | None = None  #: of noisy momenta

    def __len__(self) -> int:
        return len(self.status)
