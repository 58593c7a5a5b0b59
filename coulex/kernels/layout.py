"""Which row of the scratch table holds what."""

from typing import NamedTuple


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
    f: int  #: forces, followed by those of all stages or nodes
    trial: int
    end: int
    masses: int
    inverse_masses: int
    kept: int
    total: int


def layout(ions, vectors, *, own_charges):
    """Return the rows for `ions` ions and `vectors` force vectors (stages, or nodes twice)."""
    size, pairs = 3 * ions, ions * (ions - 1) // 2
    state = 2 * size
    f = state + 10 + (pairs if own_charges else 0)
    behind = f + (1 + vectors) * size
    common = behind + 2 * size + 2 * ions
    return Layout(
        0, size, *range(state, state + 10),
        pairs=state + 10 if own_charges else common,
        f=f, trial=behind, end=behind + size,
        masses=behind + 2 * size, inverse_masses=behind + 2 * size + ions,
        kept=f + size, total=common + pairs,
    )  # fmt: skip
