"""Figures of environments of atoms in three dimensions: ways between them, missing atoms.

Each panel is one environment, the atom in the middle dark, with a line between atoms that
are as near as a bond. Positions are in Å, (n, 3) about that atom; panels of a row are in one
frame.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .errors import InvalidDataError
from .plot import COLOURS, INK, new_figure

_SIDE = 1.9  # of a panel, inches
_BOND = 2.85  # Å, where a line is drawn
_CLOSE = 2.0  # Å, pairs that no real environment has: their line is red
_SIZES = {"centre": 90, "atom": 70, "truth": 150}
_FAINT = "#bbbbbb"


def ways(rows: Mapping[str, Any]) -> Figure:
    """Draw ways between environments as strips, one below the other.

    Parameters
    ----------
    rows : mapping of str to (steps, n, 3) array
        Å.

    Raises
    ------
    InvalidDataError
        If there is nothing to draw.
    """
    strips = {name: np.asarray(way, float) for name, way in rows.items()}
    if not strips or not all(len(way) and np.isfinite(way).all() for way in strips.values()):
        msg = "a strip of environments needs some, with finite positions"
        raise InvalidDataError(msg)
    steps = max(len(way) for way in strips.values())
    figure = new_figure(_SIDE * steps, (_SIDE + 0.35) * len(strips))
    for row, (name, way) in enumerate(strips.items()):
        axes = _panels(figure, len(strips), steps, row, way)
        for number, (ax, x) in enumerate(zip(axes, way, strict=False)):
            _draw(ax, x, COLOURS[0])
            ax.set_title(
                name if number == 0 else f"closest pair {_closest(x):.2f} Å",
                fontsize=9,
                color=INK,
                loc="left" if number == 0 else "center",
            )
    return figure


def completions(
    known: Any, missing: Any, found: Mapping[str, Any], titles: Sequence[str] = ()
) -> Figure:
    """Draw environments before and after atoms are filled in, a row each.

    Parameters
    ----------
    known : (m, k, 3) array
    missing : (m, l, 3) array
        As they are.
    found : mapping of str to (m, j, l, 3) array
        What each method puts there, in j draws that are drawn over each other.
    titles : sequence of str
        Of the rows.

    Raises
    ------
    InvalidDataError
        If there is nothing to draw.
    """
    known, missing = np.asarray(known, float), np.asarray(missing, float)
    if not len(known):
        msg = "no environments to draw"
        raise InvalidDataError(msg)
    columns = 2 + len(found)
    figure = new_figure((_SIDE + 0.5) * columns, (_SIDE + 0.5) * len(known))
    for row, (given, truth) in enumerate(zip(known, missing, strict=True)):
        axes = _panels(figure, len(known), columns, row, np.concatenate([given, truth])[None])
        _draw(axes[0], given, COLOURS[0])
        _draw(axes[1], np.concatenate([given, truth]), COLOURS[0])
        _dots(axes[1], truth, COLOURS[2], "truth", hollow=True)
        for ax, draws in zip(axes[2:], found.values(), strict=True):
            first = np.asarray(draws[row], float)
            _draw(ax, np.concatenate([given, first[0]]), COLOURS[0], len(given))
            _dots(ax, first[1:].reshape(-1, 3), COLOURS[1], "atom", alpha=0.3)
            _dots(ax, truth, COLOURS[2], "truth", hollow=True)
        names = ["known", "○ hidden", *found]
        for ax, name in zip(axes, names, strict=True):
            if row == 0:
                ax.set_title(name, fontsize=10, color=INK)
        if row < len(titles):
            axes[0].text2D(
                0.0, 0.0, titles[row], transform=axes[0].transAxes, fontsize=8, color=INK
            )
    return figure


def _panels(figure: Figure, rows: int, columns: int, row: int, within: np.ndarray) -> list:
    """Return the axes of a row, all of the same scale."""
    reach = max(float(np.linalg.norm(within, axis=-1).max()), 1.0)
    panels = []
    for column in range(columns):
        ax: Any = figure.add_subplot(
            rows, columns, row * columns + column + 1, projection="3d"
        )
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
        ax.set_box_aspect((1, 1, 1), zoom=1.5)
        ax.set_axis_off()
        ax.view_init(elev=18, azim=35)
        panels.append(ax)
    return panels


def _draw(ax: Any, x: np.ndarray, colour: str, known: int | None = None) -> None:
    """Draw atoms about one in the middle with their bonds, those that are known and others."""
    whole = np.concatenate([np.zeros((1, 3)), x])
    i, j = np.triu_indices(len(whole), 1)
    apart = np.linalg.norm(whole[i] - whole[j], axis=1)
    for a, b, distance in zip(i, j, apart, strict=True):
        if distance < _BOND:
            ends = whole[[a, b]].T
            red = distance < _CLOSE
            ax.plot(*ends, color=COLOURS[1] if red else "#777777", linewidth=3 if red else 2)
    for atom in x:  # a thin line to the middle tells the depth of atoms without a bond
        ax.plot(*np.stack([np.zeros(3), atom]).T, color=_FAINT, linewidth=0.6)
    _dots(ax, whole[:1], INK, "centre")
    _dots(ax, x[:known], colour, "atom")
    if known is not None:
        _dots(ax, x[known:], COLOURS[1], "atom")


def _dots(
    ax: Any, x: np.ndarray, colour: str, kind: str, *, hollow: bool = False, alpha: float = 1.0
) -> None:
    if not len(x):
        return
    face = "none" if hollow else colour
    edge = colour if hollow else "white"
    ax.scatter(
        *x.T,
        s=_SIZES[kind],
        facecolors=face,
        edgecolors=edge,
        linewidths=1.5 if hollow else 0.6,
        alpha=alpha,
        depthshade=not hollow and alpha == 1,
    )


def _closest(x: np.ndarray) -> float:
    whole = np.concatenate([np.zeros((1, 3)), x])
    i, j = np.triu_indices(len(whole), 1)
    return float(np.linalg.norm(whole[i] - whole[j], axis=1).min())
