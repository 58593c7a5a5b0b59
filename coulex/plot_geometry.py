"""Figures of geometries: bonds and angles as they were found, and as they were.

Solutions count with their weights, so that every event that has one counts once, whether it
has one solution or several. Histograms are filled in blocks.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from .dataset import Dataset
from .dataset.exchange.labels import symbols_of
from .dataset.solutions import coordinates_of, has_solutions, place_of, solution_blocks
from .errors import InvalidDataError
from .geometry import Coordinate
from .plot import COLOURS, INK, new_figure

_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_SAMPLED = 1 << 14
_COUNTS = 0.01  #: weight from which on a solution outside the axes is told
_REACH = 0.002  #: share of the sample that may lie beyond either end of an axis


@dataclass(frozen=True)
class _Part:
    """Some geometries, what each of them counts, and the true ones of the same events."""

    positions: np.ndarray  #: (m, ions, 3)
    weights: np.ndarray  #: (m,)
    truth: np.ndarray  #: (k, ions, 3); empty where none is known
    events: int
    left_out: int  #: events without a geometry


@dataclass(frozen=True)
class _Panel:
    """The distances of one kind in one histogram, or one bond, or one angle."""

    name: str
    coordinates: tuple[Coordinate, ...]

    @property
    def label(self) -> str:
        """Return the label of its axis."""
        if self.coordinates[0].is_angle:
            return f"angle {self.name} (°)"
        return f"{self.name} (Å)"

    def values(self, positions: np.ndarray) -> np.ndarray:
        """Return its values (n, coordinates)."""
        return np.stack([c.values(positions) for c in self.coordinates], axis=1)


class _Histograms:
    """Distributions of all panels, and of pairs of panels, found and true."""

    def __init__(self, panels: list[_Panel], edges: list[np.ndarray], pairs):
        self.panels, self.edges, self.pairs = panels, edges, pairs
        self.found = [np.zeros(len(e) - 1) for e in edges]
        self.true = [np.zeros(len(e) - 1) for e in edges]
        self.joint = [np.zeros((len(edges[i]) - 1, len(edges[j]) - 1)) for i, j in pairs]
        self.events = self.left_out = self.outside = self.truths = 0
        self.drawn = 0.0

    def add(self, part: _Part) -> None:
        """Count a block."""
        self.events += part.events
        self.left_out += part.left_out
        self.truths += len(part.truth)
        self.drawn += part.weights.sum()
        values = [panel.values(part.positions) for panel in self.panels]
        beyond = np.zeros(len(part.positions), bool)
        for i, (edges, value) in enumerate(zip(self.edges, values, strict=True)):
            weights = np.repeat(part.weights, value.shape[1])
            self.found[i] += np.histogram(value.ravel(), edges, weights=weights)[0]
            beyond |= ((value < edges[0]) | (value > edges[-1])).any(axis=1)
            true = self.panels[i].values(part.truth)
            self.true[i] += np.histogram(true.ravel(), edges)[0]
        self.outside += int((beyond & (part.weights >= _COUNTS)).sum())
        for joint, (i, j) in zip(self.joint, self.pairs, strict=True):
            axes = (self.edges[i], self.edges[j])
            x, y = values[i][:, 0], values[j][:, 0]
            joint += np.histogram2d(x, y, axes, weights=part.weights)[0]

    def said(self, solved: bool) -> str:
        """Return what is drawn and what is not, as one line."""
        parts = [f"{self.events:,} events"]
        if self.left_out:
            why = "without a solution" if solved else "without a geometry"
            parts.append(f"{self.left_out:,} {why}")
        if self.outside:
            what = "solutions" if solved else "geometries"
            parts.append(f"{self.outside:,} {what} outside the axes")
        return "; ".join([parts[0], ", ".join(parts[1:])] if parts[1:] else parts)


def geometry(data: Dataset) -> Figure:
    """Draw the distributions of the geometries of a file.

    Of three ions: the two bonds and the angle between them, each by itself and in pairs. Of
    more: the distances, a panel for each pair of elements. Where the file knows the geometries
    that the events come from, their distribution is drawn over that of the solutions.

    Parameters
    ----------
    data : Dataset
        Of solutions; or of `positions`; or else its `initial_positions` are drawn.

    Raises
    ------
    InvalidDataError
        If the file holds no geometry.
    """
    if place_of(data) is None:
        msg = f"{data.path} holds no geometries, but {', '.join(data.names)}"
        raise InvalidDataError(msg)
    coordinates = coordinates_of(data)
    bent = coordinates[-1].is_angle
    panels = (
        [_Panel(_said(c.names), (c,)) for c in coordinates] if bent else _by_elements(data)
    )
    pairs = [(0, 1), (0, 2), (1, 2)] if bent else []
    histograms = _Histograms(panels, _axes(data, panels), pairs)
    for part in _parts(data):
        histograms.add(part)
    return _drawn(data, histograms)


def _said(names: Iterable[str]) -> str:
    return "–".join(name.translate(_SUBSCRIPT) for name in names)


def _by_elements(data: Dataset) -> list[_Panel]:
    """Return a panel for each pair of elements, in the order of the file."""
    symbols = symbols_of(data["numbers"]) if "numbers" in data else ("ion",) * data.ions

    def kind(coordinate: Coordinate) -> tuple[int, ...]:
        return tuple(sorted(symbols.index(symbols[atom]) for atom in coordinate.atoms))

    ordered = sorted(coordinates_of(data), key=kind)
    grouped = [(pair, tuple(group)) for pair, group in groupby(ordered, kind)]
    return [_Panel(_said(symbols[atom] for atom in pair), group) for pair, group in grouped]


def _parts(data: Dataset) -> Iterator[_Part]:
    """Yield the geometries of a file in blocks."""
    place = place_of(data)
    assert place is not None
    truth = ["initial_positions"] if "initial_positions" in data else []
    empty = np.empty((0, data.ions, 3))
    if has_solutions(data):
        lists = [name for name in ("solution_positions", "solution_weight") if name in data]
        names = [*truth, next(n for n in ("n_solutions", "status", "momenta") if n in data)]
        for first, events, found in solution_blocks(data, names, lists):
            own, count = found["solution_event"] - first, len(events[names[-1]])
            weights = found.get("solution_weight", np.ones(len(own)))
            total = np.bincount(own, weights, count)
            missing = count - len(np.unique(own))
            weights = weights / np.where(total > 0, total, 1.0)[own]
            true = _finite(events[truth[0]]) if truth else empty
            yield _Part(found["solution_positions"], weights, true, count, missing)
        return
    names = [place, *(n for n in truth if place != "initial_positions")]
    for _, events in data.blocks(names, 2**14):
        x = _finite(events[place])
        true = _finite(events[names[1]]) if len(names) > 1 else empty
        count = len(events[place])
        yield _Part(x, np.ones(len(x)), true, count, count - len(x))


def _finite(positions: np.ndarray) -> np.ndarray:
    return positions[np.isfinite(positions).all(axis=(1, 2))]


def _axes(data: Dataset, panels: list[_Panel]) -> list[np.ndarray]:
    """Return the edges of the bins, from geometries all over the file."""
    # the most probable ones, where there are such: others may be of any size
    seen = _sample(data, "positions" if "positions" in data else str(place_of(data)))
    if not len(seen):  # the few that there are may lie between the slices
        seen = next((part.positions for part in _parts(data) if len(part.positions)), seen)
    if not len(seen):
        why = "none has a solution" if has_solutions(data) else "none has a geometry"
        msg = f"{data.path}: nothing is left to draw of {data.n_events:,} events; {why}"
        raise InvalidDataError(msg)
    if "initial_positions" in data:
        seen = np.concatenate([seen, _sample(data, "initial_positions")])
    # the cube root of the number keeps the scatter of a bin and its width in proportion
    bins = int(np.clip(3 * data.n_events ** (1 / 3), 24, 140))
    out = []
    for panel in panels:
        values = panel.values(seen).ravel()
        low, high = np.quantile(values, [_REACH, 1 - _REACH])
        room = 0.08 * (high - low) or 0.05 * max(abs(high), 0.1)
        angles = panel.coordinates[0].is_angle
        low, high = max(low - room, 0.0), min(high + room, 180.0) if angles else high + room
        out.append(np.linspace(low, high, bins + 1))
    return out


def _sample(data: Dataset, place: str) -> np.ndarray:
    """Return geometries from slices all over a file."""
    rows, slices = data.shape(place)[0], 16
    length = _SAMPLED // slices
    starts = np.unique(np.linspace(0, max(rows - length, 0), slices).astype(int))
    parts = [data.read(place, first, min(length, rows - first)) for first in starts]
    return _finite(np.concatenate(parts)).astype(np.float64)


def _drawn(data: Dataset, histograms: _Histograms) -> Figure:
    count, dense = len(histograms.panels), bool(histograms.pairs)
    columns = 2 if count == 4 else min(count, 3)
    rows = 2 if dense else -(-count // columns)
    wide = 3.6 * columns if columns > 1 else 5.6
    figure = new_figure(wide, 0.9 + (2.9 if dense else 2.5) * rows)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(wspace=0.05)  # pyright: ignore[reportCallIssue]
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for i, axes in enumerate(grid[:count]):
        _draw_one(axes, histograms, i)
    if dense:
        largest = max(joint.max() for joint in histograms.joint)
        # a solution of small weight is a small part of an event
        norm = LogNorm(vmin=min(1.0, largest / 10), vmax=max(largest, 10.0))
        below = grid[count:]
        for pair, joint, axes in zip(histograms.pairs, histograms.joint, below, strict=True):
            _draw_pair(axes, histograms, pair, joint, norm)
        scale = below[-1].collections[0]
        figure.colorbar(scale, ax=list(below), label="events per bin", aspect=12)
    else:
        for axes in grid[count:]:
            axes.set_visible(False)
    solved = has_solutions(data)
    _name(figure, data, histograms.said(solved))
    if histograms.truths:
        _legend(grid[0])
    return figure


def _draw_one(axes, histograms: _Histograms, i: int) -> None:
    """Draw the distribution of one panel, as densities that integrate to one."""
    edges, panel = histograms.edges[i], histograms.panels[i]
    width = edges[1] - edges[0]
    each = len(panel.coordinates) * width
    found = histograms.found[i] / (max(histograms.drawn, 1e-300) * each)
    axes.stairs(found, edges, fill=True, color=COLOURS[0], alpha=0.35, label="found")
    axes.stairs(found, edges, color=COLOURS[0], linewidth=1)
    if histograms.truths:
        true = histograms.true[i] / (histograms.truths * each)
        axes.stairs(true, edges, color=COLOURS[1], linewidth=1.2, label="true")
    axes.set_xlabel(panel.label)
    axes.set_ylabel("density (1/°)" if panel.coordinates[0].is_angle else "density (1/Å)")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_pair(axes, histograms: _Histograms, pair: tuple[int, int], joint, norm) -> None:
    """Draw how two coordinates go together; empty bins stay white."""
    i, j = pair
    shown = np.ma.masked_equal(joint.T, 0)
    axes.pcolormesh(
        histograms.edges[i],
        histograms.edges[j],
        shown,
        norm=norm,
        cmap="viridis",
        rasterized=True,
    )
    axes.set_xlabel(histograms.panels[i].label)
    axes.set_ylabel(histograms.panels[j].label)


def _legend(axes) -> None:
    """Say which line is which, above the panel, where no curve is in the way."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=2,
        frameon=False,
        fontsize=9,
        borderaxespad=0.1,
        handlelength=1.4,
    )


def _name(figure: Figure, data: Dataset, said: str) -> None:
    """Set the title of the whole figure, and below the figure what was left out."""
    name = data.configuration.get("molecule", {}).get("name") or data.path.stem
    if "charges" in data and not data.grows("charges"):
        name += ", charges " + ",".join(f"{charge:g}" for charge in data["charges"])
    figure.suptitle(name, fontsize=12, color=INK)
    figure.supxlabel(said, fontsize=8, color="#666666")
