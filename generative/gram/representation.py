"""Environments of atoms as what a model sees: which labels, and in which frame.

A sample is the positions (n, 3) of the neighbours of an atom, in Å, about the atom or about
their centroid. `labels` says in which order they stand, `frame` in which orientation:

- labels "canonical" and frame "canonical": as they lie nearest to a template, which is the
  mean environment of the training data (`generative.gram.canonical`);
- labels "distance": the closest first; "augment": in a random order each time (the published
  copies);
- frame "given": as in the file; "random": turned anew each time.

With `mirror="O3"` an environment and its mirror image are one thing, and the canonical frame
may mirror. With "SO3" it only turns, and what is drawn keeps the handedness of the data.

The condition is empty, or, with `context`, the positions of the next atoms beyond the n in the
same frame, by distance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from coulex.errors import InvalidDataError
from coulex.frames import random_rotations
from generative.choices import check
from generative.data import Arrays, Source
from generative.representation import Representation

from . import environments
from .canonical import Template, by_distance, label
from .synchronise import align

LABELS = ("canonical", "distance", "augment")
FRAMES = ("canonical", "random", "given")
MIRRORS = ("O3", "SO3")


@dataclass(frozen=True, kw_only=True)
class Environments(Representation):
    """How environments become samples.

    Attributes
    ----------
    neighbours : int
        Atoms of an environment, n.
    cutoff : float
        Å.
    centre : str
        "atom" or "centroid".
    context : int
        Outer neighbours that make the condition.
    labels, frame, mirror : str
        As above.
    fade : float
        Width in Å over which atoms lose weight towards the cutoff, in labels and alignment.
    element : int
        Atomic number, 0 where nobody knows it.
    template : tuple
        Positions (n, 3) in Å, or empty where nothing is laid onto it.
    """

    kind = "environment"
    noun = "environments"
    flaw = "with too few neighbours within the cutoff"
    limits = (
        "It knows environments like those of its data, of one element, not how they join;\n"
        "`coulex score` compares draws with another structure, and finds copies of the data."
    )
    needs = ("neighbours",)
    optional = ("outer", "element")

    neighbours: int = 8
    cutoff: float = 4.0
    centre: str = "atom"
    context: int = 0
    labels: str = "canonical"
    frame: str = "canonical"
    mirror: str = "O3"
    fade: float = 0.0
    element: int = 0
    template: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self):
        choices = {"labels": LABELS, "frame": FRAMES, "mirror": MIRRORS}
        choices |= {"centre": environments.CENTRES}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                msg = f"{name} must be {', '.join(allowed)}, got {getattr(self, name)!r}"
                raise ValueError(msg)
        if self.neighbours < 1 or self.context < 0:
            msg = f"neighbours from 1, context from 0; got {self.neighbours}, {self.context}"
            raise ValueError(msg)
        if not 0 <= self.fade <= self.cutoff < np.inf or self.cutoff == 0:
            msg = f"0 <= fade <= cutoff in Å, cutoff > 0; got {self.fade} and {self.cutoff}"
            raise ValueError(msg)
        if self.fade and self.centre == "centroid":
            msg = (
                "weights fade with the distance from the atom, which a centroid does not know"
            )
            raise ValueError(msg)
        if self.frame == "canonical" and self.labels == "augment":
            msg = "random labels have no canonical frame; frame is to be given or random"
            raise ValueError(msg)
        if self.template and np.shape(self.template) != self.shape:
            msg = f"a template of {self.shape}, got {np.shape(self.template)}"
            raise ValueError(msg)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.neighbours, 3)

    @property
    def condition_size(self) -> int:
        return 3 * self.context

    @property
    def draws(self) -> bool:
        return self.labels == "augment" or self.frame == "random"

    @property
    def laid(self) -> bool:
        """Return whether environments are laid onto the template."""
        return "canonical" in (self.labels, self.frame)

    @cached_property
    def mean(self) -> Template:
        """Return the template."""
        return Template(np.array(self.template).reshape(-1, 3), self.mirror == "SO3")

    @classmethod
    def source(cls, paths: Sequence[Path], **options: Any) -> Source:
        """Return the environments of all atoms of structure files as numbered events.

        Atoms with too few neighbours are there, and not good.

        Raises
        ------
        ValueError
            If an option is unknown or makes no sense.
        InvalidDataError
            If a file is none of structures, or no atom has enough neighbours.
        """
        from generative.structures import read

        check(cls, options)
        structures = [structure for path in paths for structure in read(path)]
        default = {f.name: f.default for f in fields(cls)}
        names = ("neighbours", "cutoff", "centre", "context")
        wanted = {name: options.get(name, default[name]) for name in names}
        found = environments.everywhere(structures, **wanted)
        if not (found["number"] >= wanted["neighbours"]).any():
            msg = (
                f"{', '.join(map(str, paths))}: no atom has {wanted['neighbours']} neighbours "
                f"within {wanted['cutoff']:g} Å, but {found['number'].max()} at most; fewer "
                "neighbours or a larger cutoff"
            )
            raise InvalidDataError(msg)
        return Surroundings(found)

    @classmethod
    def fit(cls, arrays: Mapping[str, np.ndarray], **options: Any) -> "Environments":
        """Make the representation, with the template of environments for training.

        Parameters
        ----------
        arrays : mapping
            `neighbours` (m, n, 3) in Å; `element` (m,) if known.
        options
            Fields of the class.
        """
        x = np.asarray(arrays["neighbours"], float)
        elements = np.unique(arrays.get("element", ()))
        if len(elements) > 1:
            msg = f"environments are of one element, got atomic numbers {elements.tolist()}"
            raise InvalidDataError(msg)
        known: dict[str, Any] = {"neighbours": x.shape[1]}
        if len(elements):
            known["element"] = int(elements[0])
        made = cls(**known | options)
        made.check_element(elements)
        if made.neighbours != x.shape[1]:
            msg = f"{made.neighbours} neighbours wanted, but arrays have {x.shape[1]}"
            raise ValueError(msg)
        if not made.laid or made.template:
            return made
        if made.labels == "canonical":
            positions = Template.fit(x, proper=made.mirror == "SO3").positions
        else:
            positions = _mean_as_labelled(by_distance(x), proper=made.mirror == "SO3")
        return replace(made, template=_tuples(positions))

    def encode(
        self, arrays: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        x = np.asarray(arrays["neighbours"], float)
        x, q = self._in_frame(x, rng)
        if not self.context:
            return x, np.zeros((len(x), 0))
        outer = np.asarray(arrays["outer"], float)
        if outer.shape[1:] != (self.context, 3):
            msg = f"{self.context} outer neighbours, but arrays (m, {outer.shape[1]}, 3)"
            raise ValueError(msg)
        return x, (outer @ q).reshape(len(x), -1)

    def encode_context(self, outer: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """Return the condition (m, 3 context) of outer neighbours (m, context, 3).

        Parameters
        ----------
        outer : (m, context, 3) array
            Å, in any frame.
        rotation : (m, 3, 3) array
            From that frame to the one of the samples.
        """
        return (np.asarray(outer, float) @ rotation).reshape(len(outer), self.condition_size)

    def decode(self, x: np.ndarray) -> list:
        """Return environments (m, n, 3) as clusters in vacuum, the atom in the middle first.

        About a centroid, nobody knows where the atom in the middle is, and it is left out.
        """
        from generative.structures import Structure

        first = np.zeros((1 if self.centre == "atom" else 0, 3))
        numbers = np.full(len(first) + self.neighbours, self.element)
        said = {"environment": True, "centre": self.centre, "cutoff": self.cutoff}
        return [
            Structure(positions=np.concatenate([first, one]), numbers=numbers, info=said)
            for one in np.asarray(x, float)
        ]

    def whole(self, path: Path) -> dict[str, np.ndarray]:
        """Return the environments of a file that have all neighbours, as `environments.of`.

        Raises
        ------
        InvalidDataError
            If there are none, or atoms are of another element.
        """
        source = self.source([path], **self.describe())
        arrays, good = source.read(0, source.n_events), source.good(0, source.n_events)
        self.check_element(arrays["element"], str(path))
        return {name: array[good] for name, array in arrays.items()}

    def check_element(self, numbers: np.ndarray, where: str = "the data") -> None:
        """Refuse atoms of other elements than the environments are of, if that is known.

        Parameters
        ----------
        numbers : int array
            Atomic numbers.
        where : str
            What has them, such as the name of a file.

        Raises
        ------
        InvalidDataError
            If one of them is another one.
        """
        from ase.data import chemical_symbols

        found = sorted({chemical_symbols[z] for z in np.unique(numbers)})
        own = chemical_symbols[self.element]
        if self.element and found not in ([], [own]):
            msg = f"{where}: atoms of {', '.join(found)}, but environments are of {own}"
            raise InvalidDataError(msg)

    def describe(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "Environments":
        return cls(**{**description, "template": _tuples(description["template"])})

    def _in_frame(
        self, x: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return environments in their order and frame, and the rotations to that frame."""
        weights = environments.fading(x, self.cutoff, self.fade)
        q = np.broadcast_to(np.eye(3), (len(x), 3, 3))
        ordered = x
        if self.labels == "canonical":
            found = label(x, self.mean, weights=weights)
            ordered = np.take_along_axis(x, found.order[..., None], axis=1)
            q = found.rotation if self.frame == "canonical" else q
        elif self.labels == "distance":
            ordered = by_distance(x)
            if self.frame == "canonical":
                faded = environments.fading(ordered, self.cutoff, self.fade)
                q = align(self.mean.positions, ordered, proper=self.mean.proper, weights=faded)
        else:
            order = rng.permuted(np.tile(np.arange(x.shape[1]), (len(x), 1)), axis=1)
            ordered = np.take_along_axis(x, order[..., None], axis=1)
        if self.frame == "random":
            q = random_rotations(int(rng.integers(1 << 62)), 0, len(x))
            if self.mirror == "O3":
                q = q * rng.choice([-1.0, 1.0], (len(x), 1, 1))
        return ordered @ q, q


class Surroundings(Arrays):
    """Environments of all atoms; those with too few neighbours within the cutoff are not good.

    Parameters
    ----------
    arrays : mapping
        Of `environments.everywhere`.
    """

    def good(self, first: int, count: int) -> np.ndarray:
        arrays = self.read(first, count)
        return arrays["number"] >= arrays["neighbours"].shape[1]


def _mean_as_labelled(x: np.ndarray, *, proper: bool) -> np.ndarray:
    """Return the mean (n, 3) of environments, each laid onto the mean of before."""
    mean = x[0]
    for _ in range(10):
        mean = (x @ align(mean, x, proper=proper)).mean(axis=0)
    return mean


def _tuples(positions: Any) -> tuple[tuple[float, float, float], ...]:
    return tuple(tuple(float(v) for v in row) for row in positions)  # type: ignore[misc]
