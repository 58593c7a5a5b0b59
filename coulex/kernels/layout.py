"""Which row of the scratch table holds what."""

from typing import NamedTuple


class Along(NamedTuple):
    """What momenta are differentiated along, by the lengths of tuples: known when compiled."""

    columns: tuple  #: an entry for each direction
    charges: tuple  #: one entry if charges change along some direction, else none


class Layout(NamedTuple):
    """Which rows of the scratch array hold what; those up to `kept` are an event's state."""

    x: int
    v: int
    step: int  #: length of the next step
    floor: int  #: shortest step
    energy: int  #: twice the total energy
    scale: int  #: twice the energy that errors are measured by
    reach: int  #: share of potential energy at which the tail is tried
    error: int  #: sum of the error estimates of all steps, momentum
    rounding: int  #: relative error from rounding the positions
    potential: int  #: energy, at the end of the last step
    steps: int
    event: int
    pairs: int  #: products of charges
    charge_changes: int  #: of the products of charges, along each direction
    f: int  #: forces, followed by those of all stages or nodes
    trial: int
    end: int
    masses: int
    inverse_masses: int
    slopes: int  #: how the forces on an ion from each other one change
    kept: int
    total: int


_NOTHING = Along((), ())


def layout(ions, vectors, *, own_charges, along=_NOTHING):
    """Return the rows for `ions` ions and `vectors` force vectors (stages, or nodes twice).

    Changes of all vectors along each direction follow those of the ions.
    """
    columns = len(along.columns)
    bodies, pairs = ions * (1 + columns), ions * (ions - 1) // 2
    size = 3 * bodies
    products = 2 * size + 10
    changes = products + (pairs if own_charges else 0)
    f = changes + (columns * pairs if along.charges else 0)
    behind = f + (1 + vectors) * size
    slopes = behind + 2 * size + 2 * bodies
    common = slopes + (6 * ions if columns else 0)
    return Layout(
        0, size, *range(2 * size, products),
        pairs=products if own_charges else common,
        charge_changes=changes, f=f, trial=behind, end=behind + size,
        masses=behind + 2 * size, inverse_masses=behind + 2 * size + bodies, slopes=slopes,
        kept=f + size, total=common + pairs,
    )  # fmt: skip
