"""Features made of momenta: their sizes, what they do not depend on, and measured noise."""

import numpy as np
import pytest
from geometries import CHARGES, MASSES, inertial

from coulex.frames import random_rotations, rotate
from coulex.inverse.noise import without_sum as as_inverted
from generative import conditions
from generative.conditions import FEATURES
from generative.seen import see, steady_axes, with_noise, without_sum

HEAVY = np.array([1836.0, 3e4, 3e4, 6e4, 2e4])


def seen(momenta, masses=MASSES, charges=CHARGES, axes=(0, 1), **options):
    plain = {"noisy": False, "groups": [], "turned": True}
    return see(momenta, masses, charges, axes, **plain | options)


@pytest.mark.parametrize("ions", [2, 3, 5])
@pytest.mark.parametrize("name", FEATURES)
def test_sizes_are_as_stated(name, ions):
    masses = HEAVY[:ions]
    p = inertial(1, 20, masses)
    looked = seen(p, masses, np.ones(ions), noise=np.full(20, 0.01))
    assert conditions.encode([name], looked).shape == (20, conditions.size([name], ions))


@pytest.mark.parametrize("ions", [2, 3, 5])
def test_only_zeros_are_left_out(ions):
    masses = HEAVY[:ions]
    looked = seen(inertial(2, 50, masses), masses, np.ones(ions))
    free = conditions.free_components(ions, (0, 1))
    assert np.abs(looked.recoil[:, ~free]).max() < 1e-12 * np.abs(looked.recoil).max()
    assert (np.abs(looked.recoil[:, free]).max(axis=0) > 1).all()


@pytest.mark.parametrize("name", [name for name in FEATURES if name != "momenta"])
def test_features_do_not_turn(name):
    p = inertial(3, 50, HEAVY)
    turned = rotate(p, random_rotations(1, 0, 50))
    noise = np.linspace(0.01, 0.02, 50)
    one, two = (
        conditions.encode([name], seen(q, HEAVY, np.ones(5), turned=False, noise=noise))
        for q in (p, turned)
    )
    assert np.abs(one - two).max() <= 1e-11 * np.abs(one).max()


def test_values():
    p = np.array([[[3.0, 0, 0], [0, 4.0, 0], [-3.0, -4.0, 0]]])
    looked = seen(p)
    ker = 9 / 2 / MASSES[0] + 16 / 2 / MASSES[1] + 25 / 2 / MASSES[2]

    def of(name):
        return conditions.encode([name], looked)[0]

    assert of("moduli") == pytest.approx([3, 4, 5])
    assert of("pair-angles") == pytest.approx(
        [np.pi / 2, np.pi - np.arctan2(4, 3), np.pi - np.arctan2(3, 4)]
    )
    assert of("ker") == pytest.approx([ker])
    assert of("log-ker") == pytest.approx([np.log(ker)])
    assert of("recoil") == pytest.approx([3, 0, 4, -3, -4])
    weighted = np.array([3, 0, 4, -3, -4]) / np.sqrt(2 * ker * MASSES[[0, 1, 1, 2, 2]])
    assert of("scale-free") == pytest.approx(weighted)
    assert of("charges") == pytest.approx(CHARGES)


def test_scale_free_means_scale_free():
    p = inertial(4, 20, MASSES)
    one, two = (conditions.encode(["scale-free"], seen(f * p)) for f in (1.0, 7.0))
    assert np.abs(one - two).max() < 1e-14
    assert (one**2).sum(axis=1) == pytest.approx(np.ones(20), abs=1e-14)


def test_a_common_motion_is_taken_out():
    p = inertial(5, 20, MASSES)
    moving = p + MASSES[:, None] * np.array([0.01, -0.02, 0.005])
    assert np.abs(seen(moving, turned=False).momenta - p).max() < 1e-10


def test_noise_is_that_of_the_inversion():
    p = inertial(6, 20, MASSES)
    level = np.full(20, 0.05)
    noisy = with_noise(p, level, np.random.default_rng(1))
    mine = seen(noisy, noisy=True, turned=False).momenta
    assert np.abs(mine - as_inverted(noisy, 0.05)).max() < 1e-10
    assert np.abs(mine.sum(axis=1)).max() < 1e-10


def test_statistics_of_noise():
    count = 40_000
    p = np.tile(inertial(7, 1, MASSES), (count, 1, 1))
    level = np.full(count, 0.03)
    error = with_noise(p, level, np.random.default_rng(2)) - p
    sigma = 0.03 * np.linalg.norm(p[0], axis=1)
    # five standard errors, of a mean and of a deviation
    assert np.abs(error.mean(axis=0) / sigma[:, None]).max() < 5 / count**0.5
    assert np.abs(error.std(axis=0) / sigma[:, None] - 1).max() < 5 / (2 * count) ** 0.5
    correlation = np.corrcoef(error.reshape(count, -1).T) - np.eye(9)
    assert np.abs(correlation).max() < 5 / count**0.5


def test_no_weight_takes_no_share():
    p = np.ones((1, 3, 3))
    assert (without_sum(p, np.zeros((1, 3))) == p).all()
    assert np.allclose(
        without_sum(p, np.array([0.0, 0.0, 2.0])), [[[1] * 3, [1] * 3, [-2] * 3]]
    )


def test_axes_avoid_ions_that_stand_still():
    p = inertial(8, 500, HEAVY)
    p[:, 0] *= 1e-3  # the light one in the middle
    p[:, 3] -= p.sum(axis=1)
    first, second = steady_axes(p)
    assert 0 not in (first, second)
    three = inertial(9, 500, MASSES)
    three[:, 0] *= 5  # no longer without a sum, so that one pair is best
    assert steady_axes(three)[0] == 0


@pytest.mark.parametrize(
    ("names", "words"),
    [(["momentum"], "no condition momentum; there are momenta"), (["ker", "ker"], "twice")],
)
def test_names_are_checked(names, words):
    with pytest.raises(ValueError, match=words):
        conditions.check(names)
