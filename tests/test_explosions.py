"""What `coulex.simulate` promises: known results, and statuses where there are none."""

import json
from pathlib import Path

import numpy as np
import pytest
import reference
from numba import config
from numpy.testing import assert_array_equal
from simulating import (
    BOUND,
    COINCIDENT,
    GOOD,
    OCS,
    OUT_OF_RANGE,
    STEP_LIMIT,
    C,
    H,
    O,
    S,
    ocs,
    scattered,
)

from coulex import Molecule, frames, simulate
from coulex.observables import kinetic_energies
from coulex.units import EV

HERE = Path(__file__)
#: all published cases, where this repository stands beside them; a few always
SHARED = HERE.parents[2] / "shared" / "reference" / "explosions.json"
OURS = HERE.with_name("explosions.json")
DEFAULT, TIGHT = 1e-9, 1e-13
MANY = 20 if config.DISABLE_JIT else 200


def slow_to_compile(ions, tolerance=DEFAULT):
    """Mark kernels that nothing else needs: compiled ones take 20 s, those in Python none."""
    needed = (ions, tolerance) in {
        (2, DEFAULT),
        (3, DEFAULT),
        (3, TIGHT),
        (5, DEFAULT),
        (5, TIGHT),
    }
    return () if needed or config.DISABLE_JIT else pytest.mark.slow


BOTH = [pytest.param(t, marks=slow_to_compile(2, t)) for t in (DEFAULT, TIGHT)]


@pytest.fixture
def rng():
    return np.random.default_rng(20240501)


def assert_good(run, true, bound):
    assert run.failures() == ""
    assert not run.status.any()
    assert reference.errors(run.momenta, true).max() <= bound


# Two ions, in closed form. What is left at the tightest setting is 1e-13 of the method.


def pairs(rng, n, attractive):
    """Two ions that meet at any distance and with any angular momentum, but are not bound."""
    m, q = np.array([H, 100 * H]), np.array([1.0, -2.0 if attractive else 3.0])
    x = rng.normal(size=(n, 2, 3))
    far = np.linalg.norm(x[:, 0] - x[:, 1], axis=1)
    energy = rng.uniform(1.2 if attractive else 0.0, 4.0, n) * np.abs(q.prod()) / far
    way = rng.normal(size=(n, 3))
    if attractive:  # straight at each other, they would collide
        way = np.cross(way, x[:, 0] - x[:, 1]) + 0.5 * way
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    way *= np.sqrt(2 * m.prod() / m.sum() * energy)[:, None]
    drift = rng.normal(size=(n, 1, 3)) * m[:, None] / H
    return x, np.stack([way, -way], axis=1) + drift, m, q


@pytest.mark.parametrize("tolerance", BOTH)
@pytest.mark.parametrize(("m1", "m2"), [(H, H), (H, 127 * H), (S, O)])
def test_two_ions_from_rest_share_their_potential_energy(m1, m2, tolerance):
    far = np.geomspace(0.01, 100, 41)
    x = np.zeros((41, 2, 3))
    x[:, 1, 0] = far
    q = np.array([2.0, 3.0])
    run = simulate(x, [m1, m2], q, tolerance=tolerance)
    true = np.zeros((41, 2, 3))
    true[:, 1, 0] = np.sqrt(2 * m1 * m2 / (m1 + m2) * q.prod() / far)
    true[:, 0, 0] = -true[:, 1, 0]
    assert_good(run, true, tolerance)
    assert_array_equal(run.momenta[..., 1:], 0)  # on a line they stay


@pytest.mark.parametrize("tolerance", BOTH)
@pytest.mark.parametrize("attractive", [False, True])
def test_two_ions_in_motion_follow_kepler(rng, attractive, tolerance):
    x, p, m, q = pairs(rng, MANY, attractive)
    run = simulate(
        x, m, q, initial_momenta=p, allow_attraction=attractive, tolerance=tolerance
    )
    assert_good(run, reference.kepler(x, p, m, q), tolerance)


@pytest.mark.parametrize("tolerance", [DEFAULT, TIGHT])
@pytest.mark.parametrize("attractive", [False, True])
def test_a_neutral_spectator_neither_feels_nor_acts(rng, attractive, tolerance):
    x, p, m, q = pairs(rng, MANY, attractive)
    spectator = rng.normal(size=(2, MANY, 1, 3)) * np.array([1, 30])[:, None, None, None]
    x, p = (np.concatenate([a, b], axis=1) for a, b in zip((x, p), spectator, strict=True))
    run = simulate(
        x,
        [*m, O],
        [*q, 0],
        initial_momenta=p,
        allow_attraction=attractive,
        tolerance=tolerance,
    )
    true = np.concatenate([reference.kepler(x[:, :2], p[:, :2], m, q), p[:, 2:]], axis=1)
    assert_good(run, true, tolerance)
    # in and out of the frame of the centre of mass: a few roundings of the largest momentum
    assert np.abs(run.momenta[:, 2] - p[:, 2]).max() < 1e-13 * np.abs(run.momenta).max()


# Explosions that others have computed.


def cases():
    path = SHARED if SHARED.exists() else OURS
    for case in json.loads(path.read_text())["cases"]:
        if case["tau"] is None:
            yield {k: np.array(v) if isinstance(v, list) else v for k, v in case.items()}


def per_case(tolerance):
    return [
        pytest.param(
            case, id=case["name"], marks=slow_to_compile(len(case["masses"]), tolerance)
        )
        for case in cases()
    ]


def explode(case, tolerance):
    return simulate(
        case["initial_positions"][None],
        case["masses"],
        case["charges"],
        initial_momenta=case["initial_momenta"][None],
        tolerance=tolerance,
    )


@pytest.mark.parametrize("case", per_case(DEFAULT))
def test_published_momenta_at_the_default(case):
    assert_good(explode(case, None), [case["momenta"]], 1e-9)


@pytest.mark.parametrize("case", per_case(TIGHT))
def test_published_momenta_at_the_tightest(case):
    # in its close pair, 1e-16 of the position of a nucleus is 1e-15 of their distance
    assert_good(explode(case, TIGHT), [case["momenta"]], max(1e-12, case["uncertainty"]))


def test_all_published_cases_are_there():
    if not SHARED.exists():
        pytest.skip(f"the full list of cases is not at ../shared/reference/{SHARED.name}")
    ours = {case["name"]: case for case in json.loads(OURS.read_text())["cases"]}
    theirs = {case["name"]: case for case in json.loads(SHARED.read_text())["cases"]}
    assert len(ours) == 9
    assert ours.items() <= theirs.items()
    assert len(list(cases())) == 40


@pytest.mark.parametrize(
    ("charges", "ker_ev"), [((1, 1, 1), 26.975), ((2, 1, 2), 64.55), ((2, 2, 2), 107.90)]
)
def test_energies_of_carbonyl_sulfide(charges, ker_ev):
    run = simulate(ocs(1.1562, 1.5614), OCS, charges)
    energies = kinetic_energies(run.momenta, OCS)[0] / EV
    assert energies.sum() == pytest.approx(ker_ev, abs=0.005)
    if charges == (1, 1, 1):
        assert energies == pytest.approx([15.68, 0.60, 10.70], abs=0.005)


def test_methane_five_times_ionized():
    methane = Molecule.named("CH4").with_charges([1] * 5)
    run = simulate(methane.positions[None], methane.ion_masses, methane.charges)
    assert kinetic_energies(run.momenta, methane.ion_masses).sum() / EV == pytest.approx(
        102, abs=1
    )
    # four hydrogens alike; the carbon stays, to the rounding of the positions in the library
    size = np.linalg.norm(run.momenta[0], axis=1)
    assert size[1:] == pytest.approx(size[1], rel=1e-6)
    assert size[0] < 1e-6 * size[1]


def test_two_geometries_of_carbonyl_sulfide_with_the_same_momenta():
    pair = np.concatenate([ocs(1.8949, 1.2990, 160.601), ocs(2.4860, 1.0755, 164.568)])
    p = simulate(pair, OCS, [2, 2, 2]).momenta
    p = frames.rotate(p, frames.recoil_frame(p, reference=0, second=2))
    assert reference.errors(p[:1], p[1:])[0] < 3e-5
    assert kinetic_energies(p, OCS).sum(axis=1) / EV == pytest.approx([93.02] * 2, abs=0.005)
    between = [
        frames.angle(p[0, i], np.zeros(3), p[0, j]) for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    assert np.degrees(between) == pytest.approx([91.42, 149.21, 119.37], abs=0.01)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_energy_error_is_that_of_the_momenta(rng, precision):
    x, p = reference.in_sphere(rng, 50, 3), rng.normal(size=(50, 3, 3)) * 20
    p -= OCS[:, None] * p.sum(axis=1, keepdims=True) / OCS.sum()
    run = simulate(x, OCS, [1, 2, 3], initial_momenta=p, precision=precision)
    assert run.momenta.dtype == run.energy_error.dtype == run.error_estimate.dtype == precision
    before = [reference.potential(r, np.array([1.0, 2, 3])) for r in x]
    before += kinetic_energies(p, OCS).sum(axis=1)
    actual = kinetic_energies(run.momenta, OCS).sum(axis=1) / before - 1
    # ten to twenty roundings on either side
    assert np.abs(actual - run.energy_error).max() < 20 * np.finfo(precision).eps


# Events without a result, and what stands beside them.


@pytest.fixture
def three(rng):
    return scattered(rng)


def test_coincident_ions_have_a_status_and_do_no_harm(three):
    broken = three.copy()
    broken[[7, 19], 2] = broken[[7, 19], 0]
    run, whole = simulate(broken, OCS, [1, 2, 1]), simulate(three, OCS, [1, 2, 1])
    assert list(np.flatnonzero(run.status)) == [7, 19]
    assert set(run.status[[7, 19]]) == {COINCIDENT}
    for array in (run.momenta, run.energy_error, run.error_estimate):
        assert np.isnan(array[[7, 19]]).all()
    good = run.status == GOOD
    assert_array_equal(run.momenta[good], whole.momenta[good])
    said = "2 of 20 events failed; first 7: coincident ions; move the ions apart"
    assert run.failures() == said


@pytest.mark.parametrize("charges", [(1, 1, 1), (1, 1, 0), (0, 0, 0)])
def test_ions_that_all_coincide(charges):
    run = simulate(np.ones((1, 3, 3)), OCS, charges)
    assert run.status[0] == COINCIDENT
    assert np.isnan(run.momenta).all()


def test_step_limit(three):
    run = simulate(three, OCS, [1, 1, 1], max_steps=2)
    assert set(run.status) == {STEP_LIMIT}
    assert np.isnan(run.momenta).all()
    assert run.failures() == (
        "20 of 20 events failed; first 0: step limit; raise max_steps, or loosen the tolerance"
    )
    assert not simulate(three, OCS, [1, 1, 1], max_steps=300).status.any()


def test_a_pair_that_stays_bound():
    """A proton and a negative ion: on a circle, falling on each other, and left by a third."""
    x = np.array([[[0, 0, 0], [2, 0, 0], [0, 500, 0]]] * 3, float)
    x[2, 2] = [0, 1.0, 0]
    m, q = np.array([H, H, O]), np.array([1.0, -1.0, 0.0])
    speed = np.sqrt(0.5 / (2 * (H / 2)))  # mu v^2 / r = 1 / r^2
    p = np.zeros((3, 3, 3))
    p[0, :2, 1] = np.array([0.5, -0.5]) * H * speed
    p[2, 2, 1] = 1000.0
    run = simulate(x, m, q, initial_momenta=p, allow_attraction=True)
    assert list(run.status) == [BOUND] * 3
    assert np.isnan(run.momenta).all()
    assert "first 0: bound pair; a pair that stays bound has no" in run.failures()


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_what_cannot_part_is_bound_whatever_the_precision(precision):
    """Two that fall on each other from rest: alone, and with a third that leaves or stays."""
    options = {"allow_attraction": True, "precision": precision, "max_steps": 2000}
    two = np.array([[[0, 0, 0], [2.0, 0, 0]]])
    assert list(simulate(two, [H, H], [1, -1], **options).status) == [BOUND]
    x = np.concatenate([two, [[[0, 50.0, 0]]]], axis=1)
    p = np.zeros((1, 3, 3))
    for p[0, 2, 1] in (0.0, 1000.0):
        for charge in (0, 1):
            run = simulate(x, [H, H, O], [1, -1, charge], initial_momenta=p, **options)
            assert list(run.status) == [BOUND]
            assert np.isnan(run.momenta).all()


@pytest.mark.parametrize(
    ("precision", "lengths"),
    [("float32", [1e-30, 1e-13, 1e14, 1e30, 1e45]), ("float64", [1e-100, 1e150])],
)
def test_numbers_beyond_the_precision_have_a_status(three, precision, lengths):
    """Forces that would come out as zero or infinite, and momenta with them."""
    for length in lengths:
        run = simulate(length * three, OCS, [1, 2, 1], precision=precision)
        assert set(run.status) <= {OUT_OF_RANGE, COINCIDENT}
        assert np.isnan(run.momenta).all()
        neutral = simulate(length * three, OCS, [0, 2, 0], precision=precision)
        assert not neutral.momenta.any()
    few = simulate(three, OCS, [1e-25, 2e-25, 0], precision="float32")
    assert set(few.status) == {OUT_OF_RANGE}
    assert "first 0: out of range; use float64" in few.failures()


@pytest.mark.parametrize(
    ("precision", "lengths", "tolerance"),
    [("float32", [1e-6, 1e6], 3e-4), ("float64", [1e-50, 1e50], 1e-9)],
)
def test_lengths_within_the_precision_are_right(three, precision, lengths, tolerance):
    true = simulate(three, OCS, [1, 2, 1], tolerance=1e-11).momenta
    for length in lengths:
        run = simulate(length * three, OCS, [1, 2, 1], precision=precision)
        assert not run.status.any()
        momenta = run.momenta.astype(float) * np.sqrt(length)
        assert reference.errors(momenta, true).max() <= tolerance


def test_what_attracts_without_being_bound_is_right(rng):
    n = 4 if config.DISABLE_JIT else 40  # those that stay bound take ten thousand steps
    x = rng.normal(size=(n, 3, 3)) * 2
    m, q = np.array([H, O, C]), np.array([1.0, -1.0, 2.0])
    p = rng.normal(size=(n, 3, 3)) * np.sqrt(2 * m)[:, None]  # three hartree for each ion
    p -= m[:, None] * p.sum(axis=1, keepdims=True) / m.sum()
    run = simulate(x, m, q, initial_momenta=p, allow_attraction=True)
    good = np.flatnonzero(run.status == GOOD)
    assert good.size > n / 4
    true = [reference.explode(x[i], m, q, p[i]) for i in good]
    assert reference.errors(run.momenta[good], true).max() <= DEFAULT
    assert set(run.status) <= {GOOD, BOUND}


def test_neutrals_alone_keep_their_momenta(rng, three):
    p = rng.normal(size=three.shape)
    run = simulate(three, OCS, [0, 0, 0], initial_momenta=p)
    assert_array_equal(run.momenta, p)
    assert not run.status.any()
    assert_array_equal(run.energy_error, 0)
    assert_array_equal(run.error_estimate, 0)
    assert_array_equal(simulate(three, OCS, [0, 2, 0]).momenta, 0)


def test_charges_of_each_event(three):
    common = np.array([[1, 1, 1], [2, 0, 2], [0, 0, 0], [1.5, 2.5, 3.0], [-1, -2, -1]])
    which = np.arange(20) % 5
    run = simulate(three, OCS, common[which])
    assert not run.status.any()
    for kind, charges in enumerate(common):
        mine = which == kind
        assert_array_equal(run.momenta[mine], simulate(three[mine], OCS, charges).momenta)


def test_only_products_of_charges_matter(three):
    plus, minus = (simulate(three, OCS, sign * np.array([1, 2, 3])) for sign in (1, -1))
    assert_array_equal(plus.momenta, minus.momenta)
