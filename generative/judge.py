"""The scorecard of draws of positions: network, what it is measured by, and what is possible.

All rows are of the same events, seen in the frame of the model, and have the same columns
(`COLUMNS`), so that they compare:

- what knows nothing: the mean geometry of all events, and the geometry of another event;
- the network: the mean of its draws, a single draw, and the one that is nearest to the truth;
- the exact posterior, where it is known;
- the truth itself, whose momentum residual is what noise makes of it.

The mean of draws is best in squared errors, and need not be a possible geometry. A single draw
of a perfect posterior has twice its squared error: draws are judged by the CRPS, together.
The nearest of n draws improves with n alone; it says whether the truth is among them.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from coulex.frames import centre_of_mass, recoil_frame, rotate

from . import calibration, metrics, two_sample

#: of every row, in atomic units; keys of the JSON
COLUMNS = (
    *("mse", "mae", "mre", "mse_standardised", "distance_mae"),
    *("momentum_residual", "crps", "nll"),
)
_OTHERS = 50  #: geometries of other events that stand for what is known without momenta
_EVENTS = 1 << 11  #: that are scored together
_SAMPLES = 1000  #: of two-sample tests, whose cost is their square


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a row is made of.

    Attributes
    ----------
    point : (m, ions, 3) array
        One geometry for each event.
    residual : (k,) array or None
        Of momenta, relative: of all geometries that the row stands for.
    draws, weights : (m, n, ions, 3), (m, n) array or None
    fair : bool
        False where the draws are all that is possible.
    nll : float
        Mean of -log q at the truth.
    """

    point: np.ndarray
    residual: np.ndarray | None = None
    draws: np.ndarray | None = None
    weights: np.ndarray | None = None
    fair: bool = True
    nll: float = np.nan

    def scores(self, true: np.ndarray) -> dict[str, float]:
        """Return the numbers of `COLUMNS`; NaN where there is none."""
        errors = asdict(metrics.point_errors(self.point, true))
        errors["distance_mae"] = float(metrics.distance_errors(self.point, true).mean())
        errors["momentum_residual"] = (
            np.nan if self.residual is None else float(np.median(self.residual))
        )
        errors["crps"] = errors["mae"] if self.draws is None else self._crps(true)
        errors["nll"] = self.nll
        return {name: errors[name] for name in COLUMNS}

    def atom_error(self, true: np.ndarray) -> dict[str, float]:
        """Return quantiles of the error of an ion after the best rotation, bohr."""
        far = metrics.atom_errors(self.point, true)
        return {
            "median": float(np.median(far)),
            "percentile_99": float(np.quantile(far, 0.99)),
            "rms": float(np.sqrt((far**2).mean())),
        }

    def _crps(self, true: np.ndarray) -> float:
        assert self.draws is not None
        total = 0.0
        for first in range(0, len(true), _EVENTS):
            part = slice(first, first + _EVENTS)
            w = None if self.weights is None else self.weights[part]
            score = metrics.crps(self.draws[part], true[part], w, fair=self.fair)
            total += float(score.sum())
        return total / true.size


def of_draws(draws, true, residual, *, nll: float = np.nan) -> dict[str, Row]:
    """Return the rows of a network.

    Parameters
    ----------
    draws : (m, n, ions, 3) array
    true : (m, ions, 3) array
    residual : (m, n) array
        Of the momenta of each draw.
    nll : float
    """
    x = np.asarray(draws, float)
    square = ((x - true[:, None]) ** 2).sum(axis=(2, 3))
    every, best = np.arange(len(x)), square.argmin(axis=1)
    return {
        "network": Row(
            point=metrics.mean_of(x), draws=x, residual=residual.reshape(-1), nll=nll
        ),
        "one_draw": Row(point=x[:, 0], residual=residual[:, 0]),
        "best_of": Row(point=x[every, best], residual=residual[every, best]),
    }


def of_nothing(true: np.ndarray) -> dict[str, Row]:
    """Return the rows of predictions that do not know the momenta of their event."""
    m = len(true)
    mean = np.broadcast_to(true.mean(axis=0), true.shape)
    others = (np.arange(m)[:, None] + 1 + np.arange(min(_OTHERS, m - 1))) % m
    return {
        "mean": Row(point=mean),
        "random": Row(point=true[others[:, 0]], draws=true[others]),
    }


def frames_of(momenta, description: dict[str, Any]) -> np.ndarray:
    """Return the rotations (m, 3, 3) into the frame in which a model sees its events.

    Parameters
    ----------
    momenta : (m, ions, 3) array
    description : dict
        Of the model's representation.
    """
    if description["frame"] == "recoil":
        first, second = description["axes"]
        return recoil_frame(momenta, reference=first, second=second)
    return np.broadcast_to(np.eye(3), (len(momenta), 3, 3))


def turned(vectors: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Return vectors (m, ..., 3) of events, turned by the rotations (m, 3, 3)."""
    flat = vectors.reshape(len(vectors), -1, 3)
    return rotate(flat, rotations).reshape(vectors.shape)


def in_gauge(true, masses, description: dict[str, Any]) -> np.ndarray:
    """Return true positions as a model gives them: as they are, or about the centre."""
    x = np.asarray(true, float)
    if description["coordinates"] == "positions":
        return x
    return x - centre_of_mass(x, masses)[:, None]


def calibrated(
    draws, true, rng: np.random.Generator, *, weights=None, log_density=None
) -> dict[str, Any]:
    """Return coverage and sharpness of draws, in the distances of the ions.

    Parameters
    ----------
    draws, true : (m, n, ions, 3), (m, ions, 3) array
    rng : numpy.random.Generator
    weights : (m, n) array, optional
    log_density : ((m, n) array, (m,) array), optional
        Of the draws and of the truth.
    """
    r, y = metrics.distances(draws), metrics.distances(true)
    spread = y.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    levels = calibration.central_levels(r, y, rng, weights)
    other = np.roll(y, 1, axis=0)
    tarp = calibration.tarp_levels(r / scale, y / scale, other / scale, rng, weights)
    found = {f"distance_{k + 1}": levels[:, k] for k in range(y.shape[1])} | {"tarp": tarp}
    if log_density is not None:
        drawn, at_truth = log_density
        found["density"] = calibration.density_levels(drawn, at_truth, rng)
    return {
        "coverage": {name: asdict(calibration.coverage(one)) for name, one in found.items()},
        "uniformity": {
            f"distance_{k + 1}": calibration.uniformity(rank)
            for k, rank in enumerate(calibration.pit(r, y, rng, weights).T)
        },
        "sharpness": float(np.sqrt((calibration.sharpness(r, weights) ** 2).mean())),
    }


def alike(draws, true, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Return whether single draws of all events are distributed as the truths are."""
    a = metrics.distances(np.asarray(draws)[:_SAMPLES, 0])
    b = metrics.distances(true[:_SAMPLES])
    scale = np.maximum(b.std(axis=0), 1e-300)
    a, b = a / scale, b / scale
    statistics = {
        "energy_distance": two_sample.energy_distance,
        "mmd": two_sample.mmd,
        "auc": lambda one, two: two_sample.auc(one, two, rng),
    }
    return {
        name: {
            "value": of(a, b),
            "stderr": two_sample.bootstrap(of, a, b, rng, repeats=20),
        }
        for name, of in statistics.items()
    }
