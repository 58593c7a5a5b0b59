"""Features made of momenta: what a model is told of an event.

A condition is a row of numbers, features side by side in the order of their names. `FEATURES`
lists them. All but "momenta" are the same in whatever frame the momenta are given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .seen import Seen


@dataclass(frozen=True)
class Feature:
    """A few numbers made of the momenta of an event."""

    size: Callable[[int], int]  #: of the number of ions
    of: Callable[[Seen], np.ndarray]  #: (m, size)
    says: str


def free_components(ions: int, axes: tuple[int, int]) -> np.ndarray:
    """Return which components (ions, 3) in the recoil frame are not zero by its definition.

    Along with those of the axes: momenta without a sum are in a plane where there are three
    ions, and on a line where there are two.
    """
    free = np.ones((ions, 3), bool)
    free[axes[0], 1:] = False
    free[axes[1], 2] = False
    if ions <= 3:
        free[:, 2] = False
    if ions == 2:
        free[:, 1] = False
    return free


def check(names: Sequence[str]) -> None:
    """Raise ValueError unless all names are those of features, each once."""
    unknown = [name for name in names if name not in FEATURES]
    if unknown:
        msg = f"no condition {', '.join(unknown)}; there are {', '.join(FEATURES)}"
        raise ValueError(msg)
    if len(set(names)) < len(names):
        msg = f"a condition is named twice: {', '.join(names)}"
        raise ValueError(msg)


def size(names: Sequence[str], ions: int) -> int:
    """Return the length of a condition."""
    return sum(FEATURES[name].size(ions) for name in names)


def encode(names: Sequence[str], seen: Seen) -> np.ndarray:
    """Return conditions (m, size)."""
    parts = [FEATURES[name].of(seen) for name in names]
    return np.concatenate([np.empty((len(seen.momenta), 0)), *parts], axis=1)


def _recoil(seen: Seen) -> np.ndarray:
    return seen.recoil[:, free_components(len(seen.masses), seen.axes)]


def _scale_free(seen: Seen) -> np.ndarray:
    weighted = seen.recoil / np.sqrt(seen.masses)[:, None]
    free = weighted[:, free_components(len(seen.masses), seen.axes)]
    with np.errstate(invalid="ignore"):  # of an event at rest, which the loader will name
        return free / np.sqrt(2 * seen.ker)[:, None]


def _moduli(seen: Seen) -> np.ndarray:
    return np.sqrt(np.einsum("mik,mik->mi", seen.momenta, seen.momenta))


def _pair_angles(seen: Seen) -> np.ndarray:
    p = seen.momenta
    pairs = [(i, j) for j in range(p.shape[1]) for i in range(j)]
    one, two = (p[:, list(ions)] for ions in zip(*pairs, strict=True))
    # by the arc tangent: the arc cosine is worth little near 0 and π
    return np.arctan2(
        np.linalg.norm(np.cross(one, two), axis=2), np.einsum("mpk,mpk->mp", one, two)
    )


def _log_ker(seen: Seen) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(seen.ker)[:, None]


def _charges(seen: Seen) -> np.ndarray:
    return np.broadcast_to(seen.charges, seen.momenta.shape[:2])


def _log_noise(seen: Seen) -> np.ndarray:
    assert seen.noise is not None
    return np.log(seen.noise)[:, None]


def _n_free(ions: int) -> int:
    return int(free_components(ions, (0, 1)).sum())


#: by name; p in a.u., energies in hartree, angles in radians
FEATURES = {
    "momenta": Feature(
        lambda ions: 3 * ions,
        lambda seen: seen.momenta.reshape(len(seen.momenta), -1),
        says="components of all momenta, in the frame of the representation",
    ),
    "recoil": Feature(
        _n_free, _recoil, says="components in the recoil frame, without its zeros"
    ),
    "scale-free": Feature(
        _n_free,
        _scale_free,
        says="the same of p / sqrt(2 m KER): momenta without their size",
    ),
    "moduli": Feature(lambda ions: ions, _moduli, says="|p| of each ion"),
    "pair-angles": Feature(
        lambda ions: ions * (ions - 1) // 2,
        _pair_angles,
        says="angles between momenta, of each pair of ions",
    ),
    "ker": Feature(lambda _: 1, lambda s: s.ker[:, None], says="kinetic energy release"),
    "log-ker": Feature(lambda _: 1, _log_ker, says="its logarithm"),
    "charges": Feature(lambda ions: ions, _charges, says="charge of each ion"),
    "noise": Feature(
        lambda _: 1, _log_noise, says="logarithm of the relative noise of momenta"
    ),
}
