import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from numpy.testing import assert_allclose, assert_array_equal

from coulex.errors import InvalidDataError
from coulex.molecule import Molecule
from coulex.units import ANGSTROM

WATER = """3
water
O  0.000  0.000  0.119
H  0.000  0.763 -0.477
H  0.000 -0.763 -0.477
"""


@pytest.fixture
def file(tmp_path):
    def make(text, name="molecule.xyz"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return make


def test_xyz(file):
    molecule = Molecule.read(file(WATER))
    assert molecule.name == "molecule"
    assert molecule.symbols == ("O", "H", "H")
    assert molecule.mass_numbers == (16, 1, 1)
    expected = [[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]]
    assert_allclose(molecule.positions, np.array(expected) * ANGSTROM, rtol=1e-14)


@pytest.mark.parametrize("name", ["m.traj", "m.json", "m.pdb", "m.extxyz", "m.gen"])
def test_other_formats(tmp_path, name):
    atoms = Atoms("OH2", [[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]])
    write(tmp_path / name, atoms)
    molecule = Molecule.read(tmp_path / name)
    assert molecule.symbols == ("O", "H", "H")
    assert_allclose(molecule.positions, atoms.positions * ANGSTROM, atol=1e-3)


def test_isotopes_in_xyz_files(file):
    text = WATER.replace("H  0.000  0.763", "D  0.000  0.763").replace("O ", "18O ")
    molecule = Molecule.read(file(text))
    assert molecule.symbols == ("O", "H", "H")
    assert molecule.mass_numbers == (18, 2, 1)
    assert Molecule.read(file(text.replace("D ", "T "))).mass_numbers == (18, 3, 1)


def test_extended_xyz_with_the_symbols_elsewhere(file):
    text = '2\nProperties=pos:R:3:species:S:1 pbc="F F F"\n0 0 0 D\n0 0 1.1 F\n'
    molecule = Molecule.read(file(text, "m.extxyz"))
    assert molecule.symbols == ("H", "F")
    assert molecule.mass_numbers == (2, 19)
    assert molecule.positions[1, 2] == pytest.approx(1.1 * ANGSTROM)


def test_units(file):
    inside = file(WATER)
    assert_allclose(
        Molecule.read(inside).positions,
        Molecule.read(inside, units="bohr").positions * ANGSTROM,
    )
    same = Molecule.read(inside, units="angstrom").positions
    assert_array_equal(Molecule.read(inside).positions, same)


@pytest.mark.parametrize("comment", ["in bohr", "units: Bohr", "geometry (a.u.)", "units=au"])
def test_a_comment_that_says_bohr_needs_an_answer(file, comment):
    path = file(WATER.replace("water", comment))
    with pytest.raises(InvalidDataError, match=r"line 2 says .*--units bohr"):
        Molecule.read(path)
    assert Molecule.read(path, units="bohr").positions[0, 2] == pytest.approx(0.119)


@pytest.mark.parametrize("comment", ["auburn", "Niels Bohrium", "gold, Au", "E=-1.2"])
def test_a_comment_that_does_not_say_bohr(file, comment):
    assert len(Molecule.read(file(WATER.replace("water", comment))).symbols) == 3


def test_trajectory(file):
    second = WATER.replace("0.119", "0.219")
    path = file(WATER + second + "\n")
    molecule, frames = Molecule.read_frames(path)
    assert frames.shape == (2, 3, 3)
    assert_allclose(frames[:, 0, 2], np.array([0.119, 0.219]) * ANGSTROM)
    assert_array_equal(molecule.positions, frames[0])
    assert_array_equal(Molecule.read(path).positions, frames[1])
    assert_array_equal(Molecule.read(path, index=0).positions, frames[0])
    with pytest.raises(InvalidDataError, match="2 structures, so there is no index 2"):
        Molecule.read(path, index=2)


def test_a_trajectory_of_different_molecules_is_refused(file):
    path = file(WATER + WATER.replace("H  0.000 -", "D  0.000 -"))
    with pytest.raises(InvalidDataError, match="frame 1 consists of O H D, unlike frame 0"):
        Molecule.read_frames(path)
    assert Molecule.read(path).mass_numbers == (16, 1, 2)


def test_a_bad_frame_is_named(file):
    with pytest.raises(InvalidDataError, match=r"frame 1: atom 0 \(O\) has coordinates"):
        Molecule.read_frames(file(WATER + WATER.replace("0.119", "inf")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "holds no structure"),
        (WATER.replace("0.119", "nan"), r"atom 0 \(O\) has coordinates .* not all finite"),
        (WATER.replace("0.763 -", "-inf -", 1), r"atom 1 \(H\) has coordinates"),
        (WATER.replace("O ", "X "), "line 3: unknown symbol 'X'"),
        (WATER.replace("H  0.000  0", "Q  0.000  0"), "line 4: unknown symbol 'Q'"),
        (
            WATER.replace("-0.763", "0.76301"),
            r"1 \(H\) and 2 \(H\) are 1e-05 Å .*--min-distance",
        ),
        ("1\n\nH 0 0 0\n", "1 atoms; an explosion takes at least two"),
        ("0\n\n", "0 atoms|no structure|not readable"),
        (WATER.replace("3\n", "4\n", 1), "line 1 promises 4 atoms, but the file ends before"),
        (WATER.replace("3\n", "2\n", 1), "line 5: expected a number of atoms, got 'H"),
        (WATER.replace("0.119", "0.1x9"), "not readable as a structure"),
        (WATER.replace(" 0.119", ""), "line 3: expected a symbol and 3 coordinates"),
        ("2\n\nH 0 0 0\nH 0 0 0.074\n", r"less than 0.1 Å; .*other units meant.*--units bohr"),
        (
            "2\n\nH 0 0 0\nH 0 0 0.4\n",
            "between 0.4 and 0.4 Å; were other units .*--units bohr",
        ),
        ("2\n\nH 0 0 0\nH 0 0 74\n", "between 74 and 74 Å; were other units meant"),
        (
            WATER.replace("water", 'Lattice="9 0 0 0 9 0 0 0 9"'),
            "periodic cell.*--ignore-cell",
        ),
    ],
)
def test_what_is_no_molecule_is_refused(file, text, message):
    path = file(text)
    with pytest.raises(InvalidDataError, match=message) as caught:
        Molecule.read(path)
    assert "molecule.xyz" in str(caught.value)


def test_what_was_refused_can_be_insisted_on(file):
    near = file("2\n\nH 0 0 0\nH 0 0 0.05\n")
    with pytest.raises(InvalidDataError, match=r"0.05 Å apart, less than 0.1 Å; .*\)$"):
        Molecule.read(near, units="angstrom")
    molecule = Molecule.read(near, units="angstrom", min_distance_angstrom=0.01)
    assert molecule.positions[1, 2] == pytest.approx(0.05 * ANGSTROM)
    cell = file(WATER.replace("water", 'Lattice="9 0 0 0 9 0 0 0 9"'))
    assert len(Molecule.read(cell, ignore_cell=True).symbols) == 3


def test_files_that_are_none(tmp_path, file):
    with pytest.raises(InvalidDataError, match="no such file"):
        Molecule.read(tmp_path / "missing.xyz")
    with pytest.raises(InvalidDataError, match="not readable as a structure"):
        Molecule.read(file("hello", "m.traj"))
    with pytest.raises(InvalidDataError, match="not readable as a structure"):
        Molecule.read(file("hello", "m.strange"))


def test_dummies_and_units_in_other_formats(tmp_path):
    write(tmp_path / "m.json", Atoms("XH2", [[0, 0, 0], [0, 0, 1], [0, 1, 0]]))
    with pytest.raises(InvalidDataError, match="atom 0: unknown symbol 'X'"):
        Molecule.read(tmp_path / "m.json")
    with pytest.raises(InvalidDataError, match="format fixes the unit"):
        Molecule.read(tmp_path / "m.json", units="bohr")
