"""Measured momenta as a model sees them: without their sum, in order, in a frame of their own.

Everything here is a function of the momenta, so that it is the same for an event whose
positions are known and for one that was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from coulex.frames import recoil_frame, rotate

from .permutations import canonical_orders, reorder

_OFTEN = 0.05  #: share of events that may be worse than what axes are chosen by
_SMALL = 1e-12  #: area of two momenta, relative, that is rounding


@dataclass(frozen=True)
class Seen:
    """Momenta of events, and all that conditions are made of.

    Attributes
    ----------
    momenta : (m, ions, 3) array
        Their sum taken out, in the frame of the representation; a.u.
    masses : (ions,) array
    charges : (ions,) or (m, ions) array
    axes : (int, int)
        The ions that define the recoil frame: along x, in the xy plane.
    order : (m, ions) array or None
        Of the ions as they were given, if it was changed.
    rotations : (m, 3, 3) array or None
        Into the recoil frame, if the event was turned.
    noise : (m,) array or None
        Standard deviation of each component, relative to the momentum of its ion.
    """

    momenta: np.ndarray
    masses: np.ndarray
    charges: np.ndarray
    axes: tuple[int, int]
    order: np.ndarray | None = None
    rotations: np.ndarray | None = None
    noise: np.ndarray | None = None

    @cached_property
    def recoil(self) -> np.ndarray:
        """Return the momenta (m, ions, 3) in the recoil frame."""
        if self.rotations is not None:
            return self.momenta
        return rotate(self.momenta, frame_of(self.momenta, self.axes))

    @cached_property
    def ker(self) -> np.ndarray:
        """Return the kinetic energy release (m,), hartree."""
        return np.einsum("mik,mik,i->m", self.momenta, self.momenta, 0.5 / self.masses)


def see(
    momenta,
    masses,
    charges,
    axes: tuple[int, int],
    *,
    noisy: bool,
    groups: Sequence[Sequence[int]],
    turned: bool,
    noise: np.ndarray | None = None,
) -> Seen:
    """Look at momenta (m, ions, 3) in a.u.

    Parameters
    ----------
    momenta, masses, charges, axes, noise
        As of `Seen`, momenta as they were measured.
    noisy : bool
        A sum of the momenta is shared by the variance of noise, |p|², as `coulex.invert` does
        it; else by mass, as a common motion is.
    groups : sequence of sequence of int
        Of identical ions, to be put in order; none leave it as it is.
    turned : bool
        Into the recoil frame.
    """
    p = np.asarray(momenta, float)
    p = without_sum(p, np.einsum("mik,mik->mi", p, p) if noisy else masses)
    order = rotations = None
    if groups:
        order = canonical_orders(p, groups)
        p = reorder(p, order)
    if turned:
        rotations = frame_of(p, axes)
        p = rotate(p, rotations)
    return Seen(p, masses, charges, axes, order, rotations, noise)


def frame_of(momenta, axes: tuple[int, int]) -> np.ndarray:
    """Return the rotations (m, 3, 3) into the recoil frame of two ions."""
    return recoil_frame(momenta, reference=axes[0], second=axes[1])


def with_noise(momenta, level, rng: np.random.Generator) -> np.ndarray:
    """Return momenta (m, ions, 3) with a relative noise of `level` (m,) of each component."""
    p = np.asarray(momenta, float)
    sigma = level[:, None] * np.sqrt(np.einsum("mik,mik->mi", p, p))
    return p + sigma[:, :, None] * rng.standard_normal(p.shape)


def without_sum(momenta, weights) -> np.ndarray:
    """Return momenta (m, ions, 3) that add up to zero.

    Each ion takes a share of the sum by its weight (m, ions) or (ions,). Masses take out a
    motion of the whole; variances of noise leave the momenta that are most probable.
    """
    p, w = np.asarray(momenta, float), np.asarray(weights, float)
    w = np.broadcast_to(w, p.shape[:2])
    total = w.sum(axis=1, keepdims=True)
    share = np.divide(w, total, out=np.zeros(p.shape[:2]), where=total > 0)
    return p - share[:, :, None] * p.sum(axis=1, keepdims=True)


def steady_axes(momenta) -> tuple[int, int]:
    """Return the two ions that make the steadiest recoil frame of a sample of events.

    The momentum of the first is least often small, that of the second least often collinear
    with it; of equals the first.
    """
    p = np.asarray(momenta, float)
    size = np.sqrt(np.einsum("mik,mik->m", p, p))
    length = np.linalg.norm(p, axis=2) / size[:, None]
    low = np.quantile(length, _OFTEN, axis=0)
    first = int(np.flatnonzero(low > (1 - _SMALL) * low.max())[0])
    area = np.linalg.norm(np.cross(p[:, [first]], p), axis=2) / size[:, None] ** 2
    low = np.quantile(area, _OFTEN, axis=0)
    others = [i for i in range(p.shape[1]) if i != first]
    best = max(low[others])
    # of three ions the areas are the same but for rounding
    second = next(i for i in others if low[i] >= best - max(1e-9 * best, _SMALL))
    return first, second
