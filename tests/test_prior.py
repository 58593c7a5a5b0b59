"""Densities of ensembles: against closed forms, averages and draws of the ensembles."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from coulex import Box, Equilibrium, Frames, Gaussian, Molecule, Sphere
from coulex.inverse.prior import log_density

ROTATIONS = Rotation.random(200_000, random_state=1).as_matrix()
WATER, METHANE = Molecule.named("H2O"), Molecule.named("CH4")


def averaged(x, fixed, sigma):
    """Return log of the mean of exp(-|x - R x0|**2 / 2 sigma**2) over rotations, its error."""
    x, fixed = x - x.mean(axis=0), fixed - fixed.mean(axis=0)
    s = np.einsum("ij,ik->jk", x, fixed)
    log = np.einsum("njk,jk->n", ROTATIONS, s) / sigma**2
    value = np.exp(log - log.max())
    error = value.std() / value.mean() / np.sqrt(len(value))
    rest = ((x**2).sum() + (fixed**2).sum()) / (2 * sigma**2)
    return np.log(value.mean()) + log.max() - rest, error


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("sigma", [2.0, 1.0, 0.5])
@pytest.mark.parametrize("molecule", [WATER, METHANE], ids=["H2O", "CH4"])
def test_gaussian_is_an_average_over_rotations(molecule, sigma, mirrored):
    rng = np.random.default_rng(2)
    # the mirror image is no rotation of four ions and more, and all rotations count there
    fixed = molecule.positions * (-1 if mirrored else 1)
    x = fixed + 0.3 * sigma * rng.normal(size=(5, *fixed.shape))
    got = log_density(Gaussian(sigma=sigma), molecule, x)
    for value, one in zip(got, x, strict=True):
        true, error = averaged(one, molecule.positions, sigma)
        assert error < 0.06
        assert abs(value - true) < 5 * error  # 60 comparisons: 4e-5 all together


def test_gaussian_of_a_narrow_mirror_image():
    # rotations of a mirrored tetrahedron are all nearly as bad: 1 / fall is no width there
    x = -METHANE.positions[None] * (1 + 1e-4 * np.arange(5)[:, None])
    got = log_density(Gaussian(sigma=0.1), METHANE, x)
    true, error = averaged(x[0], METHANE.positions, 0.1)
    assert error < 0.02
    assert abs(got[0] - true) < 5 * error


def test_gaussian_of_a_narrow_width_is_laplace():
    # for sigma to 0: exp(-residual / 2 sigma**2) sigma**3 / sqrt(det I), up to a factor
    x = WATER.positions - WATER.positions.mean(axis=0)
    values = [log_density(Gaussian(sigma=s), WATER, x[None])[0] for s in (1e-2, 1e-3, 1e-4)]
    np.testing.assert_allclose(np.diff(values), -3 * np.log(10), atol=1e-3)


def expected(ensemble, molecule, cells, rng, points):
    """Return the share of draws in cells of two bonds and an angle, by the density."""
    low, high = np.array([(edges[0], edges[-1]) for edges in cells]).T
    r1, r2, angle = (low + (high - low) * rng.random((points, 3))).T
    x = np.zeros((points, 3, 3))
    x[:, 1, 0], x[:, 2, 0] = r1, r2 * np.cos(angle)
    x[:, 2, 1] = r2 * np.sin(angle)
    weight = np.exp(log_density(ensemble, molecule, x)) * (r1 * r2) ** 2 * np.sin(angle)
    share = np.histogramdd(np.column_stack([r1, r2, angle]), cells, weights=weight)[0].ravel()
    square = np.histogramdd(np.column_stack([r1, r2, angle]), cells, weights=weight**2)[0]
    return share / share.sum(), np.sqrt(square.ravel()) / share.sum()


@pytest.mark.parametrize(
    ("ensemble", "cells", "points"),
    [
        (
            Box(first_bond=(1.0, 2.0), second_bond=(1.5, 4.0), angle_degrees=(60.0, 170.0)),
            [[0.8, 1.3, 1.6, 2.1], [1.2, 2.5, 4.2], np.radians([50, 80, 130, 175])],
            400_000,
        ),
        (
            Sphere(radius=2.0, min_distance=0.7),
            [[0.0, 1.2, 2.0, 4.0], [0.0, 1.5, 4.0], np.radians([0, 60, 110, 180])],
            8_000,
        ),
    ],
    ids=["box", "sphere"],
)
def test_density_is_that_of_draws(ensemble, cells, points):
    x, _ = ensemble.sample(WATER, seed=4, first=0, count=40_000)
    one, two = x[:, 1] - x[:, 0], x[:, 2] - x[:, 0]  # O is the first
    r1, r2 = np.linalg.norm(one, axis=1), np.linalg.norm(two, axis=1)
    angle = np.arccos(np.einsum("ni,ni->n", one, two) / (r1 * r2))
    counts = np.histogramdd(np.column_stack([r1, r2, angle]), cells)[0].ravel()
    assert counts.sum() == len(x)
    share, error = expected(ensemble, WATER, cells, np.random.default_rng(5), points)
    variance = len(x) * share + (len(x) * error) ** 2
    square = ((counts - len(x) * share) ** 2 / variance).sum()
    assert square < chi2.isf(1e-4, len(counts) - 1)


def test_room_of_two_ions_in_a_sphere_is_a_lens():
    hydrogen = Molecule.of(["H", "H"], np.array([[0.0, 0, 0], [1.4, 0, 0]]))
    r = np.linspace(0.5, 3.0, 6)
    x = np.zeros((len(r), 2, 3))
    x[:, 1, 2] = r
    got = np.exp(log_density(Sphere(radius=2.0, min_distance=0.4), hydrogen, x))
    # of 2145 points: binomial, though they lie more evenly than random ones
    lens = 1 - 3 * r / 8 + r**3 / 128
    assert np.abs(got - lens).max() < 3 * 0.5 / np.sqrt(2145)
    close = log_density(Sphere(radius=2.0, min_distance=0.6), hydrogen, x)
    np.testing.assert_array_equal(np.isfinite(close), r >= 0.6)
    assert log_density(Sphere(radius=0.2, min_distance=0.1), hydrogen, x)[0] == -np.inf


@pytest.mark.parametrize(
    "ensemble",
    [
        Gaussian(sigma=0.3),
        Sphere(radius=3.0, min_distance=0.1),
        Box(first_bond=(0.5, 5.0), second_bond=(0.5, 5.0), angle_degrees=(0.0, 180.0)),
    ],
    ids=lambda ensemble: ensemble.name,
)
def test_density_does_not_see_place_and_orientation(ensemble):
    x = WATER.positions + 0.05 * np.random.default_rng(6).normal(size=(10, 3, 3))
    moved = np.einsum("nij,naj->nai", ROTATIONS[:10], x) + [1.0, -2.0, 0.5]
    got = log_density(ensemble, WATER, moved)
    # a sphere is counted in points; the others are formulas
    atol = 0.1 if ensemble.name == "sphere" else 1e-9
    np.testing.assert_allclose(got, log_density(ensemble, WATER, x), rtol=0, atol=atol)
    assert log_density(ensemble, WATER, x[:0]).shape == (0,)


@pytest.mark.parametrize(
    "ensemble", [Equilibrium(), Frames(positions=WATER.positions[None])], ids=lambda e: e.name
)
def test_ensembles_without_a_density_are_no_prior(ensemble):
    with pytest.raises(ValueError, match=f"{ensemble.name} is no prior"):
        log_density(ensemble, WATER, WATER.positions[None])
