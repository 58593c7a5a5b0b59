"""A model as a sampler: momenta in, geometries and the density that they were drawn with out.

This is the face that `coulex.invert`, `coulex sample` and benchmarks see of a model; it keeps
to one thread, so that equal random numbers give equal draws.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from coulex.errors import InvalidDataError
from coulex.units import U

from . import files
from .geometry import Geometry
from .model import Model

#: deviations beyond the least and largest of the training that are still like it
FAR = 0.5

_MASS_TOLERANCE = 1e-4  #: relative: electrons more or less are told by the charges
_AT_ONCE = 1 << 16  #: draws that pass through a model together


class Sampler:
    """Draws geometries of momenta from a model.

    Parameters
    ----------
    model : Model
        Of geometries given momenta.

    Raises
    ------
    InvalidDataError
        If the model is of something else.
    """

    def __init__(self, model: Model):
        if not isinstance(model.representation, Geometry):
            kind = model.representation.kind
            msg = f"{model.name} was trained on {kind}, and draws no positions of momenta"
            raise InvalidDataError(msg)
        self.model = model.eval()
        self.geometry = cast(Geometry, model.representation)

    def __call__(
        self,
        momenta: np.ndarray,
        n: int,
        *,
        charges: np.ndarray,
        masses: np.ndarray,
        noise: float | None,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw `n` geometries for each event.

        Parameters
        ----------
        momenta : (k, ions, 3) array
            In atomic units.
        n : int
        charges, masses : (ions,) array
            Must be those of the training.
        noise : float or None
            Of each component of a momentum, relative to its length. None: the least that the
            model was trained with.
        rng : numpy.random.Generator

        Returns
        -------
        positions : (k, n, ions, 3) array
            In bohr, in the frame of the momenta.
        log_q : (k, n) array or None
            Logarithm of the density of the draws, in mass-weighted Cartesian coordinates
            relative to the centre of mass; None where the model has none that is exact.

        Raises
        ------
        InvalidDataError
            If atoms or charges are not those of the training.
        """
        p = np.asarray(momenta, float)
        self.check(masses, charges)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        q, step = np.asarray(charges, float), max(1, _AT_ONCE // n)
        x, log_q = np.empty((len(p), n, *p.shape[1:])), np.empty((len(p), n))
        for first in range(0, len(p), step):
            rows = slice(first, first + step)
            own = q if q.ndim == 1 else q[rows]
            x[rows], log_q[rows] = self._draw(p[rows], n, own, noise, generator)
        return x, log_q if self.has_density else None

    @cached_property
    def has_density(self) -> bool:
        """Return whether draws come with the density that they were drawn with, exactly."""
        charted = self.geometry.coordinates in ("jacobi", "shape")
        if not (charted and self.geometry.size == "drawn" and self.model.has_density):
            return False
        middle = self.model.centre[None], self.model.condition_centre[None]
        return self.model.log_prob(*middle).kind == "exact"  # a bound is no weight

    def log_density(self, positions, momenta, *, charges, noise: float | None):
        """Return log q of given geometries, as of draws, and what it is.

        Parameters
        ----------
        positions, momenta : (k, ions, 3) array
        charges, noise
            As of a call.

        Returns
        -------
        value : (k,) array
            NaN where a geometry has no coordinates.
        kind : str
            "exact", or the name of a bound; see `generative.score`.

        Raises
        ------
        InvalidDataError
            If the model has no density of positions.
        """
        p, q = np.asarray(momenta, float), np.asarray(charges, float)
        x = self.geometry.encode_positions(positions, p, q)
        _, log_det = self.geometry.decode(x[:, None], p, q)
        if log_det is None or not self.model.has_density:
            msg = f"{self.model.name} in these coordinates has no density of positions"
            raise InvalidDataError(msg)
        with _one_thread():
            score = self.model.log_prob(_tensor(x), self._condition(p, q, noise))
        return score.value.double().numpy() + log_det[:, 0], score.kind

    def outside(self, momenta, noise: float | None = None, *, charges=None) -> np.ndarray:
        """Return which momenta (k, ions, 3) are unlike all that the model was trained on."""
        p = np.asarray(momenta, float)
        condition = self._condition(p, charges, noise)
        model, room = self.model, FAR * self.model.condition_spread
        low, high = model.condition_low - room, model.condition_high + room
        beyond = ((condition < low) | (condition > high)).any(1).numpy()
        return beyond | (noise is not None and noise != self._level(noise))  # for all of them

    def check(self, masses, charges, numbers=None) -> None:
        """Raise `InvalidDataError` unless ions are those of the training, in their order."""
        geometry = self.geometry
        given: list[tuple[str, Any, Any, float, float]] = [
            ("atomic numbers", geometry.numbers, numbers, 0.0, 1.0),
            ("masses in u", geometry.masses, masses, _MASS_TOLERANCE, U),
            ("charges", geometry.charges, charges, 0.0, 1.0),
        ]
        for what, wanted, value, tolerance, unit in given:
            if not wanted or value is None:
                continue
            wanted, value = np.asarray(wanted, float), np.asarray(value, float)
            fits = value.shape[-1:] == wanted.shape
            if fits and (np.abs(value - wanted) <= tolerance * wanted).all():
                continue
            other = value.reshape(-1, value.shape[-1])
            if fits:
                off = (np.abs(other - wanted) > tolerance * wanted).any(axis=1)
                other = other[off]
            msg = (
                f"the model was trained on ions of {what} {_listed(wanted / unit)}, these "
                f"events have {_listed(other[0] / unit)}; it must be the same ions, in order"
            )
            raise InvalidDataError(msg)

    def _draw(self, p, n: int, q, noise: float | None, generator: torch.Generator):
        condition = self._condition(p, q, noise)
        with _one_thread():
            drawn = self.model.sample(condition, n, generator)
            positions, log_det = self.geometry.decode(drawn.double().numpy(), p, q)
            if log_det is None or not self.has_density:
                return positions, np.nan
            score = self.model.log_prob(
                drawn.flatten(0, 1), condition.repeat_interleave(n, dim=0)
            )
        return positions, score.value.double().numpy().reshape(len(p), n) + log_det

    def _condition(self, p, q, noise: float | None) -> torch.Tensor:
        level = self._level(noise)
        return _tensor(self.geometry.encode_momenta(p, level, charges=q))

    def _level(self, noise: float | None) -> float | None:
        """Return the noise that the model knows which is nearest to this one."""
        trained = self.geometry.noise
        return None if noise is None or trained is None else float(np.clip(noise, *trained))


def load(folder: Path | str) -> tuple[Sampler, dict[str, Any]]:
    """Read a model back as a sampler, and what it is, ready for JSON.

    Raises
    ------
    InvalidDataError, CorruptFileError
        As `generative.files.load`.
    """
    about = files.read_about(folder)
    sampler = Sampler(files.load(folder))
    said = {"model": about["name"], "sha256": about["sha256"]}
    said["representation"] = about["representation"]
    return sampler, said | {"torch": torch.__version__.split("+")[0]}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch add up in one order, whatever the number of processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
