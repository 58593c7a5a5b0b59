"""Estimates of noisy events in a file: bonds and angles, and their standard deviations."""

from dataclasses import dataclass

import numpy as np

from coulex.inverse.solutions import ESTIMATE_STATUS, NO_ESTIMATE

from .solutions import coordinates_of
from .store import Dataset

#: what a row of a table says of the estimate of its event
NAMES = ("estimate_positions", "estimate_covariance", "estimate_status")


def has_estimates(data: Dataset) -> bool:
    """Return whether a set was inverted with a noise."""
    return all(name in data for name in NAMES)


def status_words(codes) -> list[str]:
    """Return what statuses of estimates mean."""
    return [ESTIMATE_STATUS.get(code, (f"status {code}",))[0] for code in codes.tolist()]


@dataclass(frozen=True)
class Summary:
    """All estimates of a file in a few numbers."""

    status: dict[str, int]  #: events, by meaning
    deviations: dict[str, float]  #: median standard deviations, by column: Å and degrees


def summary(data: Dataset) -> Summary:
    """Return how many estimates have which status, and the medians of their deviations."""
    shape = coordinates_of(data)
    codes, deviations = [], []
    for _, block in data.blocks(list(NAMES), 2**13):
        x, covariance, status = (block[name] for name in NAMES)
        codes.append(status)
        kept = status != NO_ESTIMATE
        columns = [c.deviations(x[kept], covariance[kept]) for c in shape]
        deviations.append(np.stack(columns, axis=1))
    every = np.concatenate(codes)
    found = np.concatenate(deviations)
    found = found[np.isfinite(found).all(axis=1)]
    middle = np.median(found, axis=0) if len(found) else np.full(len(shape), np.nan)
    numbers = {name: int((every == code).sum()) for code, (name, _) in ESTIMATE_STATUS.items()}
    return Summary(
        {name: number for name, number in numbers.items() if number},
        {c.column: float(value) for c, value in zip(shape, middle, strict=True)},
    )
