"""Figures of measured or simulated momenta, drawn from histograms that are filled in blocks.

Each function returns a matplotlib Figure made through its object interface: no window, no
display, no global state. Every figure says how many events it shows and what was left out.
"""

from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from .errors import InvalidDataError
from .events import Cuts, Events, blocks, sample
from .observables import (
    collinear_shares,
    dalitz_coordinates,
    kinetic_energies,
    newton_coordinates,
)
from .units import EV

_STYLES = ("-", "--", ":", "-.")  # a file each
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # an ion each
INK = "#222222"


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, its size in inches."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")


def save(figure: Figure, out: Path) -> None:
    """Write a figure, whole or not at all."""
    temporary = out.with_name(f".{out.name}.tmp{out.suffix}")
    try:
        figure.savefig(temporary)
        temporary.rename(out)
    finally:
        temporary.unlink(missing_ok=True)


def entitle(axes, title: str, below: str) -> None:
    """Set a title, and below it in small print what was left out."""
    axes.set_title(f"{title}\n", fontsize=12, color=INK)
    axes.text(
        0.5, 1.02, below, transform=axes.transAxes, ha="center", fontsize=8, color="#666666"
    )


def _spectra(events: Events, edges: np.ndarray, cuts: Cuts) -> np.ndarray:
    """Return counts (1 + ions, bins) of the KER and of each ion's kinetic energy, in eV."""
    counts = np.zeros((1 + len(events.ions), len(edges) - 1))
    for momenta in blocks(events, cuts):
        energies = kinetic_energies(momenta, events.masses) / EV
        ker_ev = energies.sum(axis=1)
        counts[0] += np.histogram(ker_ev, edges)[0]
        for ion in range(energies.shape[1]):
            counts[1 + ion] += np.histogram(energies[:, ion], edges)[0]
        cuts.outside += int(((ker_ev < edges[0]) | (ker_ev > edges[-1])).sum())
    cuts.require_some(events.name)
    return counts


def ker(*files: Events, bins: int = 400) -> Figure:
    """Draw the distribution of the kinetic-energy release, above those of the single ions.

    Parameters
    ----------
    *files : Events
        Overlaid, a line style each; ions that have the same name have the same colour.
    bins : int
        Number of bins, from zero to just above the 99.9th percentile of the KER.

    Raises
    ------
    InvalidDataError
        If a file has no event to draw.
    """
    sampled = [kinetic_energies(sample(e), e.masses).sum(axis=1) / EV for e in files]
    highest = [np.quantile(s, 0.999) if len(s) else 1.0 for s in sampled]
    # Without forces nothing moves, and every KER is zero.
    edges = np.linspace(0, 1.08 * max(highest) or 1.0, bins + 1)
    figure = new_figure(7, 5.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    said = ""
    colours: dict[str, str] = {}
    for events, style in zip(files, _STYLES * (len(files) // 4 + 1), strict=False):
        cuts = Cuts()
        counts = _spectra(events, edges, cuts)
        density = counts / (cuts.drawn * (edges[1] - edges[0]))
        said = cuts.said()
        label = f"{events.name}: {said}" if len(files) > 1 else None
        above.stairs(density[0], edges, color=INK, linestyle=style, label=label)
        if len(files) == 1:
            above.stairs(density[0], edges, fill=True, color=INK, alpha=0.12)
        for ion, name in enumerate(events.ions):
            below.stairs(
                density[1 + ion],
                edges,
                color=colours.get(name) or COLOURS[len(colours) % len(COLOURS)],
                linestyle=style,
                linewidth=1.4,
                label=None if name in colours else name,
            )
            colours.setdefault(name, COLOURS[len(colours) % len(COLOURS)])
    single = len(files) == 1
    entitle(above, files[0].name if single else "Kinetic-energy release", said * single)
    above.set_ylabel("KER (1/eV)")
    below.set_ylabel("single ions (1/eV)")
    below.set_xlabel("kinetic energy (eV)")
    if not single:
        above.legend(frameon=False, fontsize=8)
    below.legend(frameon=False, fontsize=9, ncols=1 + len(colours) // 6)
    for axes in (above, below):
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def chosen_ions(events: Events, ions: tuple[int, ...] | None) -> list[int]:
    """Return the three ions (from 0) of a figure: all there are, or those that were chosen.

    Raises
    ------
    InvalidDataError
        If three ions are needed and there are more or fewer, or an ion is named twice.
    """
    count = len(events.ions)
    if ions is None and count == 3:
        return [0, 1, 2]
    if ions is None or count < 3:
        remedy = "choose three with --ions 1,2,3" if count > 3 else "use `coulex plot ker`"
        msg = f"{events.name}: this figure needs three ions, the file has {count}; {remedy}"
        raise InvalidDataError(msg)
    if len(ions) != 3 or len(set(ions)) != 3 or not set(ions) <= set(range(count)):
        given = ",".join(str(ion + 1) for ion in ions)
        msg = f"three different ions from 1 to {count} are needed, got {given}"
        raise InvalidDataError(msg)
    return list(ions)


def _moving(momenta: np.ndarray, cuts: Cuts) -> np.ndarray:
    """Leave out the events whose first ion rests: they have no direction to refer to."""
    moves = np.asarray(momenta[:, 0].any(axis=-1))
    cuts.leave_out_resting(~moves)
    return momenta[moves]


def newton(events: Events, *, ions: tuple[int, ...] | None = None, bins: int = 320) -> Figure:
    """Draw the Newton plot: one ion along +x, two others in the half planes beside it.

    Parameters
    ----------
    events : Events
    ions : (3,) ints, optional
        Reference, upper and lower ion, from 0; the file's own order when it has three.
    bins : int
        Along each axis.

    Raises
    ------
    InvalidDataError
        If it is not clear which three ions are meant, or there is no event to draw.
    """
    three = chosen_ions(events, ions)
    points = newton_coordinates(_moving(sample(events)[:, three], Cuts()))
    reach = 1.1 * max(np.quantile(np.abs(points), 0.999) if len(points) else 1.0, 1.0)
    edges = np.linspace(-reach, reach, bins + 1)
    cuts = Cuts()
    counts = np.zeros((bins, bins))
    for momenta in blocks(events, cuts):
        points = newton_coordinates(_moving(momenta[:, three], cuts))
        x, y = points.reshape(-1, 2).T
        counts += np.histogram2d(x, y, (edges, edges))[0]
        cuts.outside += int((np.abs(points) > reach).any(axis=(1, 2)).sum())
    cuts.require_some(events.name)
    figure = new_figure(6.6, 5.6)
    axes = figure.subplots()
    _show(figure, axes, counts, (edges, edges), "ions per bin")
    reference, upper, lower = (events.ions[ion] for ion in three)
    axes.axhline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    axes.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    arrow = {"arrowstyle": "-|>", "color": COLOURS[1], "linewidth": 2, "shrinkA": 0}
    axes.annotate("", (1, 0), (0, 0), arrowprops={**arrow, "shrinkB": 0})
    axes.text(1.03, 0.03 * reach, reference, color=COLOURS[1], fontsize=13, va="bottom")
    for name, height in ((upper, 0.93), (lower, 0.07)):
        axes.text(0.04, height, name, transform=axes.transAxes, fontsize=13, va="center")
    entitle(axes, events.name, cuts.said())
    axes.set_xlabel(f"momentum along that of {reference} (units of its length)")
    axes.set_ylabel("momentum across")
    return figure


def dalitz(events: Events, *, ions: tuple[int, ...] | None = None, bins: int = 320) -> Figure:
    """Draw the Dalitz plot: how three ions share the kinetic-energy release.

    Parameters
    ----------
    events : Events
        Of three ions.
    ions : (3,) ints, optional
        Their order 1, 2, 3 in (ε₁ - ε₂)/√3 and ε₃ - 1/3, from 0; the file's own by default.
    bins : int
        Along each axis.

    Raises
    ------
    InvalidDataError
        If there are not three ions, or no event to draw.
    """
    if len(events.ions) != 3:
        msg = f"{events.name}: a Dalitz plot needs three ions, the file has {len(events.ions)}"
        raise InvalidDataError(msg)
    three = chosen_ions(events, ions)
    names = [events.ions[ion] for ion in three]
    corners = dalitz_coordinates(np.eye(3)[[0, 1, 2, 0]])
    x_edges = np.linspace(-0.62, 0.62, bins + 1)
    y_edges = np.linspace(-0.42, 0.82, bins + 1)
    cuts = Cuts()
    counts = np.zeros((bins, bins))
    for momenta in blocks(events, cuts):
        energies = kinetic_energies(momenta, events.masses)[:, three]
        moves = np.asarray(energies.any(axis=1))  # the others have no shares of energy
        cuts.leave_out_resting(~moves)
        energies = energies[moves]
        x, y = dalitz_coordinates(energies / energies.sum(axis=1, keepdims=True)).T
        counts += np.histogram2d(x, y, (x_edges, y_edges))[0]
    cuts.require_some(events.name)
    figure = new_figure(6.6, 5.6)
    axes = figure.subplots()
    _show(figure, axes, counts, (x_edges, y_edges), "events per bin")
    axes.plot(*corners.T, color="#bbbbbb", linewidth=0.8, zorder=0)
    limit = dalitz_coordinates(collinear_shares(np.asarray(events.masses)[three]))
    axes.plot(*limit.T, color=COLOURS[1], linewidth=1.3, label="limit set by Σp = 0")
    turn = np.linspace(0, 2 * np.pi, 361)
    (circle,) = axes.plot(np.cos(turn) / 3, np.sin(turn) / 3, label="that for equal masses")
    circle.set(color="#888888", linewidth=1, linestyle="--")
    for corner, name, side in zip(corners, names, ("right", "left", "center"), strict=False):
        shift = 0.012 if side == "center" else -0.05
        axes.text(corner[0], corner[1] + shift, f"all to {name}", ha=side, fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    entitle(axes, events.name, cuts.said())
    axes.set_xlabel(f"(ε({names[0]}) − ε({names[1]})) / √3")
    axes.set_ylabel(f"ε({names[2]}) − 1/3")
    return figure


def _show(figure: Figure, axes, counts: np.ndarray, edges, label: str) -> None:
    """Draw a two-dimensional histogram; empty bins stay white."""
    shown = np.ma.masked_equal(counts.T, 0)
    norm = LogNorm(vmin=1, vmax=max(shown.max(), 10))
    image = axes.pcolormesh(*edges, shown, norm=norm, cmap="viridis", rasterized=True)
    axes.set_aspect("equal")
    figure.colorbar(image, ax=axes, label=label, shrink=0.85)
