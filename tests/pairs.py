"""A representation for tests: pairs of arrays as they are, or with fresh noise."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from generative.representation import Representation


@dataclass(frozen=True)
class Pairs(Representation):
    """Samples `x` (n, size), or as points (n, size / 3, 3), with conditions `y` (n, k)."""

    kind = "pairs"
    needs = ("x", "y")

    size: int = 2
    k: int = 3
    noise: float = 0.0
    points: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size // 3, 3) if self.points else (self.size,)

    @property
    def condition_size(self) -> int:
        return self.k

    @property
    def draws(self) -> bool:
        return self.noise > 0

    @classmethod
    def fit(cls, arrays: Mapping[str, np.ndarray], **options: Any) -> "Pairs":
        return cls(size=arrays["x"].shape[1], k=arrays["y"].shape[1], **options)

    def encode(self, arrays: Mapping[str, np.ndarray], rng: np.random.Generator):
        x = np.asarray(arrays["x"], float)
        x = x + self.noise * rng.normal(size=x.shape)
        return x.reshape(-1, *self.shape), np.asarray(arrays["y"], float)

    def describe(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "Pairs":
        return cls(**description)


def linear_data(n: int, *, size: int = 2, k: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Return samples that are a linear function of conditions, and Gaussian noise of 0.1."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, k))
    slope = np.random.default_rng(99).normal(size=(k, size))
    return {"x": y @ slope + 1.0 + 0.1 * rng.normal(size=(n, size)), "y": y}
