"""Figures of draws beside the truth: how near they are, and how sure they ought to be.

Bonds and angles (of more than three ions distances) are compared, which depend on no frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .dataset import Dataset
from .dataset.solutions import coordinates_of, has_solutions, solution_blocks
from .errors import InvalidDataError
from .geometry import Coordinate
from .plot import COLOURS, INK, new_figure

_PANELS = 9  #: coordinates that are drawn, at most
_BINS = 60
_BAND = 1.36  #: of the Kolmogorov distance, times √m: 95 % of calibrated samplers stay within
_SEED = 1  #: of what breaks ties between ranks


@dataclass(frozen=True)
class _Compared:
    """Coordinates of draws beside those of the truth, in Å and degrees."""

    coordinates: list[Coordinate]
    mean: np.ndarray  #: (m, coordinates), of the draws of each event
    true: np.ndarray  #: (m, coordinates)
    rank: np.ndarray  #: (m, coordinates), share of draws below the truth, from 0 to 1
    left_out: int

    @property
    def said(self) -> str:
        """Return what is drawn, and what is not, as one line."""
        left = f", {self.left_out:,} without draws or truth left out" if self.left_out else ""
        return f"{len(self.true):,} events{left}"


def _compared(data: Dataset) -> _Compared:
    """Read a file of draws.

    Raises
    ------
    InvalidDataError
        If it holds no draws or no truth.
    """
    if not has_solutions(data):
        msg = f"{data.path} holds no draws; `coulex sample` makes a file of them"
        raise InvalidDataError(msg)
    if "initial_positions" not in data:
        msg = f"{data.path} does not know the true positions: there is nothing to compare with"
        raise InvalidDataError(msg)
    coordinates = coordinates_of(data)[:_PANELS]
    rng, left_out = np.random.default_rng(_SEED), 0
    rows = []
    for mean, true, rank, missing in _blocks(data, coordinates, rng):
        rows.append((mean, true, rank))
        left_out += missing
    mean, true, rank = (np.concatenate(part) for part in zip(*rows, strict=True))
    if not len(true):
        msg = f"{data.path}: no event has draws and a truth; there is nothing to draw"
        raise InvalidDataError(msg)
    return _Compared(coordinates, mean, true, rank, left_out)


def _blocks(data: Dataset, coordinates, rng) -> Iterator[tuple]:
    """Yield mean, truth and rank of the events of each block, and how many were left out."""
    lists = [name for name in ("solution_positions", "solution_weight") if name in data]
    for first, events, found in solution_blocks(data, ["initial_positions"], lists, 2**11):
        x, count = events["initial_positions"], len(events["initial_positions"])
        own = found["solution_event"] - first
        w = found.get("solution_weight", np.ones(len(own)))
        total = np.bincount(own, w, minlength=count)
        good = np.isfinite(x).all(axis=(1, 2)) & (total > 0)
        known = np.where(good[:, None, None], x, 1.0)
        values = np.stack([c.values(found["solution_positions"]) for c in coordinates], axis=1)
        true = np.stack([c.values(known) for c in coordinates], axis=1)
        share = w / np.maximum(total, 1e-300)[own]
        one = np.bincount(own, share**2, minlength=count)  # the truth counts as a draw
        mean, rank = np.zeros(true.shape), np.zeros(true.shape)
        for k in range(len(coordinates)):
            mean[:, k] = np.bincount(own, share * values[:, k], minlength=count)
            below = share * (values[:, k] < true[own, k])
            rank[:, k] = np.bincount(own, below, minlength=count)
        rank = (rank + rng.random(rank.shape) * one[:, None]) / (1 + one[:, None])
        yield mean[good], true[good], rank[good], int((~good).sum())


def predicted(data: Dataset) -> Figure:
    """Draw the mean of the draws of every event against the truth.

    Parameters
    ----------
    data : Dataset
        Draws of events whose true positions are in the file.

    Raises
    ------
    InvalidDataError
        If it holds no draws or no truth.
    """
    found = _compared(data)
    columns = min(3, len(found.coordinates))
    rows = -(-len(found.coordinates) // columns)
    figure = new_figure(3.5 * columns, 3.4 * rows + 0.6)
    for k, coordinate in enumerate(found.coordinates):
        axes = figure.add_subplot(rows, columns, k + 1)
        true, mean = found.true[:, k], found.mean[:, k]
        ends = np.quantile(np.concatenate([true, mean]), (0.002, 0.998))
        room = 0.05 * max(float(ends[1] - ends[0]), 1e-6)
        edges = np.linspace(ends[0] - room, ends[1] + room, _BINS + 1)
        counts = np.histogram2d(true, mean, (edges, edges))[0]
        shown = np.ma.masked_equal(counts.T, 0)
        norm = LogNorm(vmin=1, vmax=max(counts.max(), 10))
        axes.pcolormesh(edges, edges, shown, norm=norm, cmap="viridis", rasterized=True)
        axes.plot(edges[[0, -1]], edges[[0, -1]], color=COLOURS[1], linewidth=0.9)
        unit = "°" if coordinate.is_angle else " Å"
        error = np.abs(mean - true)
        outside = int(len(true) - counts.sum())
        text = f"mean error {error.mean():.2g}{unit}\nmedian {np.median(error):.2g}{unit}"
        text += f"\n{outside:,} outside" if outside else ""
        axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", fontsize=8, color=INK)
        axes.set_aspect("equal")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(edges[0], edges[-1])
        axes.set_title(axis_label(coordinate), fontsize=10, color=INK)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
        axes.tick_params(labelsize=8)
    figure.supxlabel("true", fontsize=10)
    figure.supylabel("mean of draws", fontsize=10)
    figure.suptitle(f"{_name(data)}: {found.said}", fontsize=11, color=INK)
    return figure


def calibration(files: Sequence[Dataset]) -> Figure:
    """Draw the ranks of truths among draws, and what central intervals cover.

    Parameters
    ----------
    files : sequence of Dataset
        Draws; a panel row each.

    Raises
    ------
    InvalidDataError
        If one holds no draws or no truth.
    """
    figure = new_figure(8, 3.7 * len(files))
    panels = figure.subplots(len(files), 2, squeeze=False)
    for (left, right), data in zip(panels, files, strict=True):
        found = _compared(data)
        m = len(found.true)
        grid = np.linspace(0, 1, 201)
        left.axhspan(-_BAND / m**0.5, _BAND / m**0.5, color="#dddddd", label="95 % if right")
        right.plot([0, 1], [0, 1], color="#888888", linewidth=0.9)
        for k, coordinate in enumerate(found.coordinates):
            colour = COLOURS[k % len(COLOURS)]
            bond = axis_label(coordinate).rsplit(" ", 1)[0]
            rank = np.sort(found.rank[:, k])
            share = np.searchsorted(rank, grid, side="right") / m
            left.plot(grid, share - grid, color=colour, linewidth=1.2, label=bond)
            inside = np.sort(np.abs(2 * rank - 1))
            covered = np.searchsorted(inside, grid, side="right") / m
            right.plot(grid, covered, color=colour, linewidth=1.2)
        left.set_xlabel("share of the draws below the truth, u")
        left.set_ylabel("events below u, less u")
        reach = max(float(np.abs(left.get_ylim()).max()), 1.5 * _BAND / m**0.5)
        left.set_ylim(-reach, 1.3 * reach)
        left.legend(frameon=False, fontsize=7, ncols=2, loc="upper center")
        right.set_xlabel("central interval of the draws")
        right.set_ylabel("events whose truth is in it")
        right.set_aspect("equal")
        right.set_xlim(0, 1)
        right.set_ylim(0, 1)
        for axes, title in ((left, f"{_name(data)}: {found.said}"), (right, "coverage")):
            axes.set_title(title, fontsize=10, color=INK)
            axes.spines[["top", "right"]].set_visible(False)
    return figure


def axis_label(coordinate: Coordinate) -> str:
    """Return what an axis says of a bond or an angle, with its unit."""
    between = "–".join(coordinate.names)
    return f"angle {between} (°)" if coordinate.is_angle else f"{between} (Å)"


def _name(data: Dataset) -> str:
    molecule = data.configuration.get("molecule", {}).get("name") or data.path.stem
    model = data.configuration.get("sampler", {}).get("model")
    return f"{molecule}, {model}" if model else molecule
