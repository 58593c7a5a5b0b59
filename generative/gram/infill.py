"""Atoms that are missing from an environment: completed by what was learned of whole ones.

Known are some atoms about a centre, in any order and frame; what is said of the missing ones
follows from these alone, or from outer neighbours as well. Models that draw missing atoms have
a method `infill` (`gram-diffusion`, `gram-equivariant`, `gram-graph`); an autoencoder
(`gram-vae`) is searched (`generative.gram.search`); `generative.gram.library` looks them up.

All give (m, n, atoms, 3) in Å, the known atoms first and as they were given.
"""

from itertools import permutations
from typing import Any

import numpy as np
import torch

from .search import Search, searched

TOLERANCE = 0.5  #: Å, of an atom that is found


def infill(
    model: Any,
    known: np.ndarray,
    n: int,
    generator: torch.Generator,
    *,
    outer: np.ndarray | None = None,
    search: Search | None = None,
) -> np.ndarray:
    """Complete environments by a model, whichever way it has.

    Parameters
    ----------
    model : Model
    known : (m, k, 3) array
        Å, about the centre.
    n : int
        Completions of each. Of a search, the ends with the least f.
    generator : torch.Generator
    outer : (m, context, 3) array, optional
        Neighbours beyond the environment, in the same frame; for models with a context.
    search : Search, optional
        For models that are searched.

    Raises
    ------
    ValueError
        If the model cannot fill in, or if its context is missing.
    """
    known = np.asarray(known, float)
    context = getattr(model.representation, "context", 0)
    if context and outer is None:
        msg = f"{model.name} was trained with a context of {context} outer neighbours"
        raise ValueError(msg)
    told = np.zeros((len(known), 0, 3)) if not context else np.asarray(outer, float)
    if told.shape != (len(known), context, 3):
        msg = f"a context of {(len(known), context, 3)} is needed, got {told.shape}"
        raise ValueError(msg)
    if hasattr(model, "infill"):
        tensors = (torch.from_numpy(a).to(model.centre) for a in (known, told))
        with torch.no_grad():
            one, other = tensors
            drawn = model.infill(one, other.flatten(1), n, generator)
        drawn = drawn.double().cpu().numpy()
        drawn[:, :, : known.shape[1]] = known[:, None]
        return drawn
    if not hasattr(model, "decode_gram"):
        msg = f"{model.name} can neither draw missing atoms nor be searched for them"
        raise ValueError(msg)
    return searched(model, known, told, n, generator, search or Search())


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
    m, count, missing = drawn.shape[:3]
    orders = np.array(list(permutations(range(missing))))
    chosen = np.zeros((m, n), int)
    for one in range(m):
        apart = np.linalg.norm(
            drawn[one, :, None, :, None] - drawn[one, None, :, None], axis=-1
        )
        near = apart <= TOLERANCE
        agree = near[:, :, np.arange(missing), orders].all(-1).any(-1)
        left = np.ones(count, bool)
        for number in range(n):
            votes = np.where(left, (agree & left).sum(1), -1)
            best = int(votes.argmax())
            chosen[one, number] = best
            left &= ~agree[best]
    return chosen
