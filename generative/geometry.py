"""Geometries given momenta: which numbers stand for positions, and in which frame.

Momenta say nothing of where a molecule is, and of its orientation only how it lies relative to
them. So positions are taken about their centre of mass and turned, with the momenta of their
event, into the recoil frame; what is left is what can be learned. `coordinates` says in which
numbers:

- "positions": all 3N components as they are in the file (the published recipe);
- "centred": 3N components about the centre of mass;
- "jacobi": 3N - 3 mass-weighted Jacobi vectors, in which a density can live;
- "shape": 3N - 4 numbers of shape, and one of size that is 0 for ions that start from rest and
  momenta without noise (`generative.charts`). With `size="ker"` the size follows from the
  kinetic energy alone, and 3N - 4 numbers are left.

With `noise`, momenta get fresh noise each time they are encoded, as `coulex.invert(noise=)`
understands it: every component of a momentum p has a standard deviation of a share of |p|, and
the sum that appears is taken out by the variance of each ion.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from coulex.frames import rotate

from . import charts, choices, conditions
from .permutations import identical_groups, inverse, permutations, random_orders, reorder
from .representation import Representation
from .seen import Seen, see, steady_axes, with_noise


@dataclass(frozen=True, kw_only=True)
class Geometry(Representation):
    """How positions and momenta of a molecule's ions become samples and conditions.

    Attributes
    ----------
    masses : tuple of float
        Of the ions, electron masses.
    charges : tuple of float or None
        None: they differ from event to event, and come with the momenta.
    numbers : tuple of int
        Atomic numbers, or empty where nobody knows them.
    conditions : tuple of str
        Of `generative.conditions.FEATURES`.
    frame : str
        "recoil", or "given": momenta and positions as they come.
    axes : (int, int)
        The ions that define the recoil frame: along x, in the xy plane.
    coordinates, size : str
        As above; `size` is "drawn" or "ker".
    identical : str
        Of ions: "as-given", "canonical" (by momentum, the largest first), or "augment" (a
        random order each time).
    noise : (float, float) or None
        Limits of the relative noise, which is drawn for each event, uniform in its logarithm.
    reference : tuple of float
        Direction (3N - 3,) that "shape" is projected from, a unit vector.
    """

    kind = "geometry"
    limits = (
        "It knows the molecule, charges and ensemble of its data, and nothing else: momenta\n"
        "from elsewhere are outside of what it learned. Momenta may have several geometries;\n"
        "`coulex invert --model` proves what it draws by simulating it again."
    )
    needs = ("initial_positions", "momenta", "charges", "masses")
    optional = ("numbers",)

    masses: tuple[float, ...]
    charges: tuple[float, ...] | None
    numbers: tuple[int, ...] = ()
    conditions: tuple[str, ...] = ("scale-free", "log-ker")
    frame: str = "recoil"
    axes: tuple[int, int] = (0, 1)
    coordinates: str = "centred"
    size: str = "drawn"
    identical: str = "as-given"
    noise: tuple[float, float] | None = None
    reference: tuple[float, ...] = ()

    def __post_init__(self):
        conditions.check(self.conditions)
        words = {
            "frame": ("given", "recoil"),
            "coordinates": charts.COORDINATES,
            "size": ("drawn", "ker"),
            "identical": ("as-given", "canonical", "augment"),
        }
        for name, allowed in words.items():
            if getattr(self, name) not in allowed:
                msg = f"{name} must be {', '.join(allowed)}, got {getattr(self, name)!r}"
                raise ValueError(msg)
        self._check_ions()
        if self.coordinates == "positions" and self.frame != "given":
            msg = 'positions as they are in the file need frame "given"'
            raise ValueError(msg)
        if self.size == "ker" and self.coordinates != "shape":
            msg = f'size "ker" goes with coordinates "shape", not {self.coordinates!r}'
            raise ValueError(msg)
        if self.noise is not None and not 0 < self.noise[0] <= self.noise[1] < 1:
            msg = f"noise must be shares of momenta, 0 < low <= high < 1, got {self.noise}"
            raise ValueError(msg)
        if "noise" in self.conditions and self.noise is None:
            msg = "the noise cannot be a condition where there is none"
            raise ValueError(msg)
        if self.coordinates == "shape":
            self._check_reference()

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._chart.size,)

    @property
    def condition_size(self) -> int:
        return conditions.size(self.conditions, len(self.masses))

    @property
    def draws(self) -> bool:
        return self.noise is not None or (self.identical == "augment" and bool(self.groups))

    @cached_property
    def groups(self) -> list[list[int]]:
        """Return the groups of identical ions."""
        return [] if self.charges is None else identical_groups(self.masses, self.charges)

    @classmethod
    def fit(cls, arrays: Mapping[str, np.ndarray], **options: Any) -> "Geometry":
        """Make a representation for the molecule of a file, from a sample of its events.

        Parameters
        ----------
        arrays : mapping
            By name, with what `encode` needs, and `numbers` if known: events for training.
        options
            Fields of the class, but masses, charges and numbers. `axes` and `reference` follow
            from the events unless given: the two ions whose momenta are least often small or
            collinear, and the mean direction.
        """
        choices.check(cls, options, but=("masses", "charges", "numbers"))
        q = np.asarray(arrays["charges"], float)
        if q.ndim == 2 and len(q) and (q == q[0]).all():
            q = q[0]
        ions: dict[str, Any] = {
            "masses": tuple(np.asarray(arrays["masses"], float).tolist()),
            "charges": tuple(q.tolist()) if q.ndim == 1 else None,
            "numbers": tuple(int(z) for z in arrays.get("numbers", ())),
        }
        kept: dict[str, Any] = {
            k: options[k] for k in ("frame", "identical", "noise", "axes") if k in options
        }
        if "axes" not in options:
            given = kept | {"frame": "given", "conditions": ()}
            plain = cls(**ions, **given)
            kept["axes"] = steady_axes(plain._see(arrays["momenta"], q).momenta)
        if options.get("coordinates") == "shape" and "reference" not in options:
            like = cls(**ions, **kept, conditions=(), coordinates="jacobi")
            y, _ = like.encode(arrays, np.random.default_rng(0))
            mean = (y / np.linalg.norm(y, axis=1, keepdims=True)).mean(axis=0)
            options = {**options, "reference": tuple((mean / np.linalg.norm(mean)).tolist())}
        return cls(**ions, **options | kept)

    def encode(
        self, arrays: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        x, p, q = self._checked(arrays)
        if self.identical == "augment":
            order = random_orders(len(p), len(self.masses), self.groups, rng)
            x, p = reorder(x, order), reorder(p, order)
        level = None
        if self.noise is not None:
            p, level = self.disturb(p, rng)
        seen = self._see(p, q, level)
        return self._sample(x, seen), conditions.encode(self.conditions, seen)

    def disturb(self, momenta, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return momenta (m, ions, 3) with noise, and its level (m,) for each event."""
        if self.noise is None:
            msg = "this representation has no noise"
            raise ValueError(msg)
        low, high = self.noise
        level = np.exp(rng.uniform(np.log(low), np.log(high), len(momenta)))
        return with_noise(momenta, level, rng), level

    def encode_momenta(self, momenta, noise_level=None, *, charges=None) -> np.ndarray:
        """Return the conditions (m, condition_size) of measured momenta.

        Parameters
        ----------
        momenta : (m, ions, 3) array
            In a.u.; their sum is taken out.
        noise_level : float or (m,) array, optional
            Of the momenta, relative, where it is a condition. None: they are as good as the
            best that the model has seen.
        charges : (ions,) or (m, ions) array, optional
            Needed where the representation has none.

        Raises
        ------
        ValueError
            If the shape is not that of the ions, or the noise outside of its limits.
        """
        return conditions.encode(self.conditions, self._see(momenta, charges, noise_level))

    def encode_positions(self, positions, momenta, charges=None) -> np.ndarray:
        """Return the samples (m, *shape) of positions (m, ions, 3) beside measured momenta."""
        return self._sample(np.asarray(positions, float), self._see(momenta, charges))

    def decode(self, x, momenta, charges=None) -> tuple[np.ndarray, np.ndarray | None]:
        """Turn samples back into positions in the frame of the momenta.

        Parameters
        ----------
        x : (m, n, *shape) array
            Samples for each event.
        momenta : (m, ions, 3) array
            As they were given to `encode_momenta`.
        charges : (ions,) or (m, ions) array, optional
            Needed where the representation has none.

        Returns
        -------
        positions : (m, n, ions, 3) array
            In bohr, about the centre of mass (as in the file for "positions"), ions in the
            order of the momenta.
        log_det : (m, n) array or None
            log |dx / dy| with y the positions in mass-weighted Cartesian coordinates relative
            to the centre of mass: the log-density of positions is that of x and this. None
            where x are no coordinates of positions: 3N components, or a size from the KER.

        Raises
        ------
        ValueError
            If a shape is wrong.
        """
        x = np.asarray(x, float)
        seen = self._see(momenta, charges)
        if x.ndim != 3 or x.shape[0] != len(seen.momenta) or x.shape[2:] != self.shape:
            msg = f"samples must be ({len(seen.momenta)}, n, {self.shape[0]}), got {x.shape}"
            raise ValueError(msg)
        positions, log_det = self._chart.decode(x, seen.ker, seen.charges)
        if seen.rotations is not None:
            back = np.ascontiguousarray(np.swapaxes(seen.rotations, 1, 2))
            flat = positions.reshape(len(x), x.shape[1] * len(self.masses), 3)
            positions = rotate(flat, back).reshape(positions.shape)
        if seen.order is not None:
            positions = reorder(positions, inverse(seen.order))
        return positions, log_det

    def component_orders(self) -> np.ndarray:
        """Return how exchanges of identical ions reorder a sample, (orders, *shape).

        The first leaves it as it is. For the smallest loss over all of them, with samples in
        the units of the representation: each component has a scale of its own in a model.

        Raises
        ------
        ValueError
            If the coordinates are not components of single ions, or there are too many orders.
        """
        if self.coordinates not in ("positions", "centred"):
            msg = f"in {self.coordinates!r} coordinates no exchange is a change of order"
            raise ValueError(msg)
        orders = permutations(self.groups, len(self.masses))
        return (3 * orders[:, :, None] + np.arange(3)).reshape(len(orders), -1)

    def describe(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "Geometry":
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(description) - known)
        if unknown:
            msg = f"a geometry has no {', '.join(unknown)}; it has {', '.join(sorted(known))}"
            raise ValueError(msg)
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in description.items()
        }
        return cls(**values)

    def _sample(self, x: np.ndarray, seen: Seen) -> np.ndarray:
        """Return samples (m, *shape) of positions as they are given."""
        if x.shape != seen.momenta.shape:
            msg = f"positions {x.shape}, but momenta {seen.momenta.shape}"
            raise ValueError(msg)
        if seen.order is not None:
            x = reorder(x, seen.order)
        if seen.rotations is not None:
            x = rotate(x, seen.rotations)
        return self._chart.encode(x, seen.ker, seen.charges)

    def _see(self, momenta, charges=None, noise_level=None) -> Seen:
        """Return what is seen of momenta; see `encode_momenta`."""
        p, m = np.asarray(momenta, float), np.array(self.masses)
        if p.ndim != 3 or p.shape[1:] != (len(m), 3):
            msg = f"momenta must be (m, {len(m)}, 3), got {p.shape}"
            raise ValueError(msg)
        charges = self.charges if charges is None else charges
        if charges is None:
            msg = "charges differ from event to event: give those of these events"
            raise ValueError(msg)
        q = np.asarray(charges, float)
        if q.shape not in ((len(m),), p.shape[:2]):
            msg = f"charges must be ({len(m)},) or {p.shape[:2]}, got {q.shape}"
            raise ValueError(msg)
        return see(
            *(p, m, q, self.axes),
            noisy=self.noise is not None,
            groups=self.groups if self.identical == "canonical" else [],
            turned=self.frame == "recoil",
            noise=self._level(noise_level, len(p)),
        )

    def _level(self, level, count: int) -> np.ndarray | None:
        if self.noise is None or "noise" not in self.conditions:
            return None
        low, high = self.noise
        level = np.broadcast_to(np.asarray(low if level is None else level, float), (count,))
        if not ((level >= low * (1 - 1e-9)) & (level <= high * (1 + 1e-9))).all():
            limits = f"{level.min():g} to {level.max():g}"
            msg = f"the model knows noise of {low:g} to {high:g} of the momenta, not {limits}"
            raise ValueError(msg)
        return level

    def _checked(self, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Return positions, momenta and charges of arrays that are of these ions."""
        x = np.asarray(arrays["initial_positions"], float)
        p, q = np.asarray(arrays["momenta"], float), np.asarray(arrays["charges"], float)
        m = np.asarray(arrays["masses"], float)
        if m.shape != (len(self.masses),) or not np.allclose(
            m, self.masses, rtol=1e-9, atol=0
        ):
            msg = f"the model is of ions of masses {self.masses}, the data of {m.tolist()}"
            raise ValueError(msg)
        if self.charges is not None and not (q == self.charges).all():
            other = np.atleast_2d(q)[(np.atleast_2d(q) != self.charges).any(axis=1)][0]
            msg = f"the model is of charges {self.charges}, the data have {other.tolist()}"
            raise ValueError(msg)
        return x, p, q

    def _check_ions(self) -> None:
        ions = len(self.masses)
        if ions < 2 or not all(m > 0 for m in self.masses):
            msg = f"masses must be positive, of two ions or more, got {self.masses}"
            raise ValueError(msg)
        for name in ("charges", "numbers"):
            value = getattr(self, name)
            if value and len(value) != ions:
                msg = f"{ions} masses, but {name} {value}"
                raise ValueError(msg)
        if len(set(self.axes)) != 2 or not all(0 <= i < ions for i in self.axes):
            msg = f"axes must be two of {ions} ions, got {self.axes}"
            raise ValueError(msg)
        if self.identical != "as-given" and self.charges is None:
            msg = "charges differ from event to event, and with them which ions are identical"
            raise ValueError(msg)

    def _check_reference(self) -> None:
        s = np.array(self.reference)
        if s.shape != (3 * len(self.masses) - 3,) or not abs(np.linalg.norm(s) - 1) < 1e-9:
            msg = f"reference must be a unit vector of {3 * len(self.masses) - 3}, got {s}"
            raise ValueError(msg)

    @cached_property
    def _chart(self) -> charts.Chart:
        drawn = self.size == "drawn"
        return charts.Chart(self.coordinates, self.masses, drawn, self.reference)
