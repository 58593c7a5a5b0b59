"""What a model sees of the data: arrays of a file turned into samples and conditions.

A representation is a set of plain numbers that are kept with the model, so that a model that
is read back knows its units, frame and conditions. A sample `x` may be positions, an
environment, a sequence or voxels; a condition is a vector, of length zero where there is none.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from .data import Source
    from .structures import Structure

#: filled by the classes themselves, keyed by `kind`
REPRESENTATIONS: dict[str, type["Representation"]] = {}


class Batch(NamedTuple):
    """Samples and their conditions."""

    x: Tensor  #: (m, *shape)
    condition: Tensor  #: (m, condition_size)


class Representation(ABC):
    """How arrays become samples with conditions.

    Subclasses are frozen dataclasses that check themselves, set `kind`, and take from
    `describe` what `of` needs.

    Attributes
    ----------
    kind : str
    noun : str
        What its samples are, in the plural.
    flaw : str
        What those have that are left out.
    limits : str
        What a model of it cannot do, for the page that the model carries.
    needs, optional : tuple of str
        The arrays, by their names in a file, that `encode` reads, and that `fit` reads if they
        are there.
    shape : tuple of int
        Of one sample.
    condition_size : int
    """

    kind: ClassVar[str]
    noun: ClassVar[str] = "events"
    flaw: ClassVar[str] = "without a good status"
    limits: ClassVar[str] = "It knows what is like its data, and nothing else."
    needs: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        REPRESENTATIONS[cls.kind] = cls

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one sample."""

    @property
    @abstractmethod
    def condition_size(self) -> int:
        """Return the length of a condition."""

    @classmethod
    def source(cls, paths: Sequence[Path], **options: Any) -> "Source":  # noqa: ARG003
        """Open files as numbered events: of simulations, unless a subclass reads others.

        Parameters
        ----------
        paths : sequence of Path
        options : dict
            Those of `fit`, which is the one that checks them.

        Raises
        ------
        ValueError
            If it takes one file and there are more.
        InvalidDataError, CorruptFileError
            If a file is not what is needed.
        """
        from .data import Events

        if len(paths) != 1:
            msg = f"events come from one file or folder, got {len(paths)}"
            raise ValueError(msg)
        return Events(paths[0], cls.needs, cls.optional)

    @classmethod
    @abstractmethod
    def fit(cls, arrays: Mapping[str, np.ndarray], **options: Any) -> "Representation":
        """Make the representation of some data, from arrays of training events.

        Raises
        ------
        ValueError
            If an option is unknown or does not fit the data.
        """

    @abstractmethod
    def encode(
        self, arrays: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turn arrays of events into samples and conditions.

        Parameters
        ----------
        arrays : mapping
            By name, as in a file, `needs` among them; constants have no axis of events.
        rng : numpy.random.Generator
            For what is drawn anew in each epoch: noise, permutations. A representation that
            draws nothing sets `draws` to False, and is encoded once.

        Returns
        -------
        x : (m, *shape) array
        condition : (m, condition_size) array
        """

    @property
    def draws(self) -> bool:
        """Return whether `encode` draws random numbers."""
        return False

    def decode(self, x: np.ndarray) -> "list[Structure]":  # noqa: ARG002
        """Return samples (m, *shape) as structures that can be written and looked at.

        Raises
        ------
        TypeError
            If they are none.
        """
        msg = f"samples of kind {self.kind} are no structures of atoms"
        raise TypeError(msg)

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return, ready for JSON, what `of` needs to make this representation again."""

    @classmethod
    @abstractmethod
    def of(cls, description: Mapping[str, Any]) -> "Representation":
        """Make the representation that was described."""


def as_batch(x: np.ndarray, condition: np.ndarray) -> Batch:
    """Return single-precision tensors of what `encode` gives."""
    return Batch(
        torch.from_numpy(np.ascontiguousarray(x, np.float32)),
        torch.from_numpy(np.ascontiguousarray(condition, np.float32)),
    )
