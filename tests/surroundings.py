"""Structures and environments for tests: a crystal that is shaken, and random clusters."""

from pathlib import Path

import numpy as np
import pytest

from coulex.frames import random_rotations

SHARED = Path(__file__).parents[2] / "shared" / "data" / "amorphous-silicon"
EDGE = 5.431  #: of the cubic cell of silicon, Å


def shared(name):
    """Return a file of real structures, or skip the test."""
    if not (SHARED / name).exists():
        pytest.skip(f"no ../shared/data/amorphous-silicon/{name}")
    return SHARED / name


def shaken_diamond(cells=2, *, sigma=0.1, seed=0):
    """Return positions (atoms, 3) and cell of silicon, shaken by a Gaussian of `sigma` Å."""
    corner = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]])
    basis = np.concatenate([corner, corner + 1]) * EDGE / 4
    shifts = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(
        -1, 1, 3
    )
    positions = (basis + shifts * EDGE).reshape(-1, 3)
    positions = positions + np.random.default_rng(seed).normal(0, sigma, positions.shape)
    return positions, np.eye(3) * cells * EDGE


def clusters(count, n=8, seed=0):
    """Return random environments (count, n, 3): four atoms near, the others farther."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(count, n, 3))
    direction /= np.linalg.norm(direction, axis=2, keepdims=True)
    radius = np.where(np.arange(n) < 4, 2.4, 3.6) + rng.normal(0, 0.1, (count, n))
    return direction * radius[..., None]


def turned(x, seed=0, *, mirror=True):
    """Return environments in random orientations, with the matrices; half of them mirrored."""
    q = random_rotations(seed, 0, len(x))
    if mirror:
        q = q * np.where(np.arange(len(x)) % 2, -1.0, 1.0)[:, None, None]
    return x @ q, q
