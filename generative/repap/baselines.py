"""What a network must beat: floors and models without one, on the same frames and cells.

- `Marginals`: every coordinate for itself, by its histogram;
- `Gaussian`: one normal distribution of all 3N coordinates;
- `Uniform`: atoms anywhere.

Each draws structures and knows the nats of a coordinate on the cells of a grid, an oracle for
the likelihood of a network. `on_grid` puts true frames on cells: no model of that grid with
centres for offsets is better.
"""

from typing import Protocol

import numpy as np
import torch
from scipy.special import log_ndtr, ndtr

from .grid import Grid

_PSEUDO = 0.01  #: counts of each cell
_LEAST = 1e-12  #: of a cell: what a Gaussian says about the impossible


class Baseline(Protocol):
    """A distribution of sequences u (m, atoms, 3), in fractions of the box."""

    def draw(self, m: int, rng: np.random.Generator) -> np.ndarray:
        """Return (m, atoms, 3)."""
        ...

    def nats(self, u: np.ndarray) -> float:
        """Return -log p of the cell of a coordinate, in the mean over coordinates."""
        ...


class Uniform:
    """Atoms anywhere.

    Parameters
    ----------
    u : (frames, atoms, 3) array
    grid : Grid
    """

    def __init__(self, u: np.ndarray, grid: Grid):
        self.shape, self.grid = u.shape[1:], grid

    def draw(self, m: int, rng: np.random.Generator) -> np.ndarray:
        return rng.random((m, *self.shape))

    def nats(self, u: np.ndarray) -> float:  # noqa: ARG002, all are alike
        return float(np.log(self.grid.cells))


class Marginals:
    """Every coordinate for itself; parameters as of `Uniform`."""

    def __init__(self, u: np.ndarray, grid: Grid):
        self.shape, self.grid = u.shape[1:], grid
        flat = _cells(u, grid)
        counts = [np.bincount(column, minlength=grid.cells) + _PSEUDO for column in flat.T]
        self.p = np.array(counts)
        self.p /= self.p.sum(1, keepdims=True)

    def draw(self, m: int, rng: np.random.Generator) -> np.ndarray:
        cells = [rng.choice(self.grid.cells, size=m, p=p) for p in self.p]
        u = (np.stack(cells, 1) + rng.random((m, len(self.p)))) / self.grid.cells
        return u.reshape(m, *self.shape)

    def nats(self, u: np.ndarray) -> float:
        picked = self.p[np.arange(len(self.p)), _cells(u, self.grid)]
        return float(-np.log(picked).mean())


class Gaussian:
    """One normal distribution of all coordinates; parameters as of `Uniform`.

    In a periodic box coordinates are taken at the image nearest to their circular mean.
    """

    def __init__(self, u: np.ndarray, grid: Grid):
        self.shape, self.grid = u.shape[1:], grid
        flat = u.reshape(len(u), -1)
        self.middle = flat.mean(0)
        if grid.periodic:
            self.middle = np.angle(np.exp(2j * np.pi * flat).mean(0)) / (2 * np.pi)
        off = self._off(flat)
        self.mean = off.mean(0)
        covariance = np.cov(off, rowvar=False)
        # the mean of all atoms may be at rest: three directions without any width
        covariance += np.eye(len(covariance)) * 1e-4 / grid.cells**2
        self.factor = np.linalg.cholesky(covariance)

    def draw(self, m: int, rng: np.random.Generator) -> np.ndarray:
        z = rng.standard_normal((m, len(self.mean)))
        u = (self.middle + self.mean + z @ self.factor.T).reshape(m, *self.shape)
        return u - np.floor(u) if self.grid.periodic else u

    def nats(self, u: np.ndarray) -> float:
        flat = u.reshape(len(u), -1)
        off = self._off(flat) - self.mean
        z = np.linalg.solve(self.factor, off.T).T
        width = np.diag(self.factor)
        centre = off - z * width  # of the coordinate, given those before it
        inside = flat * self.grid.cells % 1 / self.grid.cells  # above the edge of the cell
        low = (off - inside - centre) / width
        high = low + 1 / self.grid.cells / width
        flipped = np.where(low > 0, -1, 1)  # the tail that is computed without cancellation
        low, high = (
            np.minimum(flipped * low, flipped * high),
            np.maximum(flipped * low, flipped * high),
        )
        with np.errstate(divide="ignore"):
            log_p = np.where(
                high < -6,
                log_ndtr(high) + np.log1p(-np.exp(log_ndtr(low) - log_ndtr(high))),
                np.log(np.maximum(ndtr(high) - ndtr(low), 1e-300)),
            )
        return float(-np.maximum(log_p, np.log(_LEAST)).mean())

    def _off(self, flat: np.ndarray) -> np.ndarray:
        off = flat - self.middle
        return off - np.rint(off) if self.grid.periodic else off


BASELINES = {"marginals": Marginals, "gaussian": Gaussian, "random": Uniform}


def on_grid(u: np.ndarray, grid: Grid) -> np.ndarray:
    """Return coordinates at the centres of their cells."""
    return ((_cells(u, grid) + 0.5) / grid.cells).reshape(u.shape)


def _cells(u: np.ndarray, grid: Grid) -> np.ndarray:
    return grid.cell(torch.from_numpy(np.ascontiguousarray(u.reshape(len(u), -1)))).numpy()
