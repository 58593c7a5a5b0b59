"""Structure files: what is read, and what is refused in one line."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from numpy.testing import assert_allclose, assert_array_equal

from coulex.errors import InvalidDataError
from generative.structures import Structure, read, write

SILICON = Path(__file__).parents[2] / "shared" / "data" / "amorphous-silicon"
PAIR = """2
Lattice="4 0 0 0.5 4 0 0 0 8" Properties=species:S:1:pos:R:3:force:R:3 pbc="T T F" name=a
Si 0 0 0 1 2 3
Si 0 0 2.35 1 2 3
"""


@pytest.fixture
def file(tmp_path):
    def make(text, name="s.extxyz"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return make


def test_extended_xyz_as_ase_reads_it(file):
    path = file(PAIR + PAIR.replace("0.5", "0.25"))
    ours, theirs = read(path), ase.io.read(path, index=":")
    assert len(ours) == 2
    for one, other in zip(ours, theirs, strict=True):
        assert_array_equal(one.positions, other.positions)
        assert_array_equal(one.cell, other.cell.array)
        assert_array_equal(one.periodic, other.pbc)
        assert_array_equal(one.numbers, other.numbers)
        assert one.info == {"name": "a"}


def test_plain_xyz_is_a_cluster(file):
    (s,) = read(file("2\nfree text = here\nO 0 0 0\nC 0 0 1.1\n", "s.xyz"))
    assert not s.periodic.any()
    assert s.numbers.tolist() == [8, 6]


@pytest.mark.parametrize("name", ["s.traj", "s.cif", "POSCAR"])
def test_other_formats(tmp_path, name):
    atoms = bulk("Si", cubic=True)
    ase.io.write(tmp_path / name, atoms)
    (s,) = read(tmp_path / name)
    assert_allclose(s.positions, atoms.positions, atol=1e-6)
    assert s.periodic.all()


def test_what_is_written_is_read(tmp_path):
    rng = np.random.default_rng(0)
    made = [
        Structure(positions=3 * rng.normal(size=(1, 3)), numbers=[14]),
        Structure(
            positions=[[0, 0, 0], [1.7, 1.2, 1.1]],
            numbers=[11, 17],
            cell=[[3, 0, 0.5], [0.2, 3, 0], [0, 0.7, 3]],
            periodic=[True, False, True],
        ),
    ]
    said = [{"environment": True, "n": 3, "e": -1.5, "word": 'two "words"'}, {}]
    write(tmp_path / "s.extxyz", made, said)
    back = read(tmp_path / "s.extxyz")
    for one, other in zip(made, back, strict=True):
        assert_allclose(one.positions, other.positions, atol=1e-10)
        assert_array_equal(one.cell, other.cell)
        assert_array_equal(one.periodic, other.periodic)
        assert_array_equal(one.numbers, other.numbers)
    assert back[0].info == said[0] | {"word": "two 'words'"}
    assert not list(tmp_path.glob(".*"))
    write(tmp_path / "again.extxyz", back)
    assert (tmp_path / "again.extxyz").read_bytes() == (tmp_path / "s.extxyz").read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("0 0 2.35", "0 0 nan"), r"atom 1 \(Si\) is at .* not all finite"),
        (("0 0 2.35", "0 0 inf"), "not all finite"),
        (("0 0 2.35", "0 0 0"), r"atoms 0 \(Si\) and 1 \(Si\) are 0 Å apart"),
        (("0 0 2.35", "0 0 1.3"), r"1.3 Å apart, less than 1.33 Å"),
        (("0 0 2.35", "3.9 0.1 0"), "an image of 1"),
        (("0 0 2.35", "0 0 two"), "line 4: expected a symbol and 3 coordinates"),
        (("Si 0 0 2.35 1 2 3\n", ""), "line 1 promises 2 atoms"),
        (("Si 0 0 2.35", "Xx 0 0 2.35"), "line 4: 'Xx' is no element"),
        (("Si 0 0 2.35", "X 0 0 2.35"), "'X' is no element"),
        (("name=a", "units=bohr"), "says 'bohr'"),
        (("0.5 4 0", "8 0 0"), "lie in a plane"),
        (("0.5 4 0", "nan 4 0"), "no vectors"),
        (('pbc="T T F"', 'pbc="T T"'), "pbc must be three"),
        (("4 0 0 0.5", "4 0 0"), "9-long numerical vector"),
        (("species:S:1:pos", "species:S:1:place"), "Properties must have species and pos"),
        (("2\n", "two\n"), "line 1: expected a number of atoms"),
        ((PAIR, "\n"), "holds no structure"),
        ((PAIR, ""), "is empty"),
        ((PAIR, "0\n\n"), "no atoms"),
    ],
)
def test_what_is_refused(file, change, said):
    assert change[0] in PAIR
    with pytest.raises(InvalidDataError, match=said) as caught:
        read(file(PAIR.replace(*change, 1)))
    assert "\n" not in str(caught.value)


def test_the_frame_is_named(file):
    with pytest.raises(InvalidDataError, match="frame 1: atom 0"):
        read(file(PAIR + PAIR.replace("0 0 0 1 2 3", "0 nan 0 1 2 3")))


def test_a_missing_or_foreign_file(tmp_path, file):
    with pytest.raises(InvalidDataError, match="no such file"):
        read(tmp_path / "none.extxyz")
    with pytest.raises(InvalidDataError, match="not readable as structures"):
        read(file("nothing of the kind", "s.cif"))


@pytest.mark.parametrize(("share", "whole"), [("1", True), ("0.5", False)])
def test_sites_that_hold_atoms_in_part(file, share, whole):
    lines = [f"_cell_length_{axis} 3.9" for axis in "abc"]
    lines += [f"_cell_angle_{name} 60" for name in ("alpha", "beta", "gamma")]
    lines += ["loop_", "_atom_site_type_symbol", *(f"_atom_site_fract_{a}" for a in "xyz")]
    lines += ["_atom_site_occupancy", "Si 0 0 0 1", f"Si .25 .25 .25 {share}"]
    path = file("data_si\n" + "\n".join(lines) + "\n", "s.cif")
    if whole:
        assert len(read(path)[0]) == 2
    else:
        with pytest.raises(InvalidDataError, match=r"s.cif: site 1 holds 0.5 Si; choose"):
            read(path)


def test_a_cell_of_twice_the_volume(file, tmp_path):
    atoms = bulk("Si", cubic=True)
    atoms.set_cell(atoms.cell * 2 ** (1 / 3))  # the atoms stay: a wrong cell
    ase.io.write(tmp_path / "s.extxyz", atoms)
    said = r'density is 1.17 g/cm³, .* has 2.33.* of a slab in vacuum say pbc="T T F"'
    with pytest.raises(InvalidDataError, match=said):
        read(tmp_path / "s.extxyz")
    assert len(read(tmp_path / "s.extxyz", check=False)) == 1


def test_a_compound_in_far_too_large_a_cell(tmp_path):
    water = Atoms(
        "OH2", [[0, 0, 0], [0, 0.76, 0.59], [0, -0.76, 0.59]], cell=[9] * 3, pbc=True
    )
    ase.io.write(tmp_path / "s.extxyz", water)
    with pytest.raises(InvalidDataError, match="the atoms fill 0.00199 of the cell"):
        read(tmp_path / "s.extxyz")


def test_real_amorphous_silicon():
    path = SILICON / "a-si-512.extxyz"
    if not path.exists():
        pytest.skip("the cell is not at ../shared/data/amorphous-silicon")
    from generative.structures.measures import bond_angles, bond_lengths, coordination, density

    (s,) = read(path)
    assert density(s) == pytest.approx(2.290, abs=1e-3)
    assert coordination(s).mean() == pytest.approx(4.043, abs=5e-4)
    assert (coordination(s) == 4).mean() == pytest.approx(0.957, abs=5e-4)
    assert bond_lengths(s).mean() == pytest.approx(2.377, abs=5e-4)
    assert bond_lengths(s).std() == pytest.approx(0.050, abs=5e-4)
    assert bond_angles(s).mean() == pytest.approx(109.07, abs=5e-3)
    assert bond_angles(s).std() == pytest.approx(11.25, abs=1e-2)
