"""Neighbours against sums over images, against ASE and vesin, and in closed form."""

import itertools

import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list
from numpy.testing import assert_allclose, assert_array_equal

from generative.structures.neighbours import nearest, pairs

TRICLINIC = np.array([[4.0, 0.3, -0.5], [1.7, 3.5, 0.4], [-0.8, 1.1, 5.0]])
FLAT = np.array([[2.0, 0.0, 0.0], [1.9, 0.7, 0.0], [0.3, 0.2, 6.0]])
PERIODIC = list(itertools.product([True, False], repeat=3))


def scattered(count, cell, seed=0, spread=1.0):
    """Return random positions, outside of the cell too if the spread is more than 1."""
    fractions = np.random.default_rng(seed).uniform(-spread / 2, spread / 2, (count, 3))
    return fractions @ np.where(cell.any(), cell, 6 * np.eye(3))


def brute(positions, cell, periodic, cutoff, reach=9):
    """Return the pairs as sorted rows (i, j, shift), by trying every image."""
    ranges = [range(-reach, reach + 1) if p else (0,) for p in periodic]
    shifts = np.array(list(itertools.product(*ranges)))
    between = positions[None, :] - positions[:, None]
    far = np.linalg.norm(between[:, :, None] + shifts @ cell, axis=-1)
    i, j, s = np.nonzero(far <= cutoff)
    other = (i != j) | shifts[s].any(axis=1)
    return rows(i[other], j[other], shifts[s][other])


def rows(i, j, shift):
    found = np.column_stack([i, j, shift])
    return found[np.lexsort(found.T[::-1])]


@pytest.mark.parametrize("periodic", PERIODIC)
@pytest.mark.parametrize("cell", [TRICLINIC, FLAT, 3 * np.eye(3)], ids=["tri", "flat", "cube"])
def test_all_images_in_cells_smaller_than_the_cutoff(cell, periodic):
    x = scattered(4, cell, spread=3.0)
    found = pairs(x, cell, periodic, 5.0)
    assert_array_equal(rows(found.i, found.j, found.shift), brute(x, cell, periodic, 5.0, 12))
    assert_allclose(found.vector, x[found.j] + found.shift @ cell - x[found.i], atol=1e-13)
    assert_allclose(found.distance, np.linalg.norm(found.vector, axis=1), rtol=1e-14)


def test_many_atoms_as_ase_finds_them():
    cell = 4 * TRICLINIC
    x = scattered(150, cell, spread=1.5)
    for periodic in PERIODIC:
        found = pairs(x, cell, periodic, 4.2)
        i, j, shift, distance = neighbor_list("ijSd", Cell(x, cell, periodic), 4.2)
        assert_array_equal(rows(found.i, found.j, found.shift), rows(i, j, shift))
        assert_allclose(np.sort(found.distance), np.sort(distance), rtol=1e-12)


def Cell(x, cell, periodic):  # noqa: N802, an object of ASE
    from ase import Atoms

    return Atoms(positions=x, cell=cell, pbc=periodic, numbers=np.ones(len(x)))


def test_many_atoms_as_vesin_finds_them():
    vesin = pytest.importorskip("vesin", reason="vesin is not installed")
    x = scattered(150, 3 * TRICLINIC, spread=2.0)
    found = pairs(x, 3 * TRICLINIC, [True] * 3, 6.5)
    peer = vesin.NeighborList(cutoff=6.5, full_list=True)
    i, j, shift = peer.compute(x, 3 * TRICLINIC, True, quantities="ijS")
    assert_array_equal(rows(found.i, found.j, found.shift), rows(i, j, shift))


def test_the_list_is_ordered_and_goes_both_ways():
    x = scattered(60, 2 * TRICLINIC)
    found = pairs(x, 2 * TRICLINIC, [True, False, True], 4.0)
    assert (np.diff(found.i) >= 0).all()
    assert_array_equal(np.diff(found.start), np.bincount(found.i, minlength=60))
    assert_array_equal(
        rows(found.i, found.j, found.shift), rows(found.j, found.i, -found.shift)
    )


def test_shells_of_the_fcc_crystal():
    found = pairs([[0, 0, 0]], bulk("Cu", a=2.0).cell.array, [True] * 3, 3.2)
    shells, counts = np.unique(found.distance.round(9), return_counts=True)
    assert_allclose(shells, np.sqrt([2, 4, 6, 8, 10]), atol=1e-8)
    assert counts.tolist() == [12, 6, 24, 12, 24]


def test_a_pair_at_just_the_cutoff_counts():
    x = np.array([[0.0, 0, 0], [2.5, 0, 0]])
    assert len(pairs(x, np.zeros((3, 3)), [False] * 3, 2.5).i) == 2
    found = pairs([[0.1, 0.2, 0.3]], 5 * np.eye(3), [True] * 3, 5.0)
    assert len(found.i) == 6


def test_rounding_cannot_put_an_atom_outside_of_the_cell():
    x = np.array([[-1e-17, 0, 0], [2.0, 0, 0], [4.0 - 1e-16, 0, 0]])
    found = pairs(x, 4 * np.eye(3), [True] * 3, 1.0)
    assert len(found.i) == 2
    assert_allclose(found.distance, 0, atol=1e-15)


@pytest.mark.parametrize("count", [0, 1])
def test_few_atoms_without_a_cell(count):
    x = np.zeros((count, 3))
    assert len(pairs(x, np.zeros((3, 3)), [False] * 3, 5.0).i) == 0


@pytest.mark.parametrize(
    ("cell", "periodic"),
    [
        (np.zeros((3, 3)), [False] * 3),
        (TRICLINIC, [True] * 3),
        (TRICLINIC, [False, True, True]),
    ],
)
def test_the_nearest_are_the_first_of_all_pairs(cell, periodic):
    x = scattered(9, cell, spread=2.0)
    x[0] += 40 * np.array([0.0, 0, 1])  # far from all others where nothing repeats
    vectors, index = nearest(x, cell, periodic, 7)
    every = pairs(x, cell, periodic, 60.0 if not any(periodic) else 12.0)
    for k in range(len(x)):
        mine = slice(every.start[k], every.start[k + 1])
        assert_allclose(
            np.linalg.norm(vectors[k], axis=1), np.sort(every.distance[mine])[:7], rtol=1e-12
        )
        # images at equal distances come in any order
        apart = np.abs(vectors[k][:, None] - every.vector[mine]).max(axis=-1)
        found = apart.argmin(axis=1)
        assert len(set(found)) == 7
        assert apart.min(axis=1).max() < 1e-12
        assert_array_equal(index[k], every.j[mine][found])


def test_the_nearest_reach_over_a_tiny_cell():
    vectors, index = nearest([[0, 0, 0]], bulk("Si", "fcc", a=2.0).cell.array, [True] * 3, 18)
    assert_allclose(np.linalg.norm(vectors[0], axis=1), [2**0.5] * 12 + [2] * 6, rtol=1e-12)
    assert not index.any()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"positions": [[0, 0, np.nan]]}, "atom 0 is at"),
        ({"positions": [0.0, 0, 0]}, r"\(n, 3\)"),
        ({"cell": np.ones((3, 3))}, "lie in a plane"),
        ({"cell": np.zeros((3, 3))}, "are no vectors"),
        ({"cutoff": 0.0}, "cut-off must be positive"),
        ({"cutoff": np.inf}, "cut-off must be positive"),
    ],
)
def test_what_is_refused(wrong, said):
    good = {"positions": np.zeros((1, 3)), "cell": np.eye(3), "periodic": [True] * 3}
    with pytest.raises(ValueError, match=said):
        pairs(**{**good, "cutoff": 1.0, **wrong})


def test_more_neighbours_than_there_are():
    with pytest.raises(ValueError, match="count must be 1 to 2"):
        nearest(np.eye(3), np.zeros((3, 3)), [False] * 3, 3)
