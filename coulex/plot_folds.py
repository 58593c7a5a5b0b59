"""A figure of what the momenta of three ions leave open: folds, and the number of geometries.

Momenta are simulated from every shape of a grid over the ratio of the two bonds and the angle
between them; of each the geometries are counted that give the same momenta. From rest, size
changes none of this, so that two numbers are the whole shape. Folds are the lines where the
determinant of the Jacobian changes sign: on one side of a fold there are two geometries more
than on the other.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from .explosions import simulate
from .geometry import central_atom, coordinates
from .inverse.response import response
from .inverse.table import table_of
from .molecule import Molecule
from .plot import INK, new_figure

_ANGLES = (30.0, 179.75)  #: degrees; of collinear ions the Jacobian has one row less
_SHADES = ("#eef3f7", "#c6dbea", "#8dbbd9", "#4e93c1", "#1f6aa5", "#0b3f6f")
_BENT = 90.0  #: degrees; a central atom whose bonds enclose more is in the middle


@dataclass(frozen=True)
class Folds:
    """What the figure shows, by ratio and angle."""

    molecule: Molecule
    central: int
    ratios: np.ndarray  #: (ratios,), first bond over second
    degrees: np.ndarray  #: (angles,)
    determinant: np.ndarray  #: (ratios, angles), its sign, times the least singular value
    solutions: np.ndarray  #: (ratios, angles), geometries with the same momenta
    #: (ratios, angles), of these with the central atom in the middle and more than 90 degrees
    alike: np.ndarray

    def angles(self, ratio: float) -> list[float]:
        """Return the angles of the folds at the tabulated ratio of bonds nearest to this."""
        row = int(np.abs(np.log(self.ratios / ratio)).argmin())
        here, degrees = self.determinant[row], self.degrees
        before = np.flatnonzero(here[1:] * here[:-1] < 0)
        along = here[before] / (here[before] - here[before + 1])
        return (degrees[before] + along * (degrees[before + 1] - degrees[before])).tolist()

    def equilibrium(self) -> tuple[float, float]:
        """Return ratio of bonds and angle, in degrees, of the molecule as it is."""
        shape = coordinates(self.molecule.symbols, central=self.central)
        first, second, degrees = (
            float(c.values(self.molecule.positions[None])[0]) for c in shape
        )
        return first / second, degrees


def folds(molecule: Molecule, *, points=(300, 400), reach=4.0, threads=None) -> Folds:
    """Count the geometries behind the momenta of all shapes of three ions.

    Parameters
    ----------
    molecule : Molecule
        Of three atoms, with the charges that they get.
    points : (int, int)
        Of the grid, ratios and angles.
    reach : float
        Largest ratio of the bonds; 1 / reach is the smallest.
    threads : int, optional

    Raises
    ------
    ValueError
        If there are not three atoms, or a charge is not positive.
    """
    if len(molecule.symbols) != 3:
        msg = f"folds are drawn of three ions, {molecule.name} has {len(molecule.symbols)}"
        raise ValueError(msg)
    m, q = molecule.ion_masses, molecule.charges
    table = table_of(m, q, threads=threads)
    central = central_atom(molecule.positions)
    ratios = np.geomspace(1 / reach, reach, points[0])
    degrees = np.linspace(*_ANGLES, points[1])
    ratio, angle = np.meshgrid(np.log(ratios), np.radians(degrees), indexing="ij")
    one, two = (i for i in range(3) if i != central)
    # the size is that of a molecule, which is where the simulator is at home
    x = np.zeros((ratio.size, 3, 3))
    first, second = 3.0 * np.exp(ratio.ravel() / 2), 3.0 * np.exp(-ratio.ravel() / 2)
    x[:, one, 0] = first
    x[:, two, 0] = second * np.cos(angle.ravel())
    x[:, two, 1] = second * np.sin(angle.ravel())
    known = response(x, m, q, threads=threads)
    momenta = simulate(x, m, q, threads=threads).momenta
    event, found = table.candidates(momenta, threads=threads)
    bend = coordinates(molecule.symbols, central=central)[2].values(found)
    solutions = np.bincount(event, minlength=len(x))
    alike = np.bincount(event[bend > _BENT], minlength=len(x))
    return Folds(
        molecule,
        central,
        ratios,
        degrees,
        *(
            number.reshape(ratio.shape)
            for number in (known.sign * known.least, solutions, alike)
        ),
    )


def draw(found: Folds) -> Figure:
    """Draw the numbers of geometries, and the folds over them.

    Parameters
    ----------
    found : Folds
    """
    figure = new_figure(10.6, 5.0)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(wspace=0.05)  # pyright: ignore[reportCallIssue]
    axes = figure.subplots(1, 2)
    most = int(max(found.solutions.max(), 2))
    shades = ListedColormap([_SHADES[min(i, len(_SHADES) - 1)] for i in range(most)])
    norm = BoundaryNorm(np.arange(0.5, most + 1), most)
    one, two = (i for i in range(3) if i != found.central)
    symbols = found.molecule.symbols
    centre = symbols[found.central]
    bonds = [f"{centre}{symbols[i]}" for i in (one, two)]
    panels = (
        (found.solutions, "all arrangements of the atoms"),
        (found.alike, f"{centre} in the middle, angle above 90°"),
    )
    for area, (number, title) in zip(axes, panels, strict=True):
        shown = np.ma.masked_equal(number.T, 0)
        shading = area.pcolormesh(
            found.ratios,
            found.degrees,
            shown,
            cmap=shades,
            norm=norm,
            shading="nearest",
            rasterized=True,
        )
        area.contour(
            found.ratios, found.degrees, found.determinant.T, levels=[0.0], colors="#d55e00",
            linewidths=1.8,
        )  # fmt: skip
        area.set_xscale("log")
        area.set_title(title, fontsize=10, color=INK)
        area.set_xlabel(f"bond ratio r({bonds[0]}) / r({bonds[1]})")
        area.set_xlim(found.ratios[0], found.ratios[-1])
        area.set_ylabel(f"angle {symbols[one]}–{centre}–{symbols[two]} (°)")
        ticks = [t for t in (0.1, 0.25, 0.5, 1, 2, 4, 10) if found.ratios[0] <= t * 1.001]
        ticks = [t for t in ticks if t <= found.ratios[-1] * 1.001]
        area.set_xticks(ticks, [f"{t:g}" for t in ticks])
        area.set_xticks([], minor=True)
        area.set_facecolor("#ffffff")
        area.plot([], [], color="#d55e00", linewidth=1.8, label="fold, det J = 0")
        _mark(area, found)
    axes[0].set(ylim=(found.degrees[0], 180.0), yticks=[30, 60, 90, 120, 150, 180])
    axes[1].set(ylim=(_BENT, 180.0), yticks=[90, 105, 120, 135, 150, 165, 180])
    scale = figure.colorbar(shading, ax=list(axes), ticks=range(1, most + 1), aspect=22)
    scale.set_label("geometries with the same momenta")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    charges = ", ".join(
        f"{s} {c:g}+" for s, c in zip(symbols, found.molecule.charges, strict=True)
    )
    figure.suptitle(f"{found.molecule.name}, {charges}, from rest", fontsize=12, color=INK)
    return figure


def _mark(area, found: Folds) -> None:
    """Mark the equilibrium geometry, on the border where it is linear."""
    ratio, degrees = found.equilibrium()
    area.plot(
        [ratio],
        [degrees],
        marker="*",
        markersize=13,
        color="#222222",
        markeredgecolor="white",
        linestyle="none",
        clip_on=False,
        zorder=5,
        label="equilibrium",
    )
