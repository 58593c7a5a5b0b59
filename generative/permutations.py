"""Identical ions, whose numbers mean nothing: orders of the ions that are as good as another.

An order is an array of ions, `x[order]` the geometry in it. Orders differ by exchanges of
identical ions only: same mass, same charge.
"""

from collections.abc import Sequence
from itertools import permutations as orders_of
from itertools import product
from math import factorial, prod

import numpy as np

#: orders that are listed one by one; six identical ions have 720
LARGEST = 720


def identical_groups(masses: Sequence[float], charges: Sequence[float]) -> list[list[int]]:
    """Return the groups of two and more ions of the same mass and charge."""
    kinds = list(zip(masses, charges, strict=True))
    groups = {kind: [i for i, k in enumerate(kinds) if k == kind] for kind in kinds}
    return [group for group in groups.values() if len(group) > 1]


def permutations(groups: Sequence[Sequence[int]], ions: int) -> np.ndarray:
    """Return all orders, (orders, ions), the given one first.

    Raises
    ------
    ValueError
        If there are more than `LARGEST`.
    """
    count = prod(factorial(len(group)) for group in groups)
    if count > LARGEST:
        msg = f"{count} orders of identical ions, more than {LARGEST}: too many to try each"
        raise ValueError(msg)
    table = np.tile(np.arange(ions), (count, 1))
    for row, choice in zip(table, product(*map(orders_of, groups)), strict=True):
        for group, other in zip(groups, choice, strict=True):
            row[list(group)] = other
    return table


def canonical_orders(momenta, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the order (m, ions) of each event by momentum, the largest first in each group.

    The modulus of a momentum does not depend on the frame; two that are equal stay as given.
    """
    p = np.asarray(momenta, float)
    order = np.tile(np.arange(p.shape[1]), (len(p), 1))
    for group in groups:
        square = np.einsum("mik,mik->mi", p[:, group], p[:, group])
        order[:, group] = np.asarray(group)[np.argsort(-square, axis=1, kind="stable")]
    return order


def random_orders(
    count: int, ions: int, groups: Sequence[Sequence[int]], rng: np.random.Generator
) -> np.ndarray:
    """Return an order (count, ions) for each event, all of them equally probable."""
    order = np.tile(np.arange(ions), (count, 1))
    for group in groups:
        order[:, group] = rng.permuted(order[:, group], axis=1)
    return order


def inverse(order) -> np.ndarray:
    """Return the orders (m, ions) that undo others."""
    return np.argsort(order, axis=1)


def reorder(array, order) -> np.ndarray:
    """Return `array[event, ..., order[event]]` for arrays (m, ions) or (m, ..., ions, 3)."""
    array = np.asarray(array)
    if array.ndim == 2:
        return np.take_along_axis(array, order, axis=1)
    index = order.reshape(len(order), *(1,) * (array.ndim - 3), order.shape[1], 1)
    return np.take_along_axis(array, index, axis=-2)
