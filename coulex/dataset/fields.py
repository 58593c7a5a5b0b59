"""What an event file may hold: the name, axes, unit and kind of number of each array.

An axis is "events", "ions", "solutions" or "samples" (flat lists) or a fixed length. Arrays
whose first axis is one of these, but ions, grow with the file and are cut into shards;
the others are constants of the file. Everything is in atomic units.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from coulex import units
from coulex.errors import InvalidDataError

Axes = tuple[str | int, ...]


@dataclass(frozen=True)
class Field:
    """One array of an event file."""

    axes: Axes
    quantity: str | None = None  #: for `coulex.units`; None for a pure number
    kinds: str = "f"  #: admissible `numpy.dtype.kind`

    @property
    def units(self) -> str:
        """Return the unit that our files declare."""
        return units.written(self.quantity) if self.quantity else "1"


_GROWING = ("events", "solutions", "samples")
_VECTORS = ("events", "ions", 3)

#: in the order in which they lie in a file
FIELDS = {
    "masses": Field(("ions",), "mass"),
    "numbers": Field(("ions",), kinds="iu"),
    "charges": Field(("events", "ions"), "charge", "iuf"),  # or ("ions",): see `axes_of`
    "initial_positions": Field(_VECTORS, "length"),
    "initial_momenta": Field(_VECTORS, "momentum"),
    "momenta": Field(_VECTORS, "momentum"),
    "positions": Field(_VECTORS, "length"),
    "status": Field(("events",), kinds="u"),
    "energy_error": Field(("events",)),
    "error_estimate": Field(("events",)),
    "n_solutions": Field(("events",), kinds="iu"),
    "outside_training": Field(("events",), kinds="u"),  # 1: a network never saw the like
    "solution_event": Field(("solutions",), kinds="iu"),
    "solution_positions": Field(("solutions", "ions", 3), "length"),
    "solution_residual": Field(("solutions",)),
    "solution_weight": Field(("solutions",)),
    "solution_condition": Field(("solutions",)),
    "solution_sign": Field(("solutions",), kinds="iuf"),
    "solution_log_density": Field(("solutions",)),  # of draws, under what drew them
    "sample_event": Field(("samples",), kinds="iu"),  # weighted draws of a posterior
    "sample_positions": Field(("samples", "ions", 3), "length"),
    "sample_weight": Field(("samples",)),
    "sample_effective": Field(("events",)),  # number of draws that they are worth
    "estimate_positions": Field(_VECTORS, "length"),  # of noisy momenta
    "estimate_covariance": Field(("events", "ions", 3, "ions", 3), "area"),
    "estimate_misfit": Field(("events",)),
    "estimate_weight": Field(("events",)),
    "estimate_status": Field(("events",), kinds="u"),
}


def axes_of(name: str, dimensions: int) -> Axes:
    """Return the axes of an array; charges with one axis are the same in every event."""
    if name == "charges" and dimensions == 1:
        return ("ions",)
    return FIELDS[name].axes


def grows(name: str, dimensions: int) -> bool:
    """Return whether an array is cut into shards, and not a constant of the file."""
    return axes_of(name, dimensions)[0] in _GROWING


def check_shapes(
    shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, np.dtype], n_events: int
) -> int | None:
    """Check names, axes and types of the arrays of one file.

    Parameters
    ----------
    shapes, dtypes : mapping
        By name.
    n_events : int
        Length of the axis "events".

    Returns
    -------
    int or None
        The number of ions, where any array says it.

    Raises
    ------
    InvalidDataError
        If a name is unknown, or an axis or a type is not what `FIELDS` says.
    """
    lengths: dict[str, int] = {"events": n_events}
    for name, shape in shapes.items():
        if name not in FIELDS:
            msg = f"unknown array {name!r}; known are {', '.join(FIELDS)}"
            raise InvalidDataError(msg)
        axes = axes_of(name, len(shape))
        expected = tuple(lengths.get(a, a) if isinstance(a, str) else a for a in axes)
        right = len(shape) == len(axes) and all(
            isinstance(wanted, str) or wanted == got
            for wanted, got in zip(expected, shape, strict=True)
        )
        if not right:
            inside = ", ".join(map(str, expected))
            msg = f"{name} must have shape ({inside}), got {shape}"
            raise InvalidDataError(msg)
        lengths.update({a: s for a, s in zip(axes, shape, strict=True) if isinstance(a, str)})
        kind = dtypes[name].kind
        if kind not in FIELDS[name].kinds:
            msg = f"{name} must be of kind {FIELDS[name].kinds!r}, got {dtypes[name]}"
            raise InvalidDataError(msg)
    if not any(grows(name, len(shape)) for name, shape in shapes.items()):
        msg = f"no array of events among {sorted(shapes)}; give momenta or initial_positions"
        raise InvalidDataError(msg)
    return lengths.get("ions")


def in_file_order(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays as they are written: ordered, contiguous, little-endian."""
    unknown = sorted(set(arrays) - set(FIELDS))
    if unknown:
        msg = f"unknown arrays {unknown}; known are {', '.join(FIELDS)}"
        raise InvalidDataError(msg)
    ordered = {name: np.asarray(arrays[name]) for name in FIELDS if name in arrays}
    return {
        name: np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("<"))
        for name, a in ordered.items()
    }
