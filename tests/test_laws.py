"""Laws that hold for every explosion, whatever its ions: tried on many that nobody chose."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.spatial.transform import Rotation

from coulex import simulate

EVENTS = 8
#: both results of a comparison are simulated
TWICE = {"float64": 2e-9, "float32": 6e-4}
PRECISION = pytest.mark.parametrize("precision", TWICE)

seeds = st.integers(0, 2**32 - 1)
sizes = st.sampled_from([3, 5])  # each number of ions is a kernel of its own
halvings = st.integers(-4, 4)


def law(*strategies):
    """Try a test on what the strategies draw: the same draws each time, of any duration."""
    return lambda test: settings(deadline=None, max_examples=25, derandomize=True)(
        given(*strategies)(test)
    )


def explosions(seed, ions, at_rest=True):
    """Positions, masses, charges and momenta of a few explosions, from H to I."""
    rng = np.random.default_rng(seed)
    x = reference.in_sphere(rng, EVENTS, ions, separation=0.5)
    m, q = np.exp(rng.uniform(7.5, 12.4, ions)), rng.uniform(0.5, 4, ions)
    p = np.zeros_like(x) if at_rest else rng.normal(size=x.shape) * np.sqrt(m)[:, None]
    return x, m, q, p - m[:, None] * p.sum(axis=1, keepdims=True) / m.sum()


def final(x, m, q, p=None, precision="float64"):
    run = simulate(x, m, q, initial_momenta=p, precision=precision, threads=1)
    assert not run.status.any()
    return run.momenta


# To the last bit: what only changes signs and exponents, or is exact in the coordinates.


@PRECISION
@law(seeds, sizes, st.sampled_from([[-1, -1, -1], [1, 1, -1], [-1, 1, 1], [-1, -1, 1]]))
def test_a_mirror_image_explodes_into_the_mirror_image(precision, seed, ions, signs):
    x, m, q, p = explosions(seed, ions, at_rest=False)
    mirrored = final(x * signs, m, q, p * signs, precision)
    assert_array_equal(mirrored, final(x, m, q, p, precision) * signs)


@PRECISION
@law(seeds, sizes, halvings, halvings, halvings)
def test_no_length_mass_or_charge_is_built_in(precision, seed, ions, a, b, c):
    # from rest p scales like charge sqrt(mass / length); powers of four, and roots, are exact
    x, m, q, _ = explosions(seed, ions)
    scaled = final(x * 4.0**a, m * 4.0**b, q * 2.0**c, None, precision)
    assert_array_equal(scaled, final(x, m, q, None, precision) * 2.0 ** (b + c - a))


@PRECISION
@law(seeds, sizes, st.tuples(*[st.integers(-1000, 1000)] * 3))
def test_where_the_origin_is_does_not_matter(precision, seed, ions, shift):
    x, m, q, p = explosions(seed, ions, at_rest=False)
    x = np.round(x * 2.0**20) / 2.0**20  # so that the sum is exact
    assert_array_equal(
        final(x + np.array(shift), m, q, p, precision), final(x, m, q, p, precision)
    )


@PRECISION
@law(seeds, sizes, st.integers(0, 2))
def test_a_plane_is_not_left(precision, seed, ions, axis):
    x, m, q, p = explosions(seed, ions, at_rest=False)
    x[:, 0] += 10.0  # or two ions of the plane may come too close
    x += np.arange(ions)[:, None]
    x[..., axis] = p[..., axis] = 0
    assert_array_equal(final(x, m, q, p, precision)[..., axis], 0)


# To the tolerance of both results.


@PRECISION
@law(seeds, sizes)
def test_momenta_turn_with_the_molecule(precision, seed, ions):
    x, m, q, p = explosions(seed, ions, at_rest=False)
    turn = Rotation.random(rng=seed).as_matrix().T
    turned = final(x @ turn, m, q, p @ turn, precision)
    true = final(x, m, q, p, precision).astype(float) @ turn
    assert reference.errors(turned, true).max() <= TWICE[precision]


@PRECISION
@law(seeds, sizes, st.randoms(use_true_random=False))
def test_the_order_of_ions_does_not_matter(precision, seed, ions, random):
    x, m, q, p = explosions(seed, ions, at_rest=False)
    order = random.sample(range(ions), ions)
    other = final(x[:, order], m[order], q[order], p[:, order], precision)
    true = final(x, m, q, p, precision)[:, order]
    assert reference.errors(other, true).max() <= TWICE[precision]


@PRECISION
@law(seeds, sizes, *[st.floats(0.1, 10)] * 3)
def test_scaling_from_rest(precision, seed, ions, length, mass, charge):
    x, m, q, _ = explosions(seed, ions)
    scaled = final(x * length, m * mass, q * charge, None, precision)
    true = charge * np.sqrt(mass / length) * final(x, m, q, None, precision).astype(float)
    assert reference.errors(scaled, true).max() <= TWICE[precision]


@PRECISION
@law(seeds, sizes, st.floats(0.1, 10))
def test_scaling_in_motion(precision, seed, ions, length):
    x, m, q, p = explosions(seed, ions, at_rest=False)
    scaled = final(x * length, m, q, p / np.sqrt(length), precision)
    true = final(x, m, q, p, precision).astype(float) / np.sqrt(length)
    assert reference.errors(scaled, true).max() <= TWICE[precision]


@law(seeds, sizes, st.tuples(*[st.floats(-0.1, 0.1)] * 3))
def test_the_centre_of_mass_goes_on_as_it_came(seed, ions, velocity):
    x, m, q, p = explosions(seed, ions, at_rest=False)
    boost = m[:, None] * np.array(velocity)
    at_rest, boosted = final(x, m, q, p), final(x, m, q, p + boost)
    bound = 2e-9 * np.linalg.norm(at_rest, axis=(1, 2)) + 1e-14 * np.linalg.norm(boost)
    assert (np.linalg.norm(boosted - boost - at_rest, axis=(1, 2)) <= bound).all()


@PRECISION
@law(seeds)
def test_symmetry_of_the_geometry_is_symmetry_of_the_momenta(precision, seed):
    # half a turn about z takes the geometry to itself, and ions 0 and 1 to each other
    x, m, q, _ = explosions(seed, 3)
    x[:, 0, :2] += np.sign(x[:, 0, :2])
    x[:, 1], x[:, 2, :2] = x[:, 0] * (-1, -1, 1), 0
    m[1], q[1] = m[0], q[0]
    p = final(x, m, q, None, precision)
    assert reference.errors(p[:, [1, 0, 2]] * (-1, -1, 1), p).max() <= TWICE[precision]


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-9), ("float32", 3e-4)])
@law(seeds, sizes, st.booleans())
def test_energy_and_momentum_are_kept(precision, tolerance, seed, ions, at_rest):
    x, m, q, p = explosions(seed, ions, at_rest)
    end = final(x, m, q, p, precision).astype(float)
    before = np.array([reference.potential(r, q) for r in x])
    before += np.sum(p**2 / (2 * m[:, None]), axis=(1, 2))
    after = np.sum(end**2 / (2 * m[:, None]), axis=(1, 2))
    # an error dp changes the energy by sum v dp, at most |v| |dp|
    size, speed = (np.linalg.norm(a, axis=(1, 2)) for a in (end, end / m[:, None]))
    assert (np.abs(after - before) <= 1.1 * tolerance * size * speed).all()
    # forces come in pairs: what is left are the roundings of some hundred steps
    lost = np.linalg.norm((end - p).sum(axis=1), axis=1)
    assert (lost <= 500 * np.finfo(precision).eps * size).all()
