"""Scores and calibration against closed forms."""

import numpy as np
import pytest
from scipy.special import erf
from scipy.stats import norm

from coulex.frames import random_rotations, rotate
from coulex.inverse.posterior import normalised
from generative import calibration, metrics, two_sample


def rng(seed=1):
    return np.random.default_rng(seed)


# -- errors of points


def test_point_errors_by_hand():
    true = np.array([[[1.0, 0.0, 2.0]], [[3.0, 0.0, -2.0]]])
    guess = true + np.array([[[1.0, 2.0, 0.0]], [[-1.0, 0.0, 1.0]]])
    found = metrics.point_errors(guess, true)
    assert found.mse == pytest.approx((1 + 4 + 0 + 1 + 0 + 1) / 6, rel=1e-15)
    assert found.mae == pytest.approx((1 + 2 + 0 + 1 + 0 + 1) / 6, rel=1e-15)
    assert found.mre == pytest.approx((1 + 0 + 1 / 3 + 1 / 2) / 4, rel=1e-15)
    assert found.mre_undefined == 2
    # deviations 1, 0, 2: the second is constant and has no unit of its own
    assert found.constant == 1
    assert found.mse_standardised == pytest.approx((1 + 0 + 1 + 1 / 4) / 4, rel=1e-15)


def test_the_mean_scores_one_in_standardised_units():
    true = rng().normal(size=(1000, 3, 3)) * np.arange(1, 10).reshape(3, 3)
    mean = np.broadcast_to(true.mean(axis=0), true.shape)
    assert metrics.point_errors(mean, true).mse_standardised == pytest.approx(1, rel=1e-12)


def test_a_relative_error_of_nothing_is_not_a_number():
    found = metrics.point_errors(np.ones((2, 1, 3)), np.zeros((2, 1, 3)))
    assert np.isnan(found.mre)
    assert found.mre_undefined == 6
    assert np.isnan(found.mse_standardised)


def test_distances_and_atoms_do_not_see_rotations_nor_shifts():
    true = rng().normal(size=(50, 5, 3))
    moved = rotate(true, random_rotations(3, 0, 50)) + rng(2).normal(size=(50, 1, 3))
    assert np.abs(metrics.distance_errors(moved, true)).max() < 1e-12
    assert metrics.atom_errors(moved, true).max() < 1e-12


def test_a_mirror_image_is_an_error_of_atoms_only():
    true = rng().normal(size=(50, 5, 3))
    mirrored = true * [1, 1, -1]
    assert metrics.distance_errors(mirrored, true).max() == 0
    assert metrics.atom_errors(mirrored, true).max(axis=1).min() > 0.1


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="both must be"):
        metrics.point_errors(np.ones((2, 3, 3)), np.ones((3, 3, 3)))
    with pytest.raises(ValueError, match="weights must be"):
        metrics.crps(np.ones((2, 4, 1)), np.ones((2, 1)), np.ones((2, 3)))


# -- scores of draws


def gaussian_crps(y):
    return y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - 1 / np.sqrt(np.pi)


@pytest.mark.parametrize("n", [2, 5, 200])
def test_crps_of_a_gaussian_whatever_the_number_of_draws(n):
    m = 200_000 // n
    truth = np.tile([-1.0, 0.0, 0.5, 2.0], (m, 1))
    found = metrics.crps(rng(n).normal(size=(m, n, 4)), truth)
    error = found.std(axis=0) / np.sqrt(m)
    assert np.abs(found.mean(axis=0) - gaussian_crps(truth[0])).max() < 4.5 * error.max()


def test_crps_equals_its_slow_twin_with_weights():
    x, y = rng().normal(size=(20, 7, 3)), rng(2).normal(size=(20, 3))
    w = rng(3).random((20, 7))
    w /= w.sum(axis=1, keepdims=True)
    gap = np.abs(x[:, :, None] - x[:, None])
    spread = 0.5 * np.einsum("mi,mj,mijd->md", w, w, gap)
    off = np.einsum("mi,mid->md", w, np.abs(x - y[:, None]))
    fair = 1 - (w**2).sum(axis=1)[:, None]
    assert np.abs(metrics.crps(x, y, w) - (off - spread / fair)).max() < 1e-13
    assert np.abs(metrics.crps(x, y, w, fair=False) - (off - spread)).max() < 1e-13


def test_importance_weights_give_the_score_of_what_they_stand_for():
    """Draws of N(0.5, 1.2) weighted to N(0, 1)."""
    m, n = 4000, 200
    x = 0.5 + 1.2 * rng().normal(size=(m, n))
    w = normalised(norm.logpdf(x) - norm.logpdf(x, 0.5, 1.2))
    y = rng(2).normal(size=(m, 1))
    found = metrics.crps(x[:, :, None], y, w)[:, 0]
    expected = gaussian_crps(y[:, 0])
    # self-normalised weights have a bias of order 1/n
    assert abs((found - expected).mean()) < 4.5 * (found - expected).std() / m**0.5 + 1 / n


def test_one_draw_has_the_score_of_a_point():
    x, y = rng().normal(size=(20, 1, 3)), rng(2).normal(size=(20, 3))
    assert np.abs(metrics.crps(x, y) - np.abs(x[:, 0] - y)).max() == 0
    gap = np.linalg.norm(x[:, 0] - y, axis=1)
    assert np.abs(metrics.energy_score(x, y) - gap).max() < 1e-14


def test_energy_score_in_one_dimension_is_the_crps():
    x, y = rng().normal(size=(30, 11, 1)), rng(2).normal(size=(30, 1))
    w = normalised(rng(3).normal(size=(30, 11)))
    for weights in (None, w):
        one = metrics.energy_score(x, y, weights)
        assert (
            np.abs(one - metrics.crps(x, y, weights)[:, 0]).max() < 1e-7
        )  # a root of rounding


def test_the_right_distribution_has_the_best_scores():
    m, n = 3000, 50
    y = rng().normal(size=(m, 2, 3))
    scores = [
        metrics.energy_score(scale * rng(2).normal(size=(m, n, 2, 3)), y).mean()
        for scale in (0.5, 1.0, 2.0)
    ]
    assert scores[1] < min(scores[0], scores[2])


def test_best_of_draws():
    true = rng().normal(size=(10, 3, 3))
    draws = true[:, None] + np.array([1.0, 0.1, -0.5])[:, None, None]
    assert np.abs(metrics.best_of(draws, true) - true - 0.1).max() < 1e-15


# -- calibration


def known_draws(m=20_000, n=60, width=1.0, seed=1):
    """Return truths N(c, 1), draws N(c, width) and the centres c, in two dimensions."""
    source = rng(seed)
    centre = source.normal(size=(m, 2))
    true = centre + source.normal(size=(m, 2))
    return true, centre[:, None] + width * source.normal(size=(m, n, 2)), centre


def log_gaussian(x, centre, width=1.0):
    return -0.5 * (((x - centre) / width) ** 2).sum(axis=-1)


def all_levels(true, draws, centre, width=1.0):
    log = log_gaussian(draws, centre[:, None], width)
    other = np.roll(true, 1, axis=0)
    return {
        "central": calibration.central_levels(draws[:, :, 0], true[:, 0], rng(5)),
        "density": calibration.density_levels(log, log_gaussian(true, centre, width), rng(6)),
        "tarp": calibration.tarp_levels(draws, true, other, rng(7)),
    }


def test_calibrated_draws_cover_what_they_say():
    for name, levels in all_levels(*known_draws()).items():
        assert calibration.coverage(levels).deviation < 4, name
        assert calibration.uniformity(levels) > 1e-3, name


@pytest.mark.parametrize("width", [0.7, 1.4])
def test_coverage_of_a_wrong_width_has_a_closed_form(width):
    levels = all_levels(*known_draws(width=width, n=2000, m=3000), width)
    for level, share, error in zip(
        *_rows(calibration.coverage(levels["central"])), strict=True
    ):
        expected = 2 * norm.cdf(width * norm.ppf((1 + level) / 2)) - 1
        assert abs(share - expected) < 4.5 * error + 2e-3
    for level, share, error in zip(
        *_rows(calibration.coverage(levels["density"])), strict=True
    ):
        expected = 1 - (1 - level) ** (width**2)  # chi-squared of two dimensions
        assert abs(share - expected) < 4.5 * error + 2e-3
    for one in levels.values():
        assert calibration.uniformity(one) < 1e-6


def _rows(found):
    return found.levels, found.shares, found.errors


def test_ranks_are_uniform():
    true, draws, _ = known_draws(n=9)
    counts = np.bincount(calibration.ranks(draws, true)[:, 0], minlength=10)
    assert np.abs(counts - 2000).max() < 4.5 * np.sqrt(20_000 * 0.1 * 0.9)


def test_draws_of_the_prior_are_calibrated_and_blunt():
    """What calibration cannot see, sharpness does."""
    true, draws, _ = known_draws(n=200, m=4000)
    prior = np.sqrt(2) * rng(3).normal(size=draws.shape)
    blunt = calibration.central_levels(prior[:, :, 0], true[:, 0], rng(4))
    assert calibration.coverage(blunt).deviation < 4
    ratio = calibration.sharpness(prior).mean() / calibration.sharpness(draws).mean()
    assert ratio == pytest.approx(np.sqrt(2), rel=0.02)


def test_tied_draws_share_their_rank():
    levels = calibration.pit(np.zeros((50_000, 4)), np.zeros(50_000), rng())
    assert calibration.uniformity(levels) > 1e-3


def test_weighted_draws_are_calibrated():
    true, draws, centre = known_draws(width=1.3, n=500, m=8000)
    log = log_gaussian(draws, centre[:, None]) - log_gaussian(draws, centre[:, None], 1.3)
    w = normalised(log)
    levels = calibration.central_levels(draws[:, :, 0], true[:, 0], rng(4), w)
    assert calibration.coverage(levels).deviation < 4
    assert calibration.sharpness(draws, w).mean() == pytest.approx(np.sqrt(2), rel=0.02)


def test_effective_sample_size_by_hand():
    w = np.array([[0.25] * 4, [1.0, 0, 0, 0], [0.5, 0.5, 0, 0]])
    assert calibration.effective_sample_size(w).tolist() == [4, 1, 2]


def test_effective_sample_size_of_gaussians():
    """ESS/n of N(0, 1) by draws of N(0, s) tends to sqrt(2 - 1/s²) / s."""
    s, n = 1.5, 200_000
    x = s * rng().normal(size=(1, n))
    w = normalised(norm.logpdf(x) - norm.logpdf(x, scale=s))
    expected = np.sqrt(2 - 1 / s**2) / s
    assert calibration.effective_sample_size(w)[0] / n == pytest.approx(expected, rel=0.01)


def test_weights_of_nothing_are_not_numbers():
    w = normalised([[-np.inf, -np.inf], [-800.0, -np.inf], [np.nan, 0.0]])
    assert np.isnan(w[0]).all()
    assert w[1:].tolist() == [[1, 0], [0, 1]]


# -- two samples


def test_energy_distance_of_gaussians():
    n, shift = 1500, 1.0
    a, b = rng(1).normal(size=(n, 1)), shift + rng(2).normal(size=(n, 1))

    def far(mean):  # E|x| of N(mean, 2)
        return 2 / np.sqrt(np.pi) * np.exp(-(mean**2) / 4) + mean * erf(mean / 2)

    expected = 2 * far(shift) - 2 * far(0.0)
    error = two_sample.bootstrap(two_sample.energy_distance, a, b, rng(3), repeats=30)
    assert abs(two_sample.energy_distance(a, b) - expected) < 4 * error
    assert error < 0.2 * expected


def test_mmd_of_gaussians():
    n, shift, width = 1500, 1.0, 1.0
    a, b = rng(1).normal(size=(n, 1)), shift + rng(2).normal(size=(n, 1))
    # E k(x, y) with x - y of N(mean, 2)
    k0, k1 = (np.sqrt(1 / 3) * np.exp(-(mean**2) / 6) for mean in (0, shift))

    def statistic(one, two):
        return two_sample.mmd(one, two, width=width)

    error = two_sample.bootstrap(statistic, a, b, rng(3), repeats=30)
    assert abs(statistic(a, b) - (2 * k0 - 2 * k1)) < 4 * error


def test_auc_of_gaussians():
    a, b = rng(1).normal(size=(4000, 3)), rng(2).normal(size=(4000, 3))
    b[:, 1] += 1
    # the best classifier is linear: P(N(1, 2) > 0)
    expected = norm.cdf(1 / np.sqrt(2))
    assert two_sample.auc(a, b, rng(3)) == pytest.approx(expected, abs=0.02)


def test_auc_sees_widths():
    a, b = rng(1).normal(size=(4000, 2)), 1.5 * rng(2).normal(size=(4000, 2))
    assert two_sample.auc(a, b, rng(3)) > 0.65


def test_equal_distributions_are_not_told_apart():
    a, b = rng(1).normal(size=(1000, 2)), rng(2).normal(size=(1000, 2))
    assert abs(two_sample.auc(a, b, rng(3)) - 0.5) < 0.05
    for statistic in (two_sample.energy_distance, two_sample.mmd):
        error = two_sample.bootstrap(statistic, a, b, rng(4), repeats=30)
        assert abs(statistic(a, b)) < 4 * error


def test_samples_need_a_common_dimension():
    with pytest.raises(ValueError, match="samples must be"):
        two_sample.energy_distance(np.ones((9, 2)), np.ones((9, 3)))
