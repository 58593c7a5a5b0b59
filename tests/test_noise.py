"""Geometries of noisy momenta: coverage, covariance, and where the linear theory says no."""

import numpy as np
import pytest
from oracle import bent

from coulex import Box, Gaussian, Molecule, invert, simulate
from coulex.geometry import coordinates
from coulex.inverse import estimate
from coulex.inverse.noise import _gaussian, excess, spread, without_sum
from coulex.inverse.solutions import (
    LINEAR,
    MOMENTUM_SUM,
    NEAR_FOLD,
    NEAR_STRAIGHT,
    NEAREST,
    NO_ESTIMATE,
    NO_GEOMETRY,
    NO_MOMENTA,
    UNSETTLED,
)
from coulex.units import ANGSTROM

OCS = Molecule.named("OCS").with_charges({"O": 2, "C": 2, "S": 2})
MASSES, CHARGES = OCS.ion_masses, OCS.charges
#: far from the fold, which crosses 150 to 170 degrees
BENT = Molecule.of("OCS", bent(1.1562, 1.5614, 125)).with_charges({"O": 2, "C": 2, "S": 2})
PRIOR = Gaussian(sigma=0.1 * ANGSTROM), BENT


def noisy(positions, noise, seed):
    p = simulate(positions, MASSES, CHARGES, tolerance=1e-13).momenta
    size = np.linalg.norm(p, axis=2, keepdims=True)
    return p + noise * size * np.random.default_rng(seed).standard_normal(p.shape)


def values_of(positions):
    shape = coordinates("OCS", central=1)
    return np.stack([c.values(positions) for c in shape], axis=1)


def test_the_sum_goes_where_the_noise_is():
    p = np.random.default_rng(1).normal(size=(50, 3, 3))
    near = without_sum(p, 0.02)
    sigma = spread(p, 0.02)[:, :, None]
    assert np.abs(near.sum(axis=1)).max() < 1e-14
    # of all momenta without a sum none is nearer: the way there is the gradient of the sum
    assert np.ptp((p - near) / sigma**2, axis=1) == pytest.approx(0, abs=1e-9)
    assert without_sum(near, 0.02) == pytest.approx(near, abs=1e-14)


def test_the_sum_of_noise_is_in_units_of_the_noise():
    p = noisy(np.tile(BENT.positions, (4000, 1, 1)), 0.01, 2)
    # a vector of three standard normal numbers: mean square 3, with variance 6
    assert (excess(p, 0.01) ** 2).mean() == pytest.approx(3, abs=3 * np.sqrt(6 / 4000) + 0.01)


def test_with_the_true_prior_the_intervals_cover():
    count = 2000
    x, _ = PRIOR[0].sample(BENT, seed=2, first=0, count=count)
    found = estimate(noisy(x, 0.01, 3), MASSES, CHARGES, noise=0.01, prior=PRIOR).estimate
    assert found is not None
    assert found.linear.mean() > 0.99
    assert [c.label for c in found.coordinates] == ["CO", "CS", "OCS"]
    z = (found.values - values_of(x)) / found.deviations
    for inside, probability in ((1.0, 0.6827), (1.96, 0.95)):
        share = (np.abs(z) < inside).mean(axis=0)
        # three standard deviations of a binomial, and as much for three coordinates at once
        error = np.sqrt(probability * (1 - probability) / count)
        assert np.abs(share - probability).max() < 4 * error, (probability, share)
    assert found.values == pytest.approx(values_of(found.positions))
    # the prior narrows what the momenta leave open
    alone = estimate(noisy(x, 0.01, 3)[:50], MASSES, CHARGES, noise=0.01).estimate
    same = np.abs(alone.values - found.values[:50]).max(axis=1) < 0.5
    assert (found.deviations[:50][same] <= alone.deviations[same]).all()


def test_without_a_prior_an_estimate_is_a_solution_with_its_linear_errors():
    p = noisy(np.tile(BENT.positions, (500, 1, 1)), 1e-3, 4)
    said = estimate(p, MASSES, CHARGES, noise=1e-3, symbols="OCS")
    found = said.estimate
    assert np.array_equal(found.positions, said.positions)
    assert found.misfit == pytest.approx(0, abs=1e-10)
    # of a box about the truth one solution is left, and spreads as the covariance says
    box = Box(
        first_bond=(0.9 * ANGSTROM, 1.4 * ANGSTROM),
        second_bond=(1.3 * ANGSTROM, 1.9 * ANGSTROM),
        angle_degrees=(110, 140),
    )
    chosen = estimate(p, MASSES, CHARGES, noise=1e-3, prior=(box, BENT)).estimate
    z = (chosen.values - values_of(BENT.positions[None])) / chosen.deviations
    assert chosen.linear.all()
    # the error of a standard deviation from 500 is 1/sqrt(1000), 3.2 %
    assert z.std(axis=0) == pytest.approx(1, abs=0.13)
    assert np.abs(z.mean(axis=0)).max() < 4 / np.sqrt(500)
    # the covariance lies about the centre of mass
    whole = np.einsum("i,niajb->najb", MASSES, chosen.covariance)
    assert np.abs(whole).max() < 1e-9 * MASSES.sum() * np.abs(chosen.covariance).max()


def test_at_the_fold_and_near_180_degrees_the_flag_says_so():
    for degrees, status in ((125, LINEAR), (162, NEAR_FOLD), (179.99, NEAR_STRAIGHT)):
        about = Molecule.of("OCS", bent(1.1562, 1.5614, degrees))
        prior = Gaussian(sigma=0.1 * ANGSTROM), about
        p = noisy(np.tile(about.positions, (100, 1, 1)), 0.01, 5)
        found = estimate(p, MASSES, CHARGES, noise=0.01, prior=prior).estimate
        assert (found.status == status).mean() > 0.8, degrees
        assert np.array_equal(found.linear, found.status == LINEAR)


def test_curvature_of_the_prior_is_that_of_differences():
    rng = np.random.default_rng(6)
    for molecule in (OCS, BENT):  # of the linear one, one rotation does nothing
        ensemble = Gaussian(sigma=0.2)
        x = molecule.positions + 0.1 * rng.normal(size=(3, 3, 3))
        _, slope, bend = _gaussian(ensemble, molecule, x)
        h = 1e-5
        for k in range(9):
            step = np.zeros(9)
            step[k] = h
            ahead, behind = (
                _gaussian(ensemble, molecule, x + sign * step.reshape(3, 3))
                for sign in (1, -1)
            )
            assert (ahead[0] - behind[0]) / (2 * h) == pytest.approx(slope[:, k], abs=1e-6)
            assert (ahead[1] - behind[1]) / (2 * h) == pytest.approx(bend[:, :, k], abs=1e-5)


def test_what_cannot_be_estimated_has_a_status():
    p = noisy(np.tile(BENT.positions, (3, 1, 1)), 0.01, 7)
    p[1] += 0.2 * np.abs(p[1]).max()
    p[2, 0, 0] = np.nan
    said = estimate(p, MASSES, CHARGES, noise=0.01)
    assert said.status[1:].tolist() == [MOMENTUM_SUM, NO_MOMENTA]
    assert said.estimate.status[1:].tolist() == [NO_ESTIMATE, NO_ESTIMATE]
    assert np.isnan(said.estimate.deviations[1:]).all()
    assert said.n_solutions[0] > 0
    projected = estimate(p, MASSES, CHARGES, noise=0.01, project=True)
    assert projected.n_solutions[1] > 0
    assert np.array_equal(projected.positions[0], said.positions[0])
    for noise in (0.0, 1.0, np.nan):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            estimate(p, MASSES, CHARGES, noise=noise)


def test_without_an_exact_geometry_the_nearest_is_no_linear_estimate():
    # random momenta of OCS: one in four have a shape that no geometry gives
    p = 100 * np.random.default_rng(9).normal(size=(40, 3, 3))
    prior = Gaussian(sigma=0.2 * ANGSTROM), OCS
    for given, noise in ((None, 0.05), (prior, 0.3)):
        said = estimate(p, MASSES, CHARGES, noise=noise, prior=given, project=True)
        alone = said.status == NO_GEOMETRY
        assert 2 < alone.sum() < 20
        assert not said.estimate.linear[alone].any()
    # far from every geometry the steps are small, and some do not get there
    assert set(said.estimate.status[alone]) <= {NEAREST, UNSETTLED}
    assert (said.estimate.status[alone] == NEAREST).sum() > 2
    assert (said.estimate.misfit[alone] > 1e-3).all()


def test_invert_takes_noise():
    p = noisy(np.tile(BENT.positions, (5, 1, 1)), 0.01, 8)
    said = invert(p, MASSES, CHARGES, noise=0.01, prior=PRIOR)
    again = estimate(p, MASSES, CHARGES, noise=0.01, prior=PRIOR)
    assert said.estimate is not None
    assert np.array_equal(said.estimate.covariance, again.estimate.covariance)
    assert invert(p[:0], MASSES, CHARGES, noise=0.01).estimate.values.shape == (0, 3)
    assert invert(p, MASSES, CHARGES).estimate is None
