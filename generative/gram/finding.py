"""Whether missing atoms were found, and which of many completions to believe.

An atom is found when one is put within `TOLERANCE` of its place. Which atoms are hidden, and
what counts, is the same for all ways of filling in.
"""

from itertools import permutations

import numpy as np

TOLERANCE = 0.5  #: Å


def hidden(
    x: np.ndarray, known: int, rng: np.random.Generator, *, which: str = "any"
) -> tuple[np.ndarray, np.ndarray]:
    """Split environments (m, n, 3) into known atoms (m, k, 3) and missing ones.

    Parameters
    ----------
    x : (m, n, 3) array
    known : int
        k.
    rng : numpy.random.Generator
    which : str
        Are missing: "any" atoms, the "farthest", or the "nearest".

    Raises
    ------
    ValueError
        If nothing is known, or nothing missing.
    """
    if not 0 < known < x.shape[1]:
        msg = f"1 to {x.shape[1] - 1} atoms can be known of {x.shape[1]}, got {known}"
        raise ValueError(msg)
    distance = np.linalg.norm(x, axis=2)
    keys = {"any": rng.random(distance.shape), "farthest": distance, "nearest": -distance}
    order = np.argsort(keys[which], axis=1)
    shuffled = np.take_along_axis(x, order[..., None], axis=1)
    return shuffled[:, :known], shuffled[:, known:]


def found(drawn: np.ndarray, missing: np.ndarray) -> dict[str, np.ndarray]:
    """Return whether missing atoms were found.

    Parameters
    ----------
    drawn : (m, n, l, 3) array
        The missing atoms of n completions.
    missing : (m, l, 3) array
        As they are.

    Returns
    -------
    dict
        `all` (m, n) bool: whether all missing atoms are within `TOLERANCE` of drawn ones, each
        of its own; `atom` (m, n, l) bool: whether any drawn atom is that near to each.
    """
    apart = np.linalg.norm(drawn[:, :, :, None] - missing[:, None, None], axis=-1)
    near = apart <= TOLERANCE
    orders = np.array(list(permutations(range(missing.shape[1]))))
    together = near[:, :, orders, np.arange(missing.shape[1])].all(-1).any(-1)
    return {"all": together, "atom": near.any(2)}


def rates(drawn: np.ndarray, missing: np.ndarray) -> dict[str, float]:
    """Return the shares of environments and atoms that were found.

    Returns
    -------
    dict
        `first`: all missing atoms by the first completion; `one`: by one completion, on
        average over all; `best`: by any; `coverage`: share of missing atoms that any
        completion has found; `error`: standard error of `first`.
    """
    of = found(drawn, missing)
    first = float(of["all"][:, 0].mean())
    return {
        "first": first,
        "one": float(of["all"].mean()),
        "best": float(of["all"].any(1).mean()),
        "coverage": float(of["atom"].any(1).mean()),
        "error": float(np.sqrt(first * (1 - first) / len(missing))),
    }


def ranked(drawn: np.ndarray, n: int) -> np.ndarray:
    """Return the draws that most others agree with, one of each kind, (m, n) int.

    Parameters
    ----------
    drawn : (m, K, l, 3) array
        The missing atoms of K draws.
    n : int
        Wanted of each.

    Notes
    -----
    The first is the draw with the most draws within `TOLERANCE` of it, atom by atom: where
    the density integrated over that distance is the largest, which is the best single answer.
    Those that agree with it are then left out, and so on; a draw that is alone is still one.
    """
    chosen = np.zeros((len(drawn), n), int)
    for row, draws in zip(chosen, drawn, strict=True):
        agree = _agree(draws)
        left = np.ones(len(draws), bool)
        for number in range(n):
            votes = np.where(left, (agree & left).sum(1), -1)
            row[number] = votes.argmax()
            left &= ~agree[row[number]]
    return chosen


def distinct(drawn: np.ndarray, cost: np.ndarray, n: int) -> np.ndarray:
    """Return the completions that cost least, one of each kind, (m, n) int.

    Parameters
    ----------
    drawn : (m, K, l, 3) array
        The missing atoms of K completions.
    cost : (m, K) array
    n : int
        Wanted of each. Where there are fewer kinds, others follow in the order of their cost.
    """
    chosen = np.zeros((len(drawn), n), int)
    for row, draws, price in zip(chosen, drawn, cost, strict=True):
        agree = _agree(draws)
        left = np.ones(len(draws), bool)
        taken = np.zeros(len(draws), bool)
        for number in range(n):
            free = (left if left.any() else ~taken) & ~taken
            row[number] = np.where(free, price, np.inf).argmin()
            taken[row[number]] = True
            left &= ~agree[row[number]]
    return chosen


def _agree(draws: np.ndarray) -> np.ndarray:
    """Return which of draws (K, l, 3) have all atoms within `TOLERANCE` of others, (K, K)."""
    apart = np.linalg.norm(draws[:, None, :, None] - draws[None, :, None], axis=-1)
    atoms = range(draws.shape[1])
    return (apart <= TOLERANCE)[:, :, atoms, list(permutations(atoms))].all(-1).any(-1)
