"""Figures of environments of atoms against real ones: distances, angles, spectra."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from coulex.errors import InvalidDataError

from .plot import COLOURS, new_figure

#: what is drawn, by the name of its arrays
PANELS = {
    "bonds": "bonds / Å",
    "outer": "other neighbours / Å",
    "between": "between neighbours / Å",
    "angles": "angles between bonds / °",
}
_BINS = 60
_RANGE = (0.0005, 0.9995)  #: the share of the real ones that lies within the axes,
_MARGIN = 0.12  #: and of that range a margin to either side


def environments(
    groups: Mapping[str, Mapping[str, np.ndarray]], *, name: str = "Environments"
) -> Figure:
    """Draw the distributions of distances and angles of environments over each other.

    Parameters
    ----------
    groups : mapping of mapping of arrays
        By name: ``bonds``, ``outer``, ``between`` in Å and ``angles`` in degrees, a row for
        each environment. The first group is the real one, drawn grey, and sets the range of
        the axes.
    name : str
        Of the figure.

    Raises
    ------
    InvalidDataError
        If there is no group, or nothing in the first.
    """
    if not groups:
        msg = "no environments to draw"
        raise InvalidDataError(msg)
    first, *_ = groups.values()
    panels = {key: label for key, label in PANELS.items() if np.size(first[key])}
    if not panels:
        msg = "the real environments are empty"
        raise InvalidDataError(msg)
    figure = new_figure(8.4, 5.6)
    grid = figure.subplots(2, 2).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    outside = dict.fromkeys(groups, 0.0)
    for axes, (key, label) in zip(grid, panels.items(), strict=False):
        real = np.ravel(first[key])
        low, high = np.quantile(real, _RANGE)
        wide = _MARGIN * max(high - low, 0.1)
        edges = np.linspace(max(low - wide, 0.0), high + wide, _BINS + 1)
        for number, (group, arrays) in enumerate(groups.items()):
            values = np.ravel(arrays[key])
            counts = np.histogram(values, edges)[0]
            outside[group] = max(outside[group], 1 - counts.sum() / max(len(values), 1))
            density = counts / (max(len(values), 1) * np.diff(edges))
            if number == 0:
                axes.stairs(density, edges, fill=True, color="#bbbbbb")
                continue
            colour = COLOURS[(number - 1) % len(COLOURS)]
            axes.stairs(density, edges, color=colour, linewidth=1.3)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0)
        axes.set_xlabel(label)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
    labels = [
        f"{group}: {len(arrays['bonds']):,}"
        + (f", {100 * outside[group]:.2g} % off an axis" if outside[group] > 0 else "")
        for group, arrays in groups.items()
    ]
    figure.legend(
        *(grid[0].patches, labels),
        loc="outside lower center",
        frameon=False,
        fontsize=8,
        ncols=2,
    )
    figure.suptitle(name, fontsize=12)
    return figure


def spectra(groups: Mapping[str, np.ndarray]) -> Figure:
    """Draw the eigenvalues of Gram matrices, of which atoms have three that are not zero.

    Parameters
    ----------
    groups : mapping of (m, n) arrays
        Å², by name, the largest first; the real ones first.

    Raises
    ------
    InvalidDataError
        If a group is empty or holds numbers that are not finite.
    """
    if not groups or not all(len(v) and np.isfinite(v).all() for v in groups.values()):
        msg = "spectra need Gram matrices, with finite eigenvalues"
        raise InvalidDataError(msg)
    figure = new_figure(6.4, 4.0)
    axes = figure.subplots()
    axes.axhline(0, color="#bbbbbb", linewidth=0.8)
    axes.axvline(3.5, color="#bbbbbb", linewidth=0.8, linestyle=":")
    for number, (name, values) in enumerate(groups.items()):
        low, middle, high = np.quantile(values, (0.05, 0.5, 0.95), axis=0)
        share = np.abs(values[:, 3:]).sum() / np.abs(values).sum()
        axes.errorbar(
            np.arange(1, len(middle) + 1) + 0.12 * (number - (len(groups) - 1) / 2),
            middle,
            yerr=(middle - low, high - middle),
            fmt="o",
            markersize=4,
            capsize=2,
            color="#777777" if number == 0 else COLOURS[(number - 1) % len(COLOURS)],
            label=f"{name}: {100 * share:.2g} % beyond the third",
        )
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_xlabel("eigenvalue of G")
    axes.set_ylabel("median and 5-95 % / Å²")
    axes.legend(frameon=False, fontsize=8)
    return figure
