"""From momenta to all geometries: laws, weights against draws, and what has no answer."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from itertools import permutations

import numpy as np
import pytest
from geometries import CHARGES, MASSES, OCS, apart, bent, box, exact, inertial
from numpy.testing import assert_allclose, assert_array_equal

import coulex
from coulex import Box, Equilibrium, Gaussian, Molecule, Search, frames
from coulex.inverse import comparison
from coulex.inverse import solutions as s
from coulex.kernels import events
from coulex.units import ANGSTROM

BOX = Box(
    first_bond=(0.8 * ANGSTROM, 3 * ANGSTROM),
    second_bond=(0.8 * ANGSTROM, 3 * ANGSTROM),
    angle_degrees=(90.0, 180.0),
)


@pytest.fixture(scope="module")
def box_events():
    x = frames.rotate(box(1, 300), frames.random_rotations(2, 0, 300))
    return x, exact(x)


@pytest.fixture(scope="module")
def found(box_events):
    return coulex.invert(box_events[1], MASSES, CHARGES)


def relative(p, wanted):
    return np.linalg.norm(p - wanted, axis=(1, 2)) / np.linalg.norm(wanted, axis=(1, 2))


def exploded(found, m=MASSES, q=CHARGES):
    """Return the momenta of all solutions, simulated on their own."""
    run = coulex.simulate(found.solution_positions, m, q, tolerance=1e-13)
    # of shapes with one ion far from two, some miss so tight a tolerance, but not by much
    assert np.isin(run.status, [events.GOOD, events.INACCURATE]).all()
    assert run.error_estimate.max() < 1e-11
    return run.momenta


def nearest(found, x):
    """Return how far, in bohr, the nearest solution of each event is from a geometry."""
    out = np.full(len(x), np.inf)
    event = found.solution_event
    np.minimum.at(out, event, apart(found.solution_positions, x[event]))
    return out


def agree(one, other, *, of_other=slice(None), scale=1.0, atol=1e-7):
    """Check that two inversions have the same solutions, in whatever order."""
    assert_array_equal(one.status, other.status)
    assert_array_equal(one.n_solutions, other.n_solutions)
    for x, event in zip(other.solution_positions, other.solution_event, strict=True):
        same = one.solution_positions[one.solution_event == event]
        there = np.broadcast_to(scale * x[of_other], same.shape)
        assert apart(same, there).min() < atol * scale


def test_the_truth_is_among_the_solutions(box_events, found):
    x, _ = box_events
    assert np.isin(found.status, [s.SOLVED, s.SEVERAL]).all()
    assert_array_equal((found.n_solutions > 1), found.status == s.SEVERAL)
    assert nearest(found, x).max() < 1e-8


def test_every_solution_explodes_into_the_momenta_as_given(box_events, found):
    # in their frame, about the centre of mass, to the residual that is stated
    _, p = box_events
    again = relative(exploded(found), p[found.solution_event])
    assert np.abs(again - found.solution_residual).max() < 1e-11
    assert found.solution_residual.max() < 1e-9
    centre = frames.centre_of_mass(found.solution_positions, MASSES)
    assert np.abs(centre).max() < 1e-12


def test_solutions_stand_by_event_and_weight(found):
    assert (np.diff(found.solution_event) >= 0).all()
    assert_array_equal(np.bincount(found.solution_event, minlength=300), found.n_solutions)
    same = np.diff(found.solution_event) == 0
    assert (np.diff(found.solution_weight)[same] <= 0).all()
    assert_allclose(np.bincount(found.solution_event, found.solution_weight), 1)
    first = np.flatnonzero(np.diff(found.solution_event, prepend=-1))
    assert_array_equal(found.positions, found.solution_positions[first])
    for i in np.flatnonzero(same):  # no solution twice
        assert apart(*(found.solution_positions[[j]] for j in (i, i + 1))) > 1e-6


@pytest.mark.parametrize("given", [0, 1])
def test_published_degenerate_pair(given):
    pair = bent([1.8949, 2.4860], [1.2990, 1.0755], [160.601, 164.568])
    got = coulex.invert(exact(pair[[given]]), MASSES, CHARGES, prior=(BOX, OCS))
    assert_array_equal(got.status, s.SEVERAL)
    # momenta agree to 3e-5, and a singular value of 0.02 turns that into 2e-3
    assert nearest(got, pair[[given]]) < 1e-8
    assert min(apart(got.solution_positions, pair[[1 - given]].repeat(len(
        got.solution_weight), axis=0))) < 1e-2  # fmt: skip
    assert set(got.solution_sign) == {-1, 1}


def invariants(p):
    """Return what of the momenta of three ions does not depend on the frame: three lengths."""
    return np.linalg.norm(p, axis=2)


@pytest.mark.parametrize("target", [(1.6, 1.2, 159.0), (2.4, 1.0, 165.0)])
def test_weights_are_the_shares_of_simulated_events(target):
    # Draws of the box near each solution, everywhere as dense; those in one bin of momenta.
    p = exact(bent(*target))
    got = coulex.invert(p, MASSES, CHARGES, prior=(BOX, OCS))
    inside = got.solution_weight > 0
    assert inside.sum() > 1
    x, weight = got.solution_positions[inside], got.solution_weight[inside]
    width, draws, counts = 2e-4, 200_000, []
    rng = np.random.default_rng(7)
    for one in x:
        bonds = np.linalg.norm(one[[0, 2]] - one[1], axis=1) / ANGSTROM
        centre = np.array([*bonds, np.degrees(frames.angle(*one[:, None])[0])])
        step = np.array([1e-4, 1e-4, 1e-2])
        slope = [
            (invariants(exact(bent(*(centre + d)))) - invariants(exact(bent(*(centre - d)))))
            / (2 * invariants(p)) for d in np.diag(step)
        ]  # fmt: skip
        back = np.linalg.inv(np.concatenate(slope).T / step)
        ahead = width * rng.uniform(-2, 2, (draws, 3))  # a sliver, beyond what is a bin
        drawn = centre + ahead @ back.T
        assert (drawn > [0.8, 0.8, 90.0]).all()
        assert (drawn < [3.0, 3.0, 180.0]).all()
        momenta = coulex.simulate(bent(*drawn.T), MASSES, CHARGES).momenta
        hit = (np.abs(invariants(momenta) / invariants(p) - 1) < width).all(axis=1)
        assert np.abs(ahead[hit]).max() < 1.9 * width  # none is cut off
        counts.append((hit.sum(), abs(np.linalg.det(back))))
    number, volume = np.array(counts).T
    assert number.min() > 10_000
    share = number * volume / (number * volume).sum()
    # binomial; and of second order in the bin
    sigma = np.sqrt((1 - share) ** 2 / number + (share**2 / number).sum()) * share
    assert np.abs(weight / weight.sum() - share).max() < 4 * sigma.max()


def test_two_ions_have_a_closed_form():
    rng = np.random.default_rng(8)
    m, q = np.array([2000.0, 5000.0]), np.array([1.0, 3.0])
    x = rng.normal(size=(20, 2, 3)) * 2
    r = np.linalg.norm(x[:, 0] - x[:, 1], axis=1)
    p = np.sqrt(2 * m.prod() / m.sum() * q.prod() / r)
    p = p[:, None] * (x[:, 0] - x[:, 1]) / r[:, None]
    got = coulex.invert(np.stack([p, -p], axis=1), m, q)
    assert_array_equal(got.status, s.SOLVED)
    assert_allclose(got.positions[:, 0] - got.positions[:, 1], x[:, 0] - x[:, 1], atol=1e-12)
    assert_allclose(got.solution_condition, 1)
    again = coulex.simulate(got.positions, m, q, tolerance=1e-13).momenta
    assert_allclose(again[:, 0], p, rtol=1e-12, atol=1e-12 * np.abs(p).max())
    assert got.solution_residual.max() < 1e-9

    def draws(p, n, **about):
        return np.repeat(got.positions[:, None], n, axis=1), None

    ways = comparison.compare(np.stack([p, -p], axis=1), m, q, draws)
    assert [way.solved for way in ways] == [20, 20]  # the draws, and the closed form


# What has no answer, beside what has: the others of the batch do not notice.


def test_momenta_that_say_nothing(box_events, found):
    _, p = box_events
    bad = p[:12].copy()
    bad[0, 1, 2], bad[1, 0, 0], bad[2, :2, 0] = np.nan, np.inf, [np.inf, -np.inf]
    bad[3] = 0.0
    bad[4] += 1e-3 * np.abs(p).max()
    bad[5:9] *= np.array([1e3, 1e-3, 1e160, 1e-160])[:, None, None]
    got = coulex.invert(bad, MASSES, CHARGES)
    nothing = [s.NO_MOMENTA] * 3 + [s.NO_ENERGY, s.MOMENTUM_SUM] + [s.SIZE] * 4
    assert_array_equal(got.status[:9], nothing)
    assert np.isnan(got.positions[:9]).all()
    assert not got.n_solutions[:9].any()
    assert_array_equal(got.solution_event.min(), 9)
    assert_array_equal(got.positions[9:], found.positions[9:12])
    alone = coulex.invert(bad[:9], MASSES, CHARGES)
    assert_array_equal(alone.status, nothing)


def test_a_sum_of_momenta_is_projected_away(box_events, found):
    _, p = box_events
    moving = p + MASSES[:, None] * np.array([1e-3, -2e-3, 5e-4])
    agree(coulex.invert(moving, MASSES, CHARGES, project=True), found)
    alike = MASSES[None, :, None] * np.array([0.3e-3, 0.7e-3, -1.1e-3])
    got = coulex.invert(alike, MASSES, CHARGES, project=True)
    assert_array_equal(got.status, s.NO_ENERGY)


def test_sizes_out_of_bounds_are_the_limits_of_the_bounds():
    p = exact(bent([1.0, 2.0, 2.9], 1.5, 130.0))
    limits = (1.1 * ANGSTROM, 4.0 * ANGSTROM)
    got = coulex.invert(p, MASSES, CHARGES, bounds=limits)
    assert_array_equal(nearest(got, bent([1.0, 2.0, 2.9], 1.5, 130.0)) < 1e-8, [0, 1, 0])
    for x in got.solution_positions:
        r = np.linalg.norm(x - np.roll(x, 1, axis=0), axis=1)
        assert ((r >= limits[0]) & (r <= limits[1])).all()
    got = coulex.invert(p, MASSES, CHARGES, bounds=(50.0, 60.0))
    assert_array_equal(got.status, s.SIZE)


def test_momenta_of_no_geometry():
    p = inertial(9, 200, MASSES)
    got = coulex.invert(p, MASSES, CHARGES, bounds=(1e-3, 1e6))
    without = got.status == s.NO_GEOMETRY
    assert 0.1 < without.mean() < 0.9
    assert_array_equal(without, got.n_solutions == 0)
    again = relative(exploded(got), p[got.solution_event])
    assert np.abs(again - got.solution_residual).max() < 1e-11


def test_at_a_fold():
    low, high = 155.0, 170.0
    sign = coulex.inverse.response.response
    for _ in range(45):
        middle = 0.5 * (low + high)
        one = sign(bent(1.1562, 1.5614, middle), MASSES, CHARGES).sign[0] > 0
        low, high = (middle, high) if one else (low, middle)
    assert 161 < low < 163  # physics.md: 162 degrees
    p = exact(bent(1.1562, 1.5614, [low, low - 2.0]))
    got = coulex.invert(p, MASSES, CHARGES)
    assert_array_equal(got.status, [s.FOLD, s.SEVERAL])
    assert np.isfinite(got.solution_weight).all()
    # the root of the residual, 1e-13, and a curvature of the order of one
    assert nearest(got, bent(1.1562, 1.5614, [low, low - 2.0]))[0] < 1e-5


@pytest.mark.parametrize("off", [0.0, 1e-9, 1e-8, 1e-7, 1e-5])
def test_collinear_momenta(off):
    rng = np.random.default_rng(10)
    x = bent(*rng.uniform(0.8, 3.0, (2, 50)), 180.0)
    x[:, :, 1:] = off * rng.normal(size=(50, 3, 2))
    x = frames.rotate(x, frames.random_rotations(11, 0, 50))
    got = coulex.invert(exact(x), MASSES, CHARGES)
    assert_array_equal(got.status, s.SOLVED)
    assert apart(got.positions, x).max() < 1e-8
    assert got.solution_condition.max() < 1e3


def test_a_central_ion_at_rest():
    dioxide = Molecule.named("CO2").with_charges([2, 2, 2])
    m, q = dioxide.ion_masses, dioxide.charges
    central = int(np.argmin(m))
    p = exact(dioxide.positions[None], m, q)
    p[0, central] = 0.0
    got = coulex.invert(p, m, q)
    assert got.n_solutions[0] >= 1
    assert nearest(got, dioxide.positions[None])[0] < 1e-8


def test_identical_ions_that_fly_alike_have_each_geometry_once():
    water = Molecule.named("H2O").with_charges([2, 1, 1])
    m, q = water.ion_masses, water.charges
    got = coulex.invert(exact(water.positions[None], m, q), m, q)
    assert nearest(got, water.positions[None])[0] < 1e-8
    lengths = np.array([
        [*np.sort([np.linalg.norm(x[1] - x[0]), np.linalg.norm(x[2] - x[0])]),
         np.linalg.norm(x[2] - x[1])]
        for x in got.solution_positions
    ])  # fmt: skip
    for i, j in permutations(range(len(lengths)), 2):
        assert np.abs(lengths[i] - lengths[j]).max() > 1e-5


def test_a_geometry_that_counts_twice_has_the_weight_of_two():
    """Momenta that are almost alike keep the labels of identical ions apart."""
    dioxide = Molecule.named("CO2").with_charges([2, 2, 2])
    m, q = dioxide.ion_masses, dioxide.charges
    p = exact(bent(1.2, 1.2, [60.0, 90.0, 120.0, 160.0])[:, [1, 0, 2]], m, q)
    off = 1e-5 * np.abs(p).max() * np.random.default_rng(12).normal(size=p.shape)
    off -= off.sum(axis=1, keepdims=True) * (m / m.sum())[:, None]
    off[..., 2] = 0.0
    alike, apart = (coulex.invert(momenta, m, q) for momenta in (p, p + off))
    assert_array_equal(alike.n_solutions, 3)
    assert_array_equal(apart.n_solutions, 4)
    for event in range(len(p)):
        once, twice = (w.solution_weight[w.solution_event == event] for w in (alike, apart))
        # two of the four differ by their labels alone, and are as probable
        pair = np.flatnonzero(np.abs(np.diff(twice)) < 1e-2 * twice[:-1])[0]
        joined = np.delete(twice, pair + 1)
        joined[pair] *= 2
        assert np.abs(np.sort(joined) - np.sort(once)).max() < 1e-3


def test_no_events():
    for charges in (CHARGES, np.empty((0, 3))):
        got = coulex.invert(np.empty((0, 3, 3)), MASSES, charges)
        assert len(got) == 0
        assert got.positions.shape == got.solution_positions.shape == (0, 3, 3)
        assert got.status.dtype == np.uint8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"momenta": np.zeros((2, 3))}, r"shape \(n, ions, 3\), got \(2, 3\)"),
        ({"momenta": np.zeros((2, 1, 3)), "masses": [1.0], "charges": [1.0]}, "two ions"),
        ({"masses": MASSES[:2]}, "3 ions, but masses"),
        ({"charges": [2.0, 0.0, 2.0]}, "charges must be positive"),
        ({"charges": [2.0, -1.0, 2.0]}, "attract one another have no inversion"),
        ({"charges": np.ones((5, 3))}, r"charges \(5, 3\)"),
        (
            {"prior": (Gaussian(sigma=0.1), Molecule.named("CH4"))},
            "5 atoms, the momenta 3 ions",
        ),
        ({"prior": (Equilibrium(), OCS)}, "equilibrium is no prior"),
        ({"tolerance": np.nan}, "tolerance must be positive"),
        ({"bounds": (9.0, 1.0)}, "bounds ascend"),
        ({"threads": 0}, "threads must be a positive"),
    ],
)
def test_what_is_refused(change, says):
    given = {"momenta": exact(bent(1.2, 1.6, 120.0)), "masses": MASSES, "charges": CHARGES}
    given |= change
    with pytest.raises(ValueError, match=says):
        coulex.invert(given.pop("momenta"), given.pop("masses"), given.pop("charges"), **given)


@pytest.mark.parametrize("change", [{"patience": 0}, {"max_starts": 0}, {"rounds": 0}])
def test_a_search_without_a_start_is_refused(change):
    with pytest.raises(ValueError, match="at least 1"):
        Search(**change)


def test_any_kind_of_array_gives_the_same_and_stays_as_it_is(box_events):
    p = box_events[1][:20].astype(np.float32).astype(float)
    p = (p - p.sum(axis=1, keepdims=True) / 3).astype(np.float32)
    given = p.astype(float)
    wanted = coulex.invert(given, MASSES, CHARGES, project=True)
    fixed = given.copy()
    fixed.setflags(write=False)
    strided = np.repeat(given, 2, axis=0)[::2]
    kinds = (given.tolist(), p, np.asfortranarray(given), fixed, strided)
    for kind in kinds:
        got = coulex.invert(kind, MASSES.tolist(), CHARGES.astype(int), project=True)
        for field in fields(s.Solutions):
            assert_array_equal(getattr(got, field.name), getattr(wanted, field.name))
    assert_array_equal(given, p)


# Laws.


def test_permuted_ions_have_permuted_solutions(box_events, found):
    _, p = box_events
    for order in ([2, 0, 1], [1, 0, 2]):
        got = coulex.invert(p[:, order], MASSES[order], CHARGES[order])
        agree(got, found, of_other=order)


def test_mass_charge_and_size_scale(box_events, found):
    # p goes like charge sqrt(mass / length)
    _, p = box_events
    got = coulex.invert(p * np.sqrt(3.0), 3 * MASSES, CHARGES)
    agree(got, found)
    got = coulex.invert(p * 0.5, MASSES, 0.5 * CHARGES)
    agree(got, found)
    got = coulex.invert(p / np.sqrt(1.5), MASSES, CHARGES, bounds=(1e-2, 1e4))
    agree(got, coulex.invert(p, MASSES, CHARGES, bounds=(1e-2, 1e4)), scale=1.5)


def test_solutions_turn_with_the_momenta(box_events, found):
    _, p = box_events
    turns = frames.random_rotations(12, 0, len(p))
    got = coulex.invert(frames.rotate(p, turns), MASSES, CHARGES)
    assert_array_equal(got.n_solutions, found.n_solutions)
    assert_allclose(got.solution_weight, found.solution_weight, atol=1e-6)
    turned = frames.rotate(found.solution_positions, turns[found.solution_event])
    assert np.abs(got.solution_positions - turned).max() < 1e-7


def test_charges_of_each_event(box_events, found):
    _, p = box_events
    factor = np.where(np.arange(len(p)) % 2, 1.0, 0.5)[:, None]
    got = coulex.invert(p * factor[:, :, None], MASSES, CHARGES * factor)
    agree(got, found)


def test_threads_and_callers_do_not_matter(box_events, found):
    _, p = box_events
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(coulex.invert, p, MASSES, CHARGES, threads=n) for n in (1, 2, 3)]
    for call in calls:
        for field in fields(s.Solutions):
            assert_array_equal(getattr(call.result(), field.name), getattr(found, field.name))


def test_a_prior_tells_solutions_apart(box_events, found):
    x, p = box_events
    prior = (Gaussian(sigma=0.02), Molecule.of(["O", "C", "S"], x[0]).with_charges([2, 2, 2]))
    got = coulex.invert(p[:1], MASSES, CHARGES, prior=prior)
    assert apart(got.positions, x[:1]) < 1e-8
    assert got.n_solutions[0] == found.n_solutions[0]


@pytest.mark.slow
def test_handedness_of_four_ions_is_kept():
    m, q = np.array([1836.0, 22000.0, 29000.0, 58000.0]), np.array([1.0, 2.0, 1.0, 2.0])
    x = np.array([[2.0, 0.2, 0.1], [0.0, 0.0, 0.0], [-0.9, 2.1, 0.3], [-0.8, -1.0, 2.4]])
    x = x - m @ x / m.sum()
    both = np.stack([x, x * [1.0, 1.0, -1.0]])
    p = coulex.simulate(both, m, q, tolerance=1e-13).momenta
    got = coulex.invert(p, m, q)
    assert nearest(got, both).max() < 1e-8
    mirrored = both[::-1][got.solution_event]
    assert apart(got.solution_positions, mirrored).min() > 0.1
    again = relative(exploded(got, m, q), p[got.solution_event])
    assert np.abs(again - got.solution_residual).max() < 1e-11
    nothing = coulex.invert(p[:0], m, q)
    assert nothing.solution_positions.shape == (0, 4, 3)
