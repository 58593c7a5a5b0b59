"""Two environments laid onto each other by the best rotation: orthogonal Procrustes.

With rows as atoms, the Q that minimises Σ_i w_i |x_i - y_i Q|² is U Vᵀ of the singular value
decomposition Yᵀ W X = U S Vᵀ (Schönemann 1966), in O(3); a proper rotation flips the direction
of the smallest singular value where U Vᵀ mirrors (Kabsch 1976). Where the minimum is not one
point (planar, collinear, all zero) any of the minimisers is returned, orthogonal all the same.

Weights multiply the squares of distances, atom by atom, here as everywhere: an atom at the
edge of an environment that fades out (`environments.fading`) then moves neither frame nor loss
when it is exchanged for another.

At the minimum the loss does not change to first order with Q, and that is all its derivative
asks: Q is detached, and no decomposition is ever differentiated (envelope theorem). This is
exact wherever the minimum is a single point, and for proper rotations away from the points
where the two best ones change places.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .gram import Array, _linalg


def align(x: Array, y: Array, *, proper: bool = False, weights: Array | None = None) -> Array:
    """Return the Q (..., 3, 3) that minimises |X - Y Q|.

    Parameters
    ----------
    x, y : (..., n, 3)
        Broadcast against each other.
    proper : bool
        Whether Q must be a rotation, and mirror no image.
    weights : (..., n), optional
        Of the atoms.
    """
    weighted = x if weights is None else x * weights[..., None]
    return nearest_orthogonal(y.swapaxes(-1, -2) @ weighted, proper=proper)


def nearest_orthogonal(m: Array, *, proper: bool = False) -> Array:
    """Return the Q (..., 3, 3) with the largest tr(Qᵀ M): orthogonal, and nearest to M."""
    linalg: Any = _linalg(m)
    u, _, vh = linalg.svd(m)
    if proper:
        sign = linalg.det(u) * linalg.det(vh)
        if isinstance(u, Tensor):
            u = torch.cat([u[..., :2], u[..., 2:] * sign[..., None, None]], -1)
        else:
            u = np.concatenate([u[..., :2], u[..., 2:] * sign[..., None, None]], -1)
    return u @ vh


def procrustes_loss(
    x: Tensor, y: Tensor, *, proper: bool = False, weights: Tensor | None = None
) -> Tensor:
    """Return the squared distance (...) of two environments after the best rotation.

    Parameters
    ----------
    x, y : (..., n, 3) tensor
        The gradient reaches both.
    proper : bool
        As in `align`.
    weights : (..., n) tensor, optional
        Of the atoms.
    """
    with torch.no_grad():
        q = align(x, y, proper=proper, weights=weights)
    square = ((x - y @ q) ** 2).sum(-1)
    return (square if weights is None else square * weights).sum(-1)


def rmsd(x: Array, y: Array, *, proper: bool = False) -> Array:
    """Return the root of the mean squared distance (...) of atoms after the best rotation."""
    square: Any = (x - y @ align(x, y, proper=proper)) ** 2
    return square.sum(-1).mean(-1) ** 0.5
