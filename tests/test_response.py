"""The Jacobian taken apart, against the whole of it; and the way across a fold."""

import numpy as np
import pytest
import reference
from geometries import CHARGES, MASSES, apart, bent, box, exact
from numpy.testing import assert_allclose, assert_array_equal

import coulex
from coulex import frames
from coulex.inverse.response import across_fold, response
from coulex.inverse.solve import CONVERGED, solve

ROOT = np.sqrt(MASSES)[:, None]


@pytest.fixture(scope="module")
def events():
    """Return geometries on either side of the fold, turned at random; and their Jacobian."""
    x = frames.rotate(box(1, 300), frames.random_rotations(2, 0, 300))
    return x, whole(x)


def whole(x):
    """Return the mass-weighted Jacobian (n, 9, 9), and momenta."""
    found = coulex.jacobian(x, MASSES, CHARGES)
    k = found.positions / ROOT[:, :, None, None] / ROOT
    return k.reshape(len(x), 9, 9), found.explosions.momenta


def weighted(x, scale):
    x = x - frames.centre_of_mass(x, MASSES)[:, None] if scale is ROOT else x
    return x * scale


def moves(u):
    """Return translations, rotations and the size of (n, 3, 3) weighted vectors, as rows."""
    rows = [np.broadcast_to(ROOT * e, u.shape) for e in np.eye(3)]
    rows += [np.cross(e, u) for e in np.eye(3)] + [u]
    return np.stack(rows, axis=1).reshape(len(u), 7, 9)


def with_translations(k):
    """Add to Jacobians, which do not see translations, the unit matrix of these."""
    t = np.stack([(ROOT * e).ravel() for e in np.eye(3)]) / np.sqrt(MASSES.sum())
    return k + t.T @ t


def test_determinant_is_that_of_the_whole_jacobian(events):
    x, (k, p) = events
    found = response(x, MASSES, CHARGES)
    sign, log = np.linalg.slogdet(with_translations(k))
    assert np.abs(found.momenta - p).max() < 1e-8 * np.abs(p).max()
    assert {-1.0, 1.0} == set(sign)
    assert_array_equal(found.sign, sign)
    # derivatives are known to 1e-8, and the determinant by the condition number
    assert np.abs(found.log_determinant - log).max() < 1e-7 * found.condition.max()


def test_singular_values_are_those_of_the_shape(events):
    x, (k, p) = events
    found = response(x, MASSES, CHARGES)
    u, v = weighted(x, ROOT), p / ROOT
    for n in range(len(x)):
        free = [np.linalg.svd(moves(a[n : n + 1])[0])[2][7:] for a in (u, v)]
        shape = free[1] @ k[n] @ free[0].T * np.linalg.norm(u[n]) / np.linalg.norm(v[n])
        values = np.linalg.svd(shape, compute_uv=False)
        assert_allclose(found.singular_values[n, :2], values, rtol=0, atol=1e-7 * values[0])
    assert_array_equal(found.unknowns, 2)
    assert_allclose(found.condition * found.least, found.singular_values[:, 0])


def test_weakest_change_moves_the_momenta_least(events):
    x, (k, p) = events
    found = response(x, MASSES, CHARGES)
    u = weighted(x, ROOT)
    size, speed = np.linalg.norm(u, axis=(1, 2)), np.linalg.norm(p / ROOT, axis=(1, 2))
    w = found.weakest * ROOT
    assert_allclose(np.linalg.norm(w, axis=(1, 2)), size)
    along = np.einsum("nka,na->nk", moves(u), w.reshape(-1, 9))
    assert np.abs(along).max() < 1e-9 * size.max() ** 2
    change = np.einsum("nij,nj->ni", k, w.reshape(-1, 9)) / speed[:, None]
    along = np.einsum("ni,ni->n", change, found.answer)
    assert_allclose(along, found.least, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("off", [0.0, 1e-12, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5])
def test_ions_near_a_line_are_no_special_case(off):
    # one rotation disappears, one bend appears: determinant and condition number go on
    line = bent([1.2, 2.0, 2.5], [1.5, 1.1, 0.9], 180.0)
    line[:, :, 1] = 0.0
    x = frames.rotate(line + 0, frames.random_rotations(3, 0, 3))
    across = np.array([0.7, -1.0, 0.4]) * off
    x += across[:, None] * frames.rotate(
        np.tile([[0.0, 1.0, 0.0]], (3, 1, 1)), frames.random_rotations(3, 0, 3)
    )
    on, found = response(line, MASSES, CHARGES), response(x, MASSES, CHARGES)
    assert_array_equal(on.unknowns, 3)
    assert_array_equal(found.sign, on.sign)
    # of second order in the bend, but that differences of rotations are small
    assert_allclose(found.log_determinant, on.log_determinant, rtol=0, atol=1e-6)
    assert_allclose(found.condition, on.condition, rtol=1e-5)
    k, _ = whole(line)
    sign, log = np.linalg.slogdet(with_translations(k))
    assert_array_equal(on.sign, sign)
    assert_allclose(on.log_determinant, log, atol=1e-6)


def test_two_ions_have_no_shape():
    x = np.array([[[0.0, 0, 0], [1.0, 2, 2]]])
    found = response(x, [2000.0, 3000.0], [1.0, 2.0])
    assert_array_equal(found.unknowns, 0)
    assert_array_equal(found.condition, 1)
    # p = sqrt(2 mu q1 q2 / r): dp/dr = -p/2r, and p/r across, in mass-weighted coordinates
    p, r, mu = np.linalg.norm(found.momenta[0, 0]), 3.0, 1200.0
    assert_allclose(found.log_determinant, np.log((p / (mu * r)) ** 3 / 2))
    assert_array_equal(found.sign, -1)


@pytest.mark.parametrize("degrees", [161.0, 161.8, 162.2, 162.6])
def test_the_twin_lies_across_the_fold(degrees):
    # with equilibrium bonds of OCS the fold lies at 162 degrees
    x = bent(1.1562, 1.5614, degrees)
    x -= frames.centre_of_mass(x, MASSES)[:, None]
    found = response(x, MASSES, CHARGES)
    s = 2 * across_fold(found, x, MASSES, CHARGES)[:, None, None]
    predicted = x + s * found.weakest
    roots = solve(predicted, exact(x), MASSES, CHARGES)
    assert_array_equal(roots.outcome, CONVERGED)
    distance = apart(roots.positions, x)
    assert distance > 0.01
    # the next order of a parabola: the distance in units of the size, times numbers of 1 to 10
    predicted *= potential(predicted) / potential(x)  # a fold says nothing of the size
    assert apart(roots.positions, predicted) < min(0.5, 10 * np.abs(s).max()) * distance
    other = response(roots.positions, MASSES, CHARGES)
    assert_array_equal(other.sign, -found.sign)


def potential(x):
    return reference.potential(x[0], CHARGES)


def test_no_events():
    nothing = np.empty((0, 3, 3))
    found = response(nothing, MASSES, CHARGES)
    assert found.singular_values.shape == (0, 3)
    assert found.condition.shape == (0,)
    assert across_fold(found, nothing, MASSES, CHARGES).shape == (0,)
