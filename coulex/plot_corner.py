"""A corner figure of the draws of one event: bonds and angles, each alone and in pairs."""

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from .dataset import Dataset
from .dataset.solutions import coordinates_of, has_solutions
from .errors import InvalidDataError
from .plot import COLOURS, INK, new_figure
from .plot_draws import axis_label

_MOST = 6  #: coordinates
_LEAST = 10  #: draws
_BINS = (12, 40)  #: least and most, by the number of draws
_GRID = 60  #: points along each side on which regions are drawn
_SHARES = (0.68, 0.95)


def corner(data: Dataset, *, event: int = 0) -> Figure:
    """Draw how bonds and angles of the draws of one event go together.

    Parameters
    ----------
    data : Dataset
        Draws, or weighted solutions.
    event : int
        From 0.

    Raises
    ------
    InvalidDataError
        If there is no such event, or it has too few draws.
    """
    if not has_solutions(data):
        msg = f"{data.path} holds no draws; `coulex sample` makes a file of them"
        raise InvalidDataError(msg)
    if not 0 <= event < data.n_events:
        msg = f"{data.path} has events 0 to {data.n_events - 1}, not {event}"
        raise InvalidDataError(msg)
    numbers = data["n_solutions"]
    first, count = int(numbers[:event].sum()), int(numbers[event])
    rows = np.arange(first, first + count)
    own = data["solution_event"]
    if len(own) < first + count or (own[rows] != event).any():
        rows = np.flatnonzero(own == event)  # not all solutions are in the file
    if len(rows) < _LEAST:
        msg = f"event {event} has {len(rows)} draws; a distribution needs {_LEAST}"
        raise InvalidDataError(msg)
    coordinates = coordinates_of(data)[:_MOST]
    place = slice(int(rows[0]), int(rows[-1]) + 1)
    x = data["solution_positions"][place]
    w = np.ones(len(x))
    if "solution_weight" in data:
        w = data["solution_weight"][place]
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.stack([c.values(x) for c in coordinates], axis=1)
    good = np.isfinite(values).all(axis=1)
    if good.sum() < _LEAST:
        msg = f"of event {event} {good.sum()} draws are geometries; {_LEAST} are needed"
        raise InvalidDataError(msg)
    values, w = values[good], w[good]
    truth = None
    if "initial_positions" in data:
        true = data.read("initial_positions", event, 1)
        truth = np.array([c.values(true)[0] for c in coordinates])
    figure = _drawn(values, w / w.sum(), truth, [axis_label(c) for c in coordinates])
    name = data.configuration.get("molecule", {}).get("name") or data.path.stem
    model = data.configuration.get("sampler", {}).get("model", "")
    said = f"{name}, {model}" if model else name
    figure.suptitle(f"{said}: event {event}, {len(values):,} draws", fontsize=11, color=INK)
    return figure


def _drawn(values: np.ndarray, weights: np.ndarray, truth, labels: list[str]) -> Figure:
    """Draw the panels of values (n, d), whose weights (n,) add up to one."""
    d = values.shape[1]
    figure = new_figure(2.1 * d + 0.6, 2.1 * d + 0.6)
    panels = figure.subplots(d, d, squeeze=False, sharex="col")
    edges = [_edges(values[:, k], truth[k] if truth is not None else None) for k in range(d)]
    for row in range(d):
        for column in range(d):
            axes = panels[row, column]
            if column > row:
                axes.set_visible(False)
                continue
            if row == column:
                density = np.histogram(values[:, row], edges[row], weights=weights)[0]
                axes.stairs(density, edges[row], fill=True, color=COLOURS[0], alpha=0.35)
                axes.stairs(density, edges[row], color=COLOURS[0], linewidth=1)
                axes.set_yticks([])
                axes.set_ylim(bottom=0)
                axes.spines[["top", "right", "left"]].set_visible(False)
            else:
                _pair(axes, values[:, [column, row]], weights, (edges[column], edges[row]))
                if truth is not None:
                    axes.axhline(truth[row], color=COLOURS[1], linewidth=0.9)
            if truth is not None:
                axes.axvline(truth[column], color=COLOURS[1], linewidth=0.9)
            axes.set_xlim(edges[column][0], edges[column][-1])
            axes.tick_params(labelsize=7)
            if row == d - 1:
                axes.set_xlabel(labels[column], fontsize=9)
            if column == 0 and row > 0:
                axes.set_ylabel(labels[row], fontsize=9)
            elif row != column:
                axes.set_yticklabels([])
    if truth is not None:
        panels[0, 0].plot([], [], color=COLOURS[1], linewidth=0.9, label="true")
        panels[0, 0].legend(frameon=False, fontsize=8, loc="upper right")
    return figure


def _edges(values: np.ndarray, truth: float | None) -> np.ndarray:
    low, high = np.quantile(values, (0.001, 0.999))
    if truth is not None and np.isfinite(truth):
        low, high = min(low, truth), max(high, truth)
    room = 0.08 * max(high - low, 1e-9 * max(abs(high), 1.0))
    bins = int(np.clip(len(values) ** 0.5 / 1.5, *_BINS))
    return np.linspace(low - room, high + room, bins + 1)


def _pair(axes, points: np.ndarray, weights: np.ndarray, edges) -> None:
    """Draw a joint density, and the regions that hold 68 and 95 % of it."""
    density = np.histogram2d(points[:, 0], points[:, 1], edges, weights=weights)[0]
    shown = np.ma.masked_equal(density.T, 0)
    axes.pcolormesh(*edges, shown, cmap="Blues", rasterized=True)
    axes.set_ylim(edges[1][0], edges[1][-1])
    grid = [np.linspace(e[0], e[-1], _GRID) for e in edges]
    try:
        estimate = gaussian_kde(points.T, weights=weights)
    except np.linalg.LinAlgError:  # all on a line: there is no area to enclose
        return
    # the level above which lie the draws that a region shall hold
    at_draws = estimate(points.T)
    order = np.argsort(-at_draws)
    held = np.cumsum(weights[order])
    levels = sorted({float(at_draws[order[np.searchsorted(held, s)]]) for s in _SHARES})
    heights = estimate(np.stack(np.meshgrid(*grid)).reshape(2, -1)).reshape(_GRID, _GRID)
    axes.contour(*grid, heights, levels=levels, colors=INK, linewidths=(0.6, 0.9))
