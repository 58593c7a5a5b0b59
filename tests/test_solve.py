"""Levenberg-Marquardt: against scipy's, against other explosions, and by what is the same."""

import numpy as np
import pytest
from geometries import CHARGES, MASSES, apart, bent, box, exact, inertial
from numpy.testing import assert_array_equal
from scipy.optimize import least_squares

from coulex import frames
from coulex.inverse import solve as module
from coulex.inverse.solve import CONVERGED, KNOWN, STATIONARY, Known, solve
from coulex.inverse.table import table_of

ROOT = np.sqrt(MASSES)[:, None]


@pytest.fixture(scope="module")
def events():
    """Return geometries away from folds, their momenta, and starts 0.1 bohr off."""
    x = frames.rotate(box(1, 200, (95.0, 145.0)), frames.random_rotations(2, 0, 200))
    return x, exact(x), x + 0.1 * np.random.default_rng(3).normal(size=x.shape)


@pytest.fixture(scope="module")
def roots(events):
    _, p, starts = events
    return solve(starts, p, MASSES, CHARGES)


def relative(p, wanted):
    return np.linalg.norm(p - wanted, axis=(1, 2)) / np.linalg.norm(wanted, axis=(1, 2))


def test_roots_are_where_scipy_finds_them(events, roots):
    _, momenta, starts = events
    for n in range(10):
        wanted = momenta[n : n + 1] / ROOT

        def residual(flat, wanted=wanted):
            p = exact(flat.reshape(1, 3, 3)) / ROOT
            back, _ = frames.kabsch(p, wanted)  # sums are zero: centring does nothing
            return (frames.rotate(p, back) - wanted).ravel() / np.linalg.norm(wanted)

        slow = least_squares(residual, starts[n].ravel(), xtol=1e-14, ftol=1e-14, gtol=1e-14)
        assert np.linalg.norm(slow.fun) < 1e-9
        assert apart(roots.positions[n : n + 1], slow.x.reshape(1, 3, 3)) < 1e-6


def test_starts_near_the_truth_lead_to_it(events, roots):
    x, _, _ = events
    assert_array_equal(roots.outcome, CONVERGED)
    error = apart(roots.positions, x)
    assert (error < 1e-8).mean() > 0.95  # some others have a second root as near


def test_residuals_are_those_of_another_explosion(events, roots):
    _, p, _ = events
    again = relative(exact(roots.positions), p)
    # each simulation has an error of 1e-13; those of positions of 1e-16 add to it
    assert np.abs(again - roots.residual).max() < 1e-12
    assert roots.residual.max() < 1e-11
    centre = frames.centre_of_mass(roots.positions, MASSES)
    assert np.abs(centre).max() < 1e-13 * np.abs(roots.positions).max()


def test_place_orientation_and_size_of_a_start_do_not_matter(events, roots):
    _, p, starts = events
    moved = frames.rotate(starts, frames.random_rotations(4, 0, len(starts)))
    moved = 7.3 * moved + [10.0, -20.0, 5.0]
    again = solve(moved, p, MASSES, CHARGES)
    assert_array_equal(again.outcome, roots.outcome)
    assert apart(again.positions, roots.positions).max() < 1e-8


def test_threads_and_blocks_do_not_matter(events, roots, monkeypatch):
    _, p, starts = events
    for threads, block in ((1, 2048), (3, 2048), (2, 16)):
        monkeypatch.setattr(module, "_BLOCK", block)
        again = solve(starts, p, MASSES, CHARGES, threads=threads)
        for name in ("positions", "residual", "outcome", "rounds"):
            assert_array_equal(getattr(again, name), getattr(roots, name))


@pytest.mark.slow  # a kernel of its own
def test_charges_of_each_event_are_their_own(events, roots):
    _, p, starts = events
    factor = np.array([1.0, 2.0, 0.5])[np.arange(len(p)) % 3, None]
    again = solve(starts, p * factor[:, :, None], MASSES, CHARGES * factor)
    assert_array_equal(again.outcome, CONVERGED)
    assert apart(again.positions, roots.positions).max() < 1e-8


def test_momenta_without_a_geometry_end_at_a_minimum():
    p = inertial(5, 200, MASSES)
    p = p[table_of(MASSES, CHARGES).count(p) == 0]
    assert len(p) > 20
    roots = solve(np.tile(bent(1.2, 1.6, 120.0), (len(p), 1, 1)), p, MASSES, CHARGES)
    assert not (roots.outcome == CONVERGED).any()
    assert (roots.outcome == STATIONARY).mean() > 0.5  # others run away to a collision
    assert not (roots.residual <= 1e-9).any()


def test_starts_without_a_size_are_stuck_and_harm_nobody(events, roots):
    _, p, starts = events
    starts = starts.copy()
    starts[3] = 0.0
    starts[5, 1] = starts[5, 0]
    again = solve(starts, p, MASSES, CHARGES)
    others = np.delete(np.arange(len(p)), [3, 5])
    assert not (again.outcome[[3, 5]] == CONVERGED).any()
    assert np.isinf(again.residual[[3, 5]]).all()
    assert np.isnan(again.positions[[3, 5]]).all()
    assert_array_equal(again.positions[others], roots.positions[others])


def test_known_solutions_stop_starts_that_lead_there(events, roots):
    _, p, starts = events
    every = np.arange(len(p))
    near = np.full(len(p), 2e-3)
    known = Known(every, near, (every % 2), every[:, None], roots.positions)
    again = solve(starts, p, MASSES, CHARGES, known=known)
    assert_array_equal(again.outcome[1::2], KNOWN)
    assert_array_equal(again.positions[::2], roots.positions[::2])
    assert (again.rounds[1::2] < roots.rounds[1::2]).all()


def test_no_starts():
    roots = solve(np.empty((0, 3, 3)), np.empty((0, 3, 3)), MASSES, CHARGES)
    assert roots.positions.shape == (0, 3, 3)
    assert roots.outcome.shape == (0,)
