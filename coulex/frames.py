"""Frames of reference: where an event is looked at from, and what is the same but for that.

A rotation is a matrix R of determinant +1 that acts on column vectors, v' = R v. Positions and
momenta of an event are turned by the same R: momenta in a frame of their own, beside positions
in another, have lost what ties them together.
"""

import math

import numpy as np

from . import random
from .kernels.compiled import compiled

#: how far, relative to size, two numbers may differ by rounding alone and count as equal
_ROUNDING = 1e-12


def centre_of_mass(positions, masses):
    """Return the centre of mass.

    Parameters
    ----------
    positions : (..., ions, 3) array
    masses : (ions,) array

    Returns
    -------
    (..., 3) array, in the unit of `positions`

    Raises
    ------
    ValueError
        If the shapes disagree.
    """
    x, m = np.asarray(positions, dtype=float), np.asarray(masses, dtype=float)
    if x.ndim < 2 or x.shape[-1] != 3 or m.shape != x.shape[-2:-1]:
        msg = f"positions must be (..., ions, 3) and masses (ions,), got {x.shape}, {m.shape}"
        raise ValueError(msg)
    return np.einsum("...ik,i->...k", x, m) / m.sum()


def rotate(vectors, rotations):
    """Turn every vector of an event by the rotation of the event.

    Parameters
    ----------
    vectors : (n, ions, 3) array
        Positions or momenta.
    rotations : (n, 3, 3) array

    Returns
    -------
    (n, ions, 3) array

    Raises
    ------
    ValueError
        If the shapes disagree.
    """
    v, r = np.asarray(vectors, dtype=float), np.asarray(rotations, dtype=float)
    if v.ndim != 3 or v.shape[-1] != 3 or r.shape != (len(v), 3, 3):
        msg = f"vectors must be (n, ions, 3), rotations (n, 3, 3), got {v.shape}, {r.shape}"
        raise ValueError(msg)
    out = np.empty(v.shape)
    _rotate_each(out, v, r)
    return out


@compiled
def _rotate_each(out, vectors, rotations):
    """Write R v of every event; a batched product of numpy takes ten times as long."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            x, y, z = vectors[i, j, 0], vectors[i, j, 1], vectors[i, j, 2]
            for k in range(3):
                a, b, c = rotations[i, k, 0], rotations[i, k, 1], rotations[i, k, 2]
                out[i, j, k] = a * x + b * y + c * z


def recoil_frame(momenta, *, reference=0, second=1):
    """Return the rotations into the recoil frame.

    There the momentum of ion `reference` points along +x, that of ion `second` lies in the
    upper half of the xy plane (y > 0), and z completes a right-handed frame. `rotate` applies
    them, to momenta and positions alike.

    Parameters
    ----------
    momenta : (n, ions, 3) array
        In any unit.
    reference, second : int
        Two different ions, counted from 0.

    Returns
    -------
    (n, 3, 3) array

    Raises
    ------
    ValueError
        If the shape is not (n, ions, 3) or the two ions are not two of them.

    Notes
    -----
    Where the two momenta are collinear to 1e-12, or `second` is at rest, one angle is free:
    the rotation of least angle that takes the reference to +x is returned (from -x: half a
    turn about z). It depends continuously on the momentum, but at -x. Where the reference is
    at rest there is no frame, and the event stays as it is: the identity is returned.
    """
    p = np.asarray(momenta, dtype=float)
    if p.ndim != 3 or p.shape[2] != 3:
        msg = f"momenta must be (n, ions, 3), got {p.shape}"
        raise ValueError(msg)
    ions = p.shape[1]
    if not (0 <= reference < ions and 0 <= second < ions and reference != second):
        msg = f"reference and second must be two of {ions} ions, got {reference}, {second}"
        raise ValueError(msg)
    length = np.linalg.norm(p[:, reference], axis=1)
    moving = length > 0
    x = np.divide(
        p[:, reference], length[:, None], where=moving[:, None], out=np.zeros((len(p), 3))
    )
    x[~moving] = (1.0, 0.0, 0.0)

    z = np.cross(x, p[:, second])
    across = np.linalg.norm(z, axis=1)
    planar = moving & (across > _ROUNDING * np.linalg.norm(p[:, second], axis=1))
    z = np.divide(z, across[:, None], where=planar[:, None], out=z)
    # of nearly collinear momenta the product is mostly rounding, which need not be across x
    z -= np.sum(z * x, axis=1, keepdims=True) * x
    z = np.divide(z, np.linalg.norm(z, axis=1)[:, None], where=planar[:, None], out=z)
    in_plane = np.stack([x, np.cross(z, x), z], axis=1)
    return np.where(planar[:, None, None], in_plane, _least_rotation_to_x(x))


def _least_rotation_to_x(x):
    """Return the rotations of least angle that take the unit vectors `x` (n, 3) to +x."""
    a, b, c = x.T
    # Rodrigues' formula about x × (1, 0, 0), with 1 / (1 + a) in a form that stays accurate
    # towards -x, where b = c = 0
    across = b * b + c * c
    opposite = (a < 0) & (across < np.finfo(float).tiny)
    k = np.where(a < 0, 1 - a, 1.0) / np.where(a < 0, np.where(opposite, 1.0, across), 1 + a)
    out = np.empty((len(x), 3, 3))
    out[:, 0] = x
    out[:, 1] = np.stack([-b, 1 - b * b * k, -b * c * k], axis=1)
    out[:, 2] = np.stack([-c, -b * c * k, 1 - c * c * k], axis=1)
    out[opposite] = np.diag([-1.0, -1.0, 1.0])
    return out


def random_rotations(seed, first, count):
    """Return rotations that are uniform on SO(3), one for each event.

    Parameters
    ----------
    seed, first, count : int
        As in `coulex.random.uniform`; rotation i belongs to event first + i.

    Returns
    -------
    (count, 3, 3) array

    Notes
    -----
    Unit quaternions, uniform on the 3-sphere, of three uniform numbers: K. Shoemake, in
    Graphics Gems III (1992), p. 124.
    """
    uniform = random.uniform(seed, first, count, 3, random.ORIENTATION)
    quaternions = np.empty((count, 4))
    _shoemake(quaternions, uniform)
    return rotation_matrices(quaternions)


@compiled
def _shoemake(out, uniform):
    """Write a unit quaternion for every three uniform numbers."""
    for i in range(out.shape[0]):
        u, v, w = uniform[i, 0], 2 * math.pi * uniform[i, 1], 2 * math.pi * uniform[i, 2]
        near, far = math.sqrt(1 - u), math.sqrt(u)
        out[i, 0], out[i, 1] = far * math.cos(w), near * math.sin(v)
        out[i, 2], out[i, 3] = near * math.cos(v), far * math.sin(w)


def rotation_matrices(quaternions):
    """Return the rotations (..., 3, 3) of unit quaternions (..., 4), scalar part first."""
    q = np.ascontiguousarray(quaternions, dtype=float)
    out = np.empty((*q.shape[:-1], 3, 3))
    _fill_matrices(out.reshape(-1, 3, 3), q.reshape(-1, 4))
    return out


@compiled
def _fill_matrices(out, quaternions):
    """Write the rotation of every unit quaternion."""
    for i in range(out.shape[0]):
        a, b = quaternions[i, 0], quaternions[i, 1]
        c, d = quaternions[i, 2], quaternions[i, 3]
        out[i, 0, 0] = 1 - 2 * (c * c + d * d)
        out[i, 0, 1] = 2 * (b * c - a * d)
        out[i, 0, 2] = 2 * (b * d + a * c)
        out[i, 1, 0] = 2 * (b * c + a * d)
        out[i, 1, 1] = 1 - 2 * (b * b + d * d)
        out[i, 1, 2] = 2 * (c * d - a * b)
        out[i, 2, 0] = 2 * (b * d - a * c)
        out[i, 2, 1] = 2 * (c * d + a * b)
        out[i, 2, 2] = 1 - 2 * (b * b + c * c)


def kabsch(moving, fixed, *, weights=None):
    """Return the proper rotations that lay one set of points best upon another.

    Parameters
    ----------
    moving, fixed : (..., points, 3) array
        Compared about their (weighted) centres.
    weights : (points,) array, optional
        Not negative, such as masses; all equal when omitted.

    Returns
    -------
    rotations : (..., 3, 3) array
        Minimize the weighted sum of |R moving_i - fixed_i|²; never a reflection.
    rmsd : (...) array
        The root mean square distance that is left.

    Raises
    ------
    ValueError
        If the shapes disagree or the weights are negative or all zero.

    Notes
    -----
    The best rotation, as a quaternion, is the eigenvector to the largest eigenvalue of a
    symmetric 4 × 4 matrix. Where several rotations do equally well (points on a line, a mirror
    image of high symmetry) the eigenvalue is degenerate, and of its eigenvectors the one
    closest to no rotation is taken.

    References
    ----------
    B. K. P. Horn, J. Opt. Soc. Am. A 4, 629 (1987). https://doi.org/10.1364/JOSAA.4.000629
    """
    a, b = np.asarray(moving, dtype=float), np.asarray(fixed, dtype=float)
    if a.shape != b.shape or a.ndim < 2 or a.shape[-1] != 3:
        msg = f"both sets of points must be (..., points, 3), got {a.shape} and {b.shape}"
        raise ValueError(msg)
    w = np.ones(a.shape[-2]) if weights is None else np.asarray(weights, dtype=float)
    if w.shape != a.shape[-2:-1] or not ((w >= 0).all() and w.sum() > 0):
        msg = f"weights must be ({a.shape[-2]},), not negative and not all zero, got {w}"
        raise ValueError(msg)
    a = a - centre_of_mass(a, w)[..., None, :]
    b = b - centre_of_mass(b, w)[..., None, :]
    rotations = rotation_matrices(
        _best_quaternions(np.einsum("i,...ij,...ik->...jk", w, a, b))
    )
    left = np.sum((a @ np.swapaxes(rotations, -1, -2) - b) ** 2, axis=-1)
    return rotations, np.sqrt(left @ w / w.sum())


def _best_quaternions(s):
    """Return the quaternions (..., 4) that maximize tr(R s), of least angle among the best."""
    horn = np.empty((*s.shape[:-2], 4, 4))
    antisymmetric = s - np.swapaxes(s, -1, -2)
    trace = np.trace(s, axis1=-2, axis2=-1)
    horn[..., 0, 0] = trace
    horn[..., 0, 1] = horn[..., 1, 0] = antisymmetric[..., 1, 2]
    horn[..., 0, 2] = horn[..., 2, 0] = antisymmetric[..., 2, 0]
    horn[..., 0, 3] = horn[..., 3, 0] = antisymmetric[..., 0, 1]
    horn[..., 1:, 1:] = s + np.swapaxes(s, -1, -2) - trace[..., None, None] * np.eye(3)
    values, vectors = np.linalg.eigh(horn)
    slack = _ROUNDING * np.abs(values).max(axis=-1, keepdims=True)
    best = values >= values[..., -1:] - slack
    # the part of no rotation, (1, 0, 0, 0), that lies within the best eigenvectors
    scalar = np.where(best, vectors[..., 0, :], 0.0)
    projected = np.einsum("...ij,...j->...i", vectors, scalar)
    length = np.linalg.norm(projected, axis=-1, keepdims=True)
    far = length < _ROUNDING
    return np.where(far, vectors[..., -1], projected / np.where(far, 1.0, length))


def angle(first, vertex, second):
    """Return the angle first - vertex - second in radians, from 0 to π.

    Parameters
    ----------
    first, vertex, second : (..., 3) array

    Notes
    -----
    By the arc tangent, which keeps its accuracy near 0 and π, where the arc cosine has none.
    """
    u, v = np.subtract(first, vertex), np.subtract(second, vertex)
    return np.arctan2(np.linalg.norm(np.cross(u, v), axis=-1), np.sum(u * v, axis=-1))
