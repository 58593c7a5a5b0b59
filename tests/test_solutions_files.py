"""Files of solutions: their lists in blocks, as tables, as figures."""

import csv
import re
import sys
from pathlib import Path

import h5py
import matplotlib
import numpy as np
import pytest
from inverting import BOX, N, as_json, know, run
from matplotlib.backends.backend_agg import FigureCanvasAgg

from coulex import Molecule, dataset, frames, plot_geometry
from coulex.dataset import Target
from coulex.dataset.solutions import coordinates_of, has_solutions, solution_blocks
from coulex.ensemble import Box
from coulex.errors import CorruptFileError, InvalidDataError
from coulex.events import of_dataset
from coulex.geometry import atom_names, central_atom, coordinates
from coulex.units import ANGSTROM

pytestmark = pytest.mark.usefixtures("oracle")


@pytest.fixture
def solved(oracle):
    """Return a file of solutions in which two events have none."""
    oracle.momenta[[4, 9]] = np.nan
    run("invert ocs.h5 -o solved.h5 --all")
    return dataset.open("solved.h5")


def rows_of(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def write(path, arrays, n):
    with Target(path, {"what": "a test"}, {}, n) as target:
        for shard in target.missing():
            target.write(shard, arrays)
        target.finalize()
    return dataset.open(path)


# -- bonds and angles --------------------------------------------------------------------


def test_bonds_and_angles_of_a_right_angle():
    x = np.array([[[2.0, 0, 0], [0, 0, 0], [0, 0, 3.0]]]) * ANGSTROM
    found = coordinates(["O", "C", "S"], central=1)
    assert [c.column for c in found] == ["r_CO_angstrom", "r_CS_angstrom", "angle_OCS_degrees"]
    assert [c.values(x)[0] for c in found] == pytest.approx([2, 3, 90], rel=1e-14)


def test_coordinates_do_not_turn_with_the_molecule():
    x = np.random.default_rng(1).normal(size=(50, 5, 3))
    turned = frames.rotate(x, frames.random_rotations(2, 0, 50)) + [3.0, -1.0, 2.0]
    for c in coordinates("ABCDE"):
        assert np.abs(c.values(x) - c.values(turned)).max() < 1e-13


def test_repeated_elements_are_numbered():
    assert atom_names(["C", "H", "H", "Cl"]) == ["C", "H1", "H2", "Cl"]
    columns = [c.column for c in coordinates(["H", "O", "H"], central=1)]
    assert columns == ["r_OH1_angstrom", "r_OH2_angstrom", "angle_H1OH2_degrees"]
    columns = [c.column for c in coordinates(["C", "H", "H", "H", "H"])]
    assert columns[:2] == ["r_CH1_angstrom", "r_CH2_angstrom"]
    assert (len(columns), columns[-1]) == (10, "r_H3H4_angstrom")
    assert [c.column for c in coordinates(["C", "O"])] == ["r_CO_angstrom"]


@pytest.mark.parametrize("name", ["OCS", "H2O", "CO2"])
def test_the_central_atom_is_that_of_the_box(name):
    molecule = Molecule.named(name)
    central = central_atom(molecule.positions)
    box = Box(first_bond=(1, 1), second_bond=(2, 2), angle_degrees=(90, 90))
    x, _ = box.sample(molecule, seed=1, first=0, count=2)
    shape = coordinates(molecule.symbols, central=central)
    assert [c.values(x * ANGSTROM)[0] for c in shape] == pytest.approx([1, 2, 90])
    assert central_atom(x) == central


# -- the lists ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_blocks_of_solutions_are_those_of_their_events(solved, size):
    lists = ["solution_positions", "solution_weight"]
    event, x, seen = [], [], 0
    for first, events, found in solution_blocks(solved, ["momenta"], lists, size):
        assert first == seen
        own = found["solution_event"]
        assert ((own >= first) & (own < first + len(events["momenta"]))).all()
        event.append(own)
        x.append(found["solution_positions"])
        seen += len(events["momenta"])
    assert seen == N
    assert np.array_equal(np.concatenate(event), solved["solution_event"])
    assert np.array_equal(np.concatenate(x), solved["solution_positions"])


@pytest.mark.parametrize(
    ("events", "message"),
    [([1, 0], "does not ascend"), ([0, 5], "beyond 2"), ([-1, 0], "does not ascend")],
)
def test_solutions_of_no_event_are_noticed(events, message):
    arrays = {
        "momenta": np.zeros((2, 3, 3)),
        "solution_event": np.array(events),
        "solution_positions": np.zeros((2, 3, 3)),
    }
    data = write("wrong.h5", arrays, 2)
    with pytest.raises(CorruptFileError, match=message):
        list(solution_blocks(data, ["momenta"], []))


def test_lists_of_unequal_length_are_refused():
    arrays = {
        "momenta": np.zeros((2, 3, 3)),
        "solution_event": np.zeros(3, int),
        "solution_positions": np.zeros((2, 3, 3)),
    }
    with pytest.raises(InvalidDataError, match=r"solution_positions must have shape \(3, 3"):
        write("wrong.h5", arrays, 2)


def test_info_and_verify_know_solutions(solved):
    said = as_json(run("data info solved.h5 --json"))
    assert said["status"] == {"solved": 199, "several solutions": 99, "no geometry": 2}
    assert said["arrays"]["solution_positions"]["shape"] == [397, 3, 3]
    assert said["arrays"]["solution_positions"]["units"] == "bohr"
    assert has_solutions(solved)
    assert "every checksum is right" in run("data verify solved.h5").stdout
    content = bytearray(Path("solved.h5").read_bytes())
    offset = h5py.File("solved.h5")["solution_weight"].id.get_offset()
    content[offset + 11] ^= 1
    Path("solved.h5").write_bytes(content)
    assert "solution_weight is damaged" in run("data verify solved.h5", 4).stderr
    assert "solution_weight is damaged" in run("data export solved.h5 -o a.csv", 4).stderr
    assert not Path("a.csv").exists()


def test_momenta_of_events_without_solution_are_drawn(solved):
    assert of_dataset(solved).status is None
    run("plot ker solved.h5 -o ker.png")


# -- tables ------------------------------------------------------------------------------


def test_blocks_of_a_table_do_not_show(solved, monkeypatch):
    run("data export solved.h5 -o whole.csv")
    # the second block begins with an event that has no solution
    monkeypatch.setattr("coulex.dataset.exchange.solutions.EXPORT_EVENTS", 9)
    run("data export solved.h5 -o blocks.csv")
    assert Path("blocks.csv").read_text() == Path("whole.csv").read_text()


def test_a_row_for_each_solution(solved):
    result = run("data export solved.h5 -o solved.csv")
    assert "2 of 300 events have no solution: left out" in result.stderr
    rows = rows_of("solved.csv")
    assert list(rows[0]) == [
        *("event", "rank", "r_CO_angstrom", "r_CS_angstrom", "angle_OCS_degrees"),
        *("weight", "residual", "condition", "sign", "status"),
    ]
    assert [int(row["event"]) for row in rows] == solved["solution_event"].tolist()
    assert [(row["event"], row["rank"]) for row in rows[:3]] == [
        *(("0", "1"), ("0", "2"), ("1", "1"))
    ]
    assert rows[0]["status"] == "several solutions"
    x = solved["solution_positions"] / ANGSTROM
    bond = np.linalg.norm(x[:, 1] - x[:, 0], axis=1)
    assert [float(row["r_CO_angstrom"]) for row in rows] == pytest.approx(bond, rel=1e-15)
    degrees = np.degrees(frames.angle(x[:, 0], x[:, 1], x[:, 2]))
    assert [float(row["angle_OCS_degrees"]) for row in rows] == pytest.approx(degrees)
    for name in ("weight", "residual", "condition", "sign"):
        assert [float(row[name]) for row in rows] == solved[f"solution_{name}"].tolist()


def test_a_table_of_five_ions_has_all_distances(monkeypatch):
    run("simulate CH4 -n 20 --ensemble gaussian --sigma 0.1 -o ch4.h5")
    data = dataset.open("ch4.h5")
    know(monkeypatch, data["momenta"], data["initial_positions"])
    run("invert ch4.h5 -o solved.h5")
    run("data export solved.h5 -o solved.csv")
    rows = rows_of("solved.csv")
    assert len(rows) == 20
    assert len([name for name in rows[0] if name.startswith("r_")]) == 10
    x = data["initial_positions"] / ANGSTROM
    volume = np.einsum(
        "ni,ni->n", x[:, 1] - x[:, 0], np.cross(*np.moveaxis(x[:, 2:4] - x[:, :1], 1, 0))
    )
    name = "volume_CH1H2H3_cubic_angstrom"
    assert [float(row[name]) for row in rows] == pytest.approx(volume, rel=1e-12)
    run("plot geometry solved.h5 -o fig.svg")


def test_other_formats_of_solutions(solved):
    run("data export solved.h5 -o solved.extxyz")
    text = Path("solved.extxyz").read_text()
    assert text.count("event=") == N - 2
    oxygen = float(re.search(r"^O (\S+)", text, re.MULTILINE)[1])
    assert oxygen == pytest.approx(solved["positions"][0, 0, 0] / ANGSTROM, rel=1e-15)
    run("data export solved.h5 -o solved.npz")
    with np.load("solved.npz") as file:
        assert np.array_equal(file["solution_weight"], solved["solution_weight"])
    # what an import takes is events: it leaves the lists behind
    run("invert solved.npz -o again.h5")
    assert dataset.open("again.h5").n_events == N


def test_an_import_takes_events_and_no_lists():
    run("invert ocs.h5 -o all.h5 --all")
    run("data import all.h5 -o imported.h5")
    data = dataset.open("imported.h5")
    assert not [name for name in data.names if name.startswith("solution_")]
    assert np.array_equal(data["positions"], dataset.open("all.h5")["positions"])


def test_without_a_molecule_the_geometries_tell_the_centre():
    x = np.zeros((4, 3, 3))
    x[:, 0, 0], x[:, 2, 1] = 2.0, 3.0
    arrays = {"positions": x, "numbers": np.array([8, 6, 16], np.int32)}
    data = write("drawn.h5", arrays, 4)
    assert [c.label for c in coordinates_of(data)] == ["CO", "CS", "OCS"]
    x[:] = np.nan
    data = write("none.h5", {"positions": x}, 4)
    assert [c.label for c in coordinates_of(data)][-1] == "ion2ion1ion3"


# -- figures -----------------------------------------------------------------------------


def texts(figure):
    axes = [axes for axes in figure.axes if axes.get_visible()]
    legends = [axes.get_legend() for axes in axes]
    said = [text.get_text() for legend in legends if legend for text in legend.get_texts()]
    labels = [label for a in axes for label in (a.get_xlabel(), a.get_ylabel()) if label]
    return figure.get_suptitle(), figure.get_supxlabel(), labels, said


def test_figure_of_three_ions_has_bonds_angle_and_pairs(solved):
    title, below, labels, legend = texts(plot_geometry.geometry(solved))
    assert title == "OCS, charges 2,2,2"
    assert below.startswith("300 events; 2 without a solution")
    assert labels.count("C–O (Å)") == 3
    assert labels.count("angle O–C–S (°)") == 3
    assert legend == ["found", "true"]
    assert "events per bin" in labels


def test_every_event_counts_once_whatever_its_solutions(solved):
    figure = plot_geometry.geometry(solved)
    for axes in figure.axes[:3]:
        found = axes.patches[1].get_data()
        area = (found.values * np.diff(found.edges)).sum()
        # at most 1 in 1000 beyond either end, and as many more as the sample may miss
        assert area == pytest.approx(1, abs=0.01)


def test_a_simulation_is_drawn_without_truth():
    title, below, _, legend = texts(plot_geometry.geometry(dataset.open("ocs.h5")))
    assert (title, legend) == ("OCS, charges 2,2,2", [])
    assert below.startswith("300 events")


def test_more_ions_have_a_panel_for_each_pair_of_elements():
    run("simulate CH4 -n 50 --ensemble gaussian --sigma 0.1 -o ch4.h5")
    figure = plot_geometry.geometry(dataset.open("ch4.h5"))
    assert [axes.get_xlabel() for axes in figure.axes] == ["C–H (Å)", "H–H (Å)"]
    run("simulate CO -n 50 --ensemble gaussian --sigma 0.1 -o co.h5")
    assert len(plot_geometry.geometry(dataset.open("co.h5")).axes) == 1
    run("simulate CO -n 50 -o one.h5")  # all the same
    plot_geometry.geometry(dataset.open("one.h5"))


def test_one_geometry_and_one_solution(monkeypatch, oracle):
    oracle.momenta[1:] = np.nan
    run("invert ocs.h5 -o few.h5")
    run("plot geometry few.h5 -o fig.png")
    assert Path("fig.png").stat().st_size > 10_000


def test_nothing_to_draw_is_an_error_and_no_figure(oracle):
    oracle.momenta[1:] = np.nan
    oracle.momenta[0] *= 3
    run("invert ocs.h5 -o none.h5", 1)
    said = run("plot geometry none.h5 -o fig.png", 1).stderr
    assert "none.h5: nothing is left to draw of 300 events; none has a solution" in said
    assert not Path("fig.png").exists()
    x = np.full((40_000, 3, 3), np.nan)
    with pytest.raises(InvalidDataError, match="40,000 events; none has a geometry"):
        plot_geometry.geometry(write("drawn.h5", {"positions": x}, len(x)))
    x[1500] = oracle.positions[0]  # one that no sample sees
    _, below, _, _ = texts(plot_geometry.geometry(write("one.h5", {"positions": x}, len(x))))
    assert below == "40,000 events; 39,999 without a geometry"


def test_no_place_is_an_error():
    data = write("p.h5", {"momenta": np.ones((2, 3, 3))}, 2)
    with pytest.raises(InvalidDataError, match="holds no geometries, but momenta"):
        plot_geometry.geometry(data)


def test_a_figure_touches_no_state(solved):
    before = dict(dict.items(matplotlib.rcParams))
    FigureCanvasAgg(plot_geometry.geometry(solved)).draw()
    assert dict(dict.items(matplotlib.rcParams)) == before
    assert "matplotlib.pyplot" not in sys.modules


def test_blocks_do_not_show(solved, monkeypatch):
    def image():
        canvas = FigureCanvasAgg(plot_geometry.geometry(solved))
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())

    whole = image()
    blocks = solution_blocks
    monkeypatch.setattr(
        plot_geometry, "solution_blocks", lambda *given: blocks(*given, size=17)
    )
    assert np.array_equal(image(), whole)


def test_overlaid_options_are_those_of_all_figures():
    run(f"simulate OCS -n 20 {BOX} -o a.h5")
    run("plot geometry a.h5 -o fig.pdf")
    assert "fig.pdf exists" in run("plot geometry a.h5 -o fig.pdf", 1).stderr
    assert "a figure ends in" in run("plot geometry a.h5 -o fig.txt", 2).stderr
