"""Figures of structures: radial distributions, and the density of atoms along the axes."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from coulex.errors import InvalidDataError

from .plot import COLOURS, INK, entitle, new_figure


def radial_distributions(
    r: np.ndarray, curves: Mapping[str, np.ndarray], *, below: str = ""
) -> Figure:
    """Draw radial distribution functions over each other.

    Parameters
    ----------
    r : (shells,) array
        Å
    curves : mapping of (shells,) arrays
        By name; the first is drawn wide, as what the others are compared with.
    below : str
        Small print under the title.

    Raises
    ------
    InvalidDataError
        If a curve has other shells, or numbers that are not finite.
    """
    figure = new_figure(6.4, 4.2)
    axes = figure.add_subplot()
    styles = [(3.2, "#bbbbbb"), *((1.3, colour) for colour in COLOURS)]
    for number, (name, g) in enumerate(curves.items()):
        if np.shape(g) != np.shape(r) or not np.isfinite(g).all():
            msg = f"{name}: expected {len(r)} finite numbers, got shape {np.shape(g)}"
            raise InvalidDataError(msg)
        width, colour = styles[min(number, len(styles) - 1)]
        axes.plot(r, g, linewidth=width, color=colour, label=name)
    reached = max((np.max(g[r > 0.25 * r[-1]]) for g in curves.values()), default=1.0)
    axes.set_ylim(0, 1.1 * reached)  # few pairs make the first shells wild
    axes.set_xlim(0, r[-1])
    axes.set_xlabel("distance / Å")
    axes.set_ylabel("g")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    entitle(axes, "Radial distribution", below)
    return figure


def projected_densities(
    lengths: np.ndarray, predicted: np.ndarray, true: np.ndarray
) -> Figure:
    """Draw the density of atoms along each axis: as predicted, and as it is.

    Parameters
    ----------
    lengths : (3,) array
        Of the box, Å.
    predicted, true : (3, cells) array
        1/Å

    Raises
    ------
    InvalidDataError
        If the two have other shapes, or numbers that are not finite.
    """
    predicted, true = np.asarray(predicted, float), np.asarray(true, float)
    if predicted.shape != true.shape or predicted.ndim != 2 or len(predicted) != 3:
        msg = f"expected two arrays (3, cells), got {predicted.shape} and {true.shape}"
        raise InvalidDataError(msg)
    if not (np.isfinite(predicted).all() and np.isfinite(true).all()):
        msg = "densities must be finite"
        raise InvalidDataError(msg)
    figure = new_figure(7, 5.4)
    panels = figure.subplots(3, 1)
    for axis, axes in enumerate(panels):
        edges = np.linspace(0, lengths[axis], predicted.shape[1] + 1)
        axes.stairs(true[axis], edges, fill=True, color="#bbbbbb", label="as it is")
        axes.stairs(predicted[axis], edges, color=COLOURS[0], linewidth=1.2, label="predicted")
        axes.set_xlim(0, lengths[axis])
        axes.set_ylabel("density / Å⁻¹", color=INK)
        axes.set_xlabel(f"{'xyz'[axis]} / Å")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8, ncols=2)
    said = "each coordinate predicted from those before it, in the mean over structures"
    entitle(panels[0], "Atoms along the axes", said)
    return figure
