"""RDFs of crystals and of atoms that know nothing of each other; bonds, angles, densities."""

import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list
from numpy.testing import assert_allclose, assert_array_equal

from generative.structures import Structure
from generative.structures.measures import (
    bond_angles,
    bond_cutoff,
    bond_lengths,
    close_pairs,
    coordination,
    density,
)
from generative.structures.rdf import err_rdf, rdf, rdf_rmse

TRICLINIC = np.array([[4.0, 0.3, -0.5], [1.7, 3.5, 0.4], [-0.8, 1.1, 5.0]])


def of_ase(atoms):
    return Structure(
        positions=atoms.positions,
        cell=atoms.cell.array,
        periodic=atoms.pbc,
        numbers=atoms.numbers,
    )


DIAMOND = of_ase(bulk("Si", "diamond", a=5.431, cubic=True).repeat(2))
SALT = of_ase(bulk("NaCl", "rocksalt", a=5.64, cubic=True))


def test_shells_of_diamond():
    width, n = 0.1, len(DIAMOND)
    r, g = rdf([DIAMOND], 5.35, width)
    edges = r - width / 2
    shells = 5.431 * np.array([3**0.5 / 4, 2**-0.5, 11**0.5 / 4])
    volume = 4 / 3 * np.pi * ((edges + width) ** 3 - edges**3)
    atoms = g * volume * (n - 1) / DIAMOND.volume
    places = np.floor(shells / width).astype(int)
    assert_allclose(atoms[places], [4, 12, 12], rtol=1e-12)
    assert_allclose(atoms.sum(), 28, rtol=1e-12)


def test_images_beyond_half_the_cell_as_ase_counts_them():
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 2, (5, 3)) @ TRICLINIC
    s = Structure(positions=x, cell=TRICLINIC, periodic=[True] * 3, numbers=np.ones(5))
    _, g = rdf([s], 9.0, 0.5)
    from ase import Atoms

    d = neighbor_list("d", Atoms("H5", x, cell=TRICLINIC, pbc=True), 9.0)
    counts, edges = np.histogram(d, 18, (0, 9.0))
    volume = 4 / 3 * np.pi * np.diff(edges**3)
    assert_allclose(g, counts * s.volume / (5 * 4 * volume), rtol=1e-12)


def test_atoms_that_know_nothing_of_each_other():
    """Four of them, where N (N - 1) and N² differ by a third."""
    frames = np.random.default_rng(2).uniform(size=(20_000, 4, 3)) @ (2 * TRICLINIC)
    edges = np.linspace(0, 3.5, 8)
    _, g = rdf(frames, 3.5, 0.5, cell=2 * TRICLINIC)
    share = 4 / 3 * np.pi * np.diff(edges**3) / abs(np.linalg.det(2 * TRICLINIC))
    pairs = 20_000 * 6 * share
    assert (np.abs(g - 1) < 4 / np.sqrt(pairs)).all()


def test_frames_and_structures_give_the_same():
    frames = np.random.default_rng(3).uniform(0, 4, (3, 6, 3))
    cell = 4 * np.eye(3)
    kind = {"cell": cell, "periodic": [True] * 3, "numbers": np.ones(6)}
    structures = [Structure(positions=x, **kind) for x in frames]
    assert_array_equal(rdf(structures, 5, 0.1)[1], rdf(frames, 5, 0.1, cell=cell)[1])


def test_the_rdf_of_clusters_is_the_density_of_distances():
    x = np.random.default_rng(4).normal(size=(2, 7, 3))
    i, j = np.triu_indices(7, 1)
    d = np.linalg.norm(x[:, i] - x[:, j], axis=-1).ravel()
    r, g = rdf(x, 10.0, 0.25)
    assert_allclose(g, np.histogram(d, 40, (0, 10), density=True)[0], rtol=1e-12)
    assert_allclose(g.sum() * 0.25, 1, rtol=1e-12)
    assert rdf(x, d.max() / 2, 0.25)[1] == pytest.approx(g[: int(d.max() / 2 / 0.25)])


def test_differences_of_rdfs():
    g, true = np.array([1.0, 2, 3]), np.array([0.0, 0, 0])
    assert err_rdf(g, true) == pytest.approx(1 + 4 / 2 + 9 / 3)
    assert rdf_rmse(g, true) == pytest.approx((14 / 3) ** 0.5)
    with pytest.raises(ValueError, match="same shells"):
        err_rdf(g, true[:2])


def test_what_has_no_rdf():
    one = Structure(positions=np.zeros((1, 3)), numbers=[14])
    with pytest.raises(ValueError, match="no structure has two atoms"):
        rdf([one], 5, 0.1)
    with pytest.raises(ValueError, match="periodic structures or of clusters"):
        rdf([one, DIAMOND], 5, 0.1)
    slab = Structure(
        positions=np.zeros((2, 3)),
        numbers=[1, 1],
        periodic=[True, True, False],
        cell=np.eye(3),
    )
    with pytest.raises(ValueError, match="3 periodic directions or none, got 2"):
        rdf([slab], 5, 0.1)
    for r_max, width in ((np.inf, 0.1), (1.0, 2.0), (1.0, 0.0)):
        with pytest.raises(ValueError, match="0 < width <= r_max"):
            rdf([DIAMOND], r_max, width)


def test_diamond_measured():
    assert_allclose(bond_lengths(DIAMOND), np.full(128, 5.431 * 3**0.5 / 4), rtol=1e-12)
    tetrahedral = np.degrees(np.arccos(-1 / 3))
    assert_allclose(bond_angles(DIAMOND), np.full(64 * 6, tetrahedral), rtol=1e-12)
    assert coordination(DIAMOND).tolist() == [4] * 64
    # 8 atoms of 28.085 u in (5.431 Å)³
    assert density(DIAMOND) == pytest.approx(8 * 28.085 * 1.66053906660 / 5.431**3, rel=1e-9)


def test_bonds_to_own_images_count_once():
    chain = Structure(
        positions=[[0.0, 0, 0]],
        cell=np.diag([1.0, 0, 0]),
        periodic=[True, False, False],
        numbers=[1],
    )
    assert bond_lengths(chain, 1.1).tolist() == [1.0]
    assert bond_angles(chain, 1.1).tolist() == [180.0]
    assert coordination(chain, 1.1).tolist() == [2]


def test_the_cutoff_of_bonds():
    assert bond_cutoff([DIAMOND]) == 2.85
    assert 2.82 < bond_cutoff([SALT]) < 3.99
    assert coordination(SALT, bond_cutoff([SALT])).tolist() == [6] * 8


def test_close_pairs():
    x = np.array([[0.0, 0, 0], [1.0, 0, 0], [9.5, 0, 0]])
    cluster = Structure(positions=x, numbers=[1, 1, 1])
    assert close_pairs([cluster], 2.0) == pytest.approx(1 / 3)
    cell = {"cell": 10 * np.eye(3), "periodic": [True] * 3}
    periodic = Structure(positions=x, numbers=[1, 1, 1], **cell)
    assert close_pairs([periodic], 2.0) == 1
    assert close_pairs([cluster, periodic], 2.0) == pytest.approx(2 / 3)
    assert close_pairs([periodic], 1.0) == pytest.approx(1 / 3)
