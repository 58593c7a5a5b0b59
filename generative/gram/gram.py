"""The Gram matrix of an environment, which says everything but its orientation.

The rows of X (n, 3) are positions of n atoms about a centre. G = X Xᵀ holds all their scalar
products; it stays the same when X is turned or mirrored, X → X Q with Q in O(3), and X follows
from it but for that Q. G has rank 3: of the matrices that a network decodes, the nearest one
that belongs to atoms keeps the three largest eigenvalues, those above zero (Eckart and Young
1936, with the positive side of the spectrum).

About a fixed centre G has 3n - 3 degrees of freedom, 21 for 8 atoms: 3n coordinates less the 3
of a rotation. About the centroid of the n atoms it has 3n - 6, 18.

All functions take stacks of matrices, (..., n, n) or (..., n, 3), as numpy arrays or as
tensors, and return the same kind.
"""

from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Array = TypeVar("Array", np.ndarray, Tensor)

#: triples of atoms whose volumes differ by less, relatively, are equally good
_SAME_VOLUME = 1e-6


def gram(x: Array) -> Array:
    """Return G (..., n, n) = X Xᵀ of positions (..., n, 3), in their unit squared."""
    return x @ x.swapaxes(-1, -2)


def upper(g: Array) -> Array:
    """Return the entries (..., n (n + 1) / 2) with j ≥ i, row by row."""
    i, j = np.triu_indices(g.shape[-1])
    return g[..., i, j]


def from_upper(entries: Array) -> Array:
    """Return the symmetric matrix (..., n, n) of its entries with j ≥ i."""
    n = round((np.sqrt(8 * entries.shape[-1] + 1) - 1) / 2)
    if n * (n + 1) // 2 != entries.shape[-1]:
        msg = f"entries of a triangle are n (n + 1) / 2, got {entries.shape[-1]}"
        raise ValueError(msg)
    place = np.zeros((n, n), int)
    i, j = np.triu_indices(n)
    place[i, j] = place[j, i] = np.arange(entries.shape[-1])
    return entries[..., place]


def spectrum(g: Array) -> Array:
    """Return the eigenvalues (..., n), the largest first."""
    values: Any = _linalg(g).eigvalsh(g)
    ordered: Any = values.flip(-1) if isinstance(values, Tensor) else values[..., ::-1]
    return ordered


def factor(g: Array, hand: Array | None = None) -> Array:
    """Return positions X (..., n, 3) whose G is nearest to the given one, in some orientation.

    Parameters
    ----------
    g : (..., n, n)
    hand : (...), optional
        ±1, as `handedness` tells; without it, mirror images are not told apart.

    Notes
    -----
    X = V √λ of the three largest eigenvalues, those below zero as zero. For G of rank 3 the
    error of X Xᵀ is rounding.
    """
    values, vectors = _linalg(g).eigh(g)
    x: Any = vectors[..., -3:] * values[..., None, -3:].clip(min=0) ** 0.5
    if hand is not None:
        flip = handedness(x) * hand
        x = x * flip[..., None, None]
    return x


def rank3(g: Array) -> Array:
    """Return the nearest matrix (..., n, n) that belongs to atoms: rank 3, none negative."""
    return gram(factor(g))


def handedness(x: Array) -> Array:
    """Return what G loses, as ±1 (...): which of two mirror images labelled atoms are.

    The sign of the volume that three of the atoms span with the centre: the first three, in
    the order of labels, whose volume is the largest. Planar environments are their own mirror
    image, and are +1.
    """
    triples = np.array(list(combinations(range(x.shape[-2]), 3)))
    positions: Any = x
    volume = _linalg(x).det(positions[..., triples, :])
    size = abs(volume)
    large = size >= (1 - _SAME_VOLUME) * (
        size.amax(-1, keepdim=True)
        if isinstance(size, Tensor)
        else size.max(-1, keepdims=True)
    )
    hand: Any
    if isinstance(volume, Tensor):
        first = large.int().argmax(-1, keepdim=True)
        chosen = volume.gather(-1, first)[..., 0]
        hand = torch.where(chosen < 0, -1.0, 1.0).to(positions.dtype)
    else:
        chosen = np.take_along_axis(volume, large.argmax(-1, keepdims=True), -1)[..., 0]
        hand = np.where(chosen < 0, -1.0, 1.0).astype(positions.dtype)
    return hand


class Normaliser(nn.Module):
    """Four numbers that scale a triangle: mean and spread of the diagonal and of the rest.

    Parameters
    ----------
    n : int
        Atoms.

    Attributes
    ----------
    moments : (2, 2) tensor
        Mean and standard deviation, of the diagonal and of the entries beside it.
    """

    moments: Tensor
    diagonal: Tensor

    def __init__(self, n: int):
        super().__init__()
        i, j = np.triu_indices(n)
        self.register_buffer("moments", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
        self.register_buffer("diagonal", torch.from_numpy(i == j), persistent=False)

    def learn(self, entries: Tensor) -> None:
        """Take the numbers from triangles (m, n (n + 1) / 2) of training data."""
        for row, mine in enumerate((self.diagonal, ~self.diagonal)):
            values = entries[:, mine].double()
            if not values.numel():  # one atom has no entries beside the diagonal
                continue
            spread = values.std(correction=0)
            self.moments[row, 0] = values.mean()
            self.moments[row, 1] = spread if spread > 0 else 1.0

    def scale(self, entries: Tensor) -> Tensor:
        """Return entries (..., n (n + 1) / 2) with mean 0 and deviation 1."""
        mean, spread = self._of_each(entries)
        return (entries - mean) / spread

    def unscale(self, scaled: Tensor) -> Tensor:
        """Undo `scale`."""
        mean, spread = self._of_each(scaled)
        return scaled * spread + mean

    def _of_each(self, entries: Tensor) -> tuple[Tensor, Tensor]:
        rows = (~self.diagonal).long()
        mean, spread = self.moments[rows].to(entries.dtype).unbind(1)
        return mean, spread


def _linalg(array) -> Any:
    return torch.linalg if isinstance(array, Tensor) else np.linalg
