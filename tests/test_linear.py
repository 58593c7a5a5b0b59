"""Small linear algebra against numpy, also on matrices that are special."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from coulex import frames
from coulex.linear import (
    best_rotation,
    complement,
    orthonormalize,
    put_together,
    rest_of_space,
    solve_positive,
    split,
)

MIRROR = np.diag([1.0, 1.0, -1.0])


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def orthonormal(vectors, images=None):
    rows = np.array(vectors, float)
    images = np.zeros((*rows.shape[:2], 0)) if images is None else np.array(images, float)
    ranks = np.empty(len(rows), np.int64)
    orthonormalize(rows, images, ranks)
    return rows, images, ranks


def test_orthonormal_rows_span_what_the_vectors_span(rng):
    a = rng.normal(size=(20, 4, 9))
    q, _, ranks = orthonormal(a)
    assert_array_equal(ranks, 4)
    for rows, vectors in zip(q, a, strict=True):
        assert_allclose(rows @ rows.T, np.eye(4), atol=1e-14)
        assert_allclose(vectors @ rows.T @ rows, vectors, atol=1e-13)
        assert_allclose(np.tril(rows @ vectors.T, -1), 0, atol=1e-13)  # one after the other


def test_images_go_along(rng):
    a, map_ = rng.normal(size=(5, 4, 9)), rng.normal(size=(9, 6))
    q, images, _ = orthonormal(a, a @ map_)
    assert_allclose(images, q @ map_, atol=1e-12)


def test_what_depends_on_others_is_dropped(rng):
    a = rng.normal(size=(1, 5, 9))
    a[0, 1], a[0, 3] = 2 * a[0, 0], a[0, 0] - a[0, 2]
    q, images, ranks = orthonormal(a, a)
    independent, _, _ = orthonormal(a[:, [0, 2, 4]])
    assert_array_equal(ranks, np.linalg.matrix_rank(a[0]))
    assert_allclose(q[:, :3], independent, atol=1e-13)
    assert_allclose(images[:, :3], independent, atol=1e-13)
    assert not q[0, 3:].any()
    assert not images[0, 3:].any()


def test_vectors_that_are_nearly_alike_are_orthogonal_to_rounding(rng):
    a = rng.normal(size=(1, 1, 9)) + 1e-5 * rng.normal(size=(1, 3, 9))
    q, _, ranks = orthonormal(a)
    assert_array_equal(ranks, 3)
    assert_allclose(q[0] @ q[0].T, np.eye(3), atol=1e-15 / 1e-5)


def test_the_complement_is_the_rest_of_the_space(rng):
    known, _, _ = orthonormal(rng.normal(size=(20, 7, 9)))
    known[10:, 6:] = 0.0  # of lower rank
    for part, rest in ((known[:10], 2), (known[10:], 3)):
        out = np.empty((10, rest, 9))
        complement(part, out)
        for rows, others in zip(out, part, strict=True):
            whole = np.concatenate([rows, others[: 9 - rest]])
            assert_allclose(whole @ whole.T, np.eye(9), atol=1e-13)


def test_many_matrices_abreast(rng):
    # more events than stand side by side, and not a multiple; some rows depend on others
    given, count = rng.normal(size=(4, 9, 70)), 70
    dependent = np.arange(count) % 3 == 1
    given[2][:, dependent] = given[0][:, dependent] - 2.0 * given[1][:, dependent]
    basis, lower = np.empty_like(given), np.empty((4, 4, count))
    ranks = np.empty(count, np.int64)
    split(given, basis, lower, ranks)
    assert_array_equal(ranks, np.where(dependent, 3, 4))
    assert_allclose(np.einsum("kjn,jin->kin", lower, basis), given, atol=1e-13)
    assert_array_equal(basis[2][:, dependent], 0.0)

    true = rng.normal(size=(count, 6, 9))
    for rank in (3, 4):
        chosen = ranks == rank
        known, factors = (np.ascontiguousarray(a[:, :, chosen]) for a in (basis, lower))
        rest = np.empty((9 - rank, 9, chosen.sum()))
        rest_of_space(known, rest)
        rows = np.concatenate([known, rest]).transpose(2, 0, 1)
        whole = rows.transpose(0, 2, 1) @ rows  # the rows are a basis of all of the space
        assert_allclose(whole, np.tile(np.eye(9), (len(rows), 1, 1)), atol=1e-13)
        images = np.einsum("nai,kin->kan", true[chosen], given[:, :, chosen])
        changes = np.einsum("nai,kin->nka", true[chosen], rest)
        units = rng.uniform(1.0, 2.0, (9, chosen.sum()))
        found, places = np.full_like(true, np.nan), np.flatnonzero(chosen)
        put_together(images, factors, known, changes, rest, units, places, found)
        assert_allclose(found[chosen] * units.T[:, None], true[chosen], atol=1e-11)
        assert np.isnan(found[~chosen]).all()


def test_positive_matrices_are_solved(rng):
    for size in (1, 2, 5, 8):
        a = rng.normal(size=(size, size))
        a = a @ a.T + np.eye(size)
        b = rng.normal(size=size)
        x = b.copy()
        assert solve_positive(a.copy(), x)
        # the condition number of these is below 100
        assert_allclose(x, np.linalg.solve(a, b), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    "matrix",
    [np.zeros((2, 2)), np.diag([1.0, -1.0]), np.ones((2, 2)), np.full((2, 2), np.nan)],
    ids=["zero", "indefinite", "singular", "not a number"],
)
def test_other_matrices_are_refused(matrix):
    assert not solve_positive(matrix.copy(), np.ones(2))


def turned(moving, fixed):
    r = np.empty((3, 3))
    best_rotation(moving, fixed, r)
    assert_allclose(r @ r.T, np.eye(3), atol=3e-15)
    assert np.linalg.det(r) > 0
    return r


def misfit(moving, fixed, rotation):
    return np.linalg.norm(moving @ rotation.T - fixed)


@pytest.mark.parametrize("kind", ["any", "planar", "mirrored", "two", "noisy"])
def test_the_best_rotation_is_that_of_kabsch(rng, kind):
    for _ in range(30):
        a, b = rng.normal(size=(2, 5, 3))
        if kind == "planar":
            a[:, 2] = 0.0
        elif kind == "mirrored":
            b = a @ MIRROR
        elif kind == "two":
            a, b = a[:2], b[:2]
        elif kind == "noisy":
            b = frames.rotate(a[None], frames.random_rotations(1, 0, 1))[0]
            b += 1e-6 * rng.normal(size=a.shape)
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        best, _ = frames.kabsch(a[None], b[None])
        assert misfit(a, b, turned(a, b)) < misfit(a, b, best[0]) + 1e-14
        if kind in ("any", "planar", "noisy"):  # where there is one best rotation
            assert_allclose(turned(a, b), best[0], atol=1e-9)


@pytest.mark.parametrize("off", [0.0, 1e-12, 1e-9, 1e-8, 1e-7, 1e-5, 1e-3])
def test_near_a_line_the_rotation_is_known_to_rounding(rng, off):
    # an eigenvector alone leaves the angle about the line open up to off**2 = 1e-16
    a = np.array([[-2.0, 0, 0], [0.3, 0, 0], [1.9, 0, 0]])
    a[:, 1:] += off * rng.normal(size=(3, 2))
    b = frames.rotate(np.tile(a, (20, 1, 1)), frames.random_rotations(2, 0, 20))
    for fixed in b:
        assert misfit(a, fixed, turned(a, fixed)) < 1e-14


def test_without_a_size_nothing_turns():
    assert_array_equal(turned(np.zeros((3, 3)), np.ones((3, 3))), np.eye(3))
    assert_array_equal(turned(np.zeros((3, 3)), np.zeros((3, 3))), np.eye(3))
