"""Gram matrices and rotations between environments: closed forms, laws, and edge cases."""

import numpy as np
import pytest
import torch
from surroundings import clusters, turned

from generative.gram.gram import (
    Normaliser,
    factor,
    from_upper,
    gram,
    handedness,
    rank3,
    spectrum,
    upper,
)
from generative.gram.synchronise import align, procrustes_loss, rmsd

EXACT = 1e-12  #: of numbers of order 1 to 100 in double precision

#: environments without a unique orientation: on a plane, a line, at a point, and one atom
DEGENERATE = {
    "planar": np.array([[1.0, 0, 0], [0, 2, 0], [1, 1, 0], [-2, 1, 0]]),
    "collinear": np.array([[1.0, 2, 3], [2, 4, 6], [-1, -2, -3], [0.5, 1, 1.5]]),
    "point": np.zeros((4, 3)),
    "equal": np.ones((4, 3)),
}


def both(array):
    return (array, torch.from_numpy(array))


def test_gram_of_a_tetrahedron_in_closed_form():
    corners = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    expected = 4 * np.eye(4) - np.ones((4, 4))
    for x in both(corners):
        assert np.abs(np.asarray(gram(x)) - expected).max() == 0
        assert np.allclose(np.asarray(spectrum(gram(x))), [4, 4, 4, 0], rtol=0, atol=EXACT)


def test_gram_is_the_same_after_rotations_and_reflections():
    x = clusters(50)
    y, _ = turned(x)
    assert np.abs(gram(y) - gram(x)).max() < EXACT * 10


def test_triangle_and_back():
    g = gram(clusters(3))
    for matrix in both(g):
        entries = upper(matrix)
        assert entries.shape == (3, 36)
        assert np.array_equal(np.asarray(from_upper(entries)), g)
    assert np.array_equal(upper(g)[0, :3], g[0, 0, :3])
    with pytest.raises(ValueError, match="got 35"):
        from_upper(np.zeros(35))


@pytest.mark.parametrize("x", [*DEGENERATE.values(), clusters(1)[0]])
def test_positions_come_back_from_gram(x):
    for g in both(gram(x)):
        y = np.asarray(factor(g))
        assert y.shape == x.shape
        assert np.abs(gram(y) - gram(x)).max() < EXACT * 30
        assert rmsd(x, y) < 1e-6  # a root of rounding where G is singular


def test_generic_positions_come_back_exactly_with_their_handedness():
    x, _ = turned(clusters(200))
    for proper, hand in ((False, None), (True, handedness(x))):
        y = factor(gram(x), hand)
        assert rmsd(x, y, proper=proper).max() < EXACT


def test_handedness_is_that_of_the_mirror_image_reversed():
    x = clusters(100)
    y, q = turned(x)
    for a, b in zip(both(x), both(y), strict=True):
        before, after = np.asarray(handedness(a)), np.asarray(handedness(b))
        assert set(before) == {-1.0, 1.0}
        assert np.array_equal(after, before * np.sign(np.linalg.det(q)))
    assert handedness(DEGENERATE["planar"]) == 1


def test_nearest_matrix_of_atoms_by_eckart_and_young():
    rng = np.random.default_rng(1)
    g = rng.normal(size=(20, 8, 8))
    g = g + np.swapaxes(g, 1, 2)
    for matrix in both(g):
        near = np.asarray(rank3(matrix))
        for one, given in zip(near, g, strict=True):
            values = np.linalg.eigvalsh(given)
            left_over = np.concatenate([values[:-3], np.minimum(values[-3:], 0)])
            assert np.linalg.norm(one - given) == pytest.approx(np.linalg.norm(left_over))
            assert np.linalg.matrix_rank(one, tol=1e-9) <= 3
            assert np.linalg.eigvalsh(one).min() > -1e-12


def test_normaliser_has_four_numbers():
    entries = upper(torch.from_numpy(gram(clusters(500))))
    normaliser = Normaliser(8).double()
    normaliser.learn(entries)
    scaled = normaliser.scale(entries)
    diagonal = torch.eye(8)[torch.triu_indices(8, 8).unbind()] == 1
    for part in (scaled[:, diagonal], scaled[:, ~diagonal]):
        assert abs(float(part.mean())) < EXACT
        assert abs(float(part.std(correction=0)) - 1) < EXACT
    assert (normaliser.unscale(scaled) - entries).abs().max() < EXACT
    assert sum(t.numel() for t in normaliser.state_dict().values()) == 4


@pytest.mark.parametrize("proper", [False, True])
def test_rotation_is_recovered(proper):
    x = clusters(100)
    y, q = turned(x, mirror=not proper)
    for a, b in zip(both(x), both(y), strict=True):
        found = np.asarray(align(b, a, proper=proper))
        assert np.abs(found - q).max() < EXACT


def test_a_mirror_image_needs_a_reflection():
    x = clusters(50)
    image = x * [1.0, 1, -1]
    assert rmsd(x, image).max() < EXACT
    assert rmsd(x, image, proper=True).min() > 0.1
    assert np.linalg.det(align(x, image, proper=True)) == pytest.approx(1)


@pytest.mark.parametrize("proper", [False, True])
def test_no_rotation_is_better_than_the_found_one(proper):
    x, y = clusters(1, seed=1)[0], clusters(1, seed=2)[0]
    others, _ = turned(np.tile(np.eye(3), (2000, 1, 1)), mirror=not proper)
    best = ((x - y @ align(x, y, proper=proper)) ** 2).sum()
    assert best <= ((x - y @ others) ** 2).sum((1, 2)).min()


@pytest.mark.parametrize("proper", [False, True])
@pytest.mark.parametrize("x", DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_environments_have_some_rotation(x, proper):
    y, _ = turned(np.stack([x, x]), mirror=not proper)
    for a, b in zip(both(np.stack([x, x])), both(y), strict=True):
        q = np.asarray(align(a, b, proper=proper))
        assert np.abs(q @ np.swapaxes(q, 1, 2) - np.eye(3)).max() < EXACT
        if proper:
            assert np.allclose(np.linalg.det(q), 1)
        assert np.abs(np.asarray(b) @ q - x).max() < EXACT * 10


def test_weights_count_atoms():
    """An atom of weight 2 is two atoms, and one of weight 0 is none."""
    x, y = clusters(5, seed=1), clusters(5, seed=2)
    weights = np.tile([2.0, 1, 1, 1, 1, 1, 1, 0], (5, 1))
    rows = [0, 0, 1, 2, 3, 4, 5, 6]
    q = align(x[:, rows], y[:, rows])
    assert np.abs(align(x, y, weights=weights) - q).max() < EXACT
    loss = procrustes_loss(*map(torch.from_numpy, (x, y)), weights=torch.from_numpy(weights))
    assert np.allclose(loss, ((x - y @ q)[:, rows] ** 2).sum((1, 2)), rtol=EXACT)


@pytest.mark.parametrize("proper", [False, True])
def test_gradient_with_detached_rotation_is_the_whole_gradient(proper):
    """Against autograd through the decomposition, and against finite differences."""
    x, y = (torch.from_numpy(clusters(20, seed=s)) for s in (3, 4))
    y.requires_grad_()
    (detached,) = torch.autograd.grad(procrustes_loss(x, y, proper=proper).sum(), y)

    def whole(y):
        u, _, vh = torch.linalg.svd(y.mT @ x)
        sign = torch.ones(len(y), 3, dtype=y.dtype)
        if proper:
            sign[:, 2] = (torch.linalg.det(u) * torch.linalg.det(vh)).detach().round()
        return ((x - y @ (u * sign[:, None]) @ vh) ** 2).sum()

    (full,) = torch.autograd.grad(whole(y), y)
    assert (detached - full).abs().max() < 1e-9  # backward of an SVD divides by small gaps
    step = torch.zeros_like(y)
    step[:, 2, 1] = 1e-5
    with torch.no_grad():
        low, high = (procrustes_loss(x, y + s * step, proper=proper) for s in (-1, 1))
    assert ((high - low) / 2e-5 - detached[:, 2, 1]).abs().max() < 1e-7
