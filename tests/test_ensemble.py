import json
import math

import numpy as np
import pytest
from numba import config
from numpy.testing import assert_allclose, assert_array_equal

from coulex import frames
from coulex.ensemble import (
    ENSEMBLES,
    Box,
    Ensemble,
    Equilibrium,
    Frames,
    Gaussian,
    Sphere,
    orient,
)
from coulex.molecule import Molecule

SEED = 11
MANY = 1_000 if config.DISABLE_JIT else 100_000  # a thousand times slower without compiler
#: largest distance between an empirical and the true distribution, exceeded once in 10^4
KOLMOGOROV = np.sqrt(np.log(2e4) / 2)

OCS = Molecule.named("OCS")
BOX = {"first_bond": (1.5, 4.0), "second_bond": (2.0, 5.0), "angle_degrees": (90.0, 180.0)}
WIGGLE = OCS.positions + 0.1 * np.random.default_rng(1).normal(size=(7, 3, 3))
EXAMPLES = [
    Equilibrium(),
    Gaussian(sigma=0.2),
    Sphere(radius=4.0, min_distance=0.25),
    Box(**BOX),
    Frames(positions=WIGGLE),
]


def distance_from_law(values, cumulative):
    """Kolmogorov's distance, in units of what it may be."""
    ordered = np.sort(values)
    n = len(ordered)
    steps = np.abs(cumulative(ordered) - (np.arange(n) + 0.5) / n)
    return steps.max() / (KOLMOGOROV / np.sqrt(n))


def test_every_ensemble_is_tried():
    assert {type(example) for example in EXAMPLES} == set(ENSEMBLES.values())
    assert all(ENSEMBLES[name].name == name for name in ENSEMBLES)
    assert all(issubclass(kind, Ensemble) for kind in ENSEMBLES.values())


@pytest.mark.parametrize("ensemble", EXAMPLES, ids=lambda e: e.name)
class TestContract:
    def test_blocks_make_up_the_whole(self, ensemble):
        whole, _ = ensemble.sample(OCS, seed=SEED, first=0, count=100)
        cuts = [(0, 1), (1, 37), (37, 100)]
        blocks = [ensemble.sample(OCS, seed=SEED, first=a, count=b - a)[0] for a, b in cuts]
        assert_array_equal(np.concatenate(blocks), whole)

    def test_shape_and_rest(self, ensemble):
        for count in (0, 1, 5):
            positions, momenta = ensemble.sample(OCS, seed=SEED, first=9, count=count)
            assert positions.shape == (count, 3, 3)
            assert np.isfinite(positions).all()
            assert momenta is None

    def test_the_result_is_the_callers_own(self, ensemble):
        before = OCS.positions.copy()
        positions, _ = ensemble.sample(OCS, seed=SEED, first=0, count=5)
        again, _ = ensemble.sample(OCS, seed=SEED, first=0, count=5)
        positions += 1
        assert_array_equal(ensemble.sample(OCS, seed=SEED, first=0, count=5)[0], again)
        assert_array_equal(OCS.positions, before)

    def test_description_is_json_and_names_it(self, ensemble):
        told = json.loads(json.dumps(ensemble.describe()))
        assert told == ensemble.describe()
        assert told.pop("name") == ensemble.name
        if ensemble.name != "frames":
            assert ENSEMBLES[ensemble.name](**told) == ensemble

    def test_wrong_events_are_refused(self, ensemble):
        with pytest.raises(ValueError, match="first must lie between"):
            ensemble.sample(OCS, seed=SEED, first=-1, count=2)
        with pytest.raises(ValueError, match="count must be an integer"):
            ensemble.sample(OCS, seed=SEED, first=0, count=2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("ensemble", EXAMPLES[1:4], ids=lambda e: e.name)
def test_seeds_differ(ensemble):
    one, two = (ensemble.sample(OCS, seed=s, first=0, count=50)[0] for s in (1, 2))
    assert (np.abs(one - two).max(axis=(1, 2)) > 0).all()


def test_equilibrium_is_the_molecule():
    positions, _ = Equilibrium().sample(OCS, seed=SEED, first=0, count=3)
    assert_array_equal(positions, [OCS.positions] * 3)


def test_gaussian_has_its_mean_and_covariance():
    n, sigma = MANY, 0.2
    positions, _ = Gaussian(sigma=sigma).sample(OCS, seed=SEED, first=0, count=n)
    z = (positions - OCS.positions).reshape(n, 9) / sigma
    assert np.abs(z.mean(axis=0)).max() < 5 / np.sqrt(n)
    # a variance has the standard error sqrt(2 / n), a covariance sqrt(1 / n)
    assert_allclose(z.T @ z / n, np.eye(9), atol=5 * np.sqrt(2 / n))


def test_sphere_keeps_its_promises():
    ensemble = Sphere(radius=2.0, min_distance=0.9)
    methane = Molecule.named("CH4")
    positions, _ = ensemble.sample(methane, seed=SEED, first=0, count=MANY // 5)
    assert np.linalg.norm(positions, axis=2).max() <= 2
    i, j = np.triu_indices(5, 1)
    distances = np.linalg.norm(positions[:, i] - positions[:, j], axis=2)
    assert 0.9 <= distances.min() < 0.95


def test_two_points_in_a_sphere_have_the_known_distance():
    # the density of the distance s of two points in the unit ball, 3 s² - 9 s³/4 + 3 s⁵/16
    # (Kendall and Moran, Geometrical Probability, 1963), cut off below the least distance
    radius, least = 3.0, 1.2
    nitrogen = Molecule.named("N2")
    ensemble = Sphere(radius=radius, min_distance=least)
    positions, _ = ensemble.sample(nitrogen, seed=SEED, first=0, count=MANY)
    s = np.linalg.norm(positions[:, 0] - positions[:, 1], axis=1) / radius

    def ball(s):
        return s**3 - 9 / 16 * s**4 + s**6 / 32

    low = ball(least / radius)
    assert distance_from_law(s, lambda s: (ball(s) - low) / (1 - low)) < 1
    # without a preferred direction
    axis = (positions[:, 0] - positions[:, 1]) / (s[:, None] * radius)
    assert distance_from_law(axis[:, 2], lambda c: (1 + c) / 2) < 1


def test_a_tight_sphere_treats_all_atoms_alike():
    # Drawing only the last atom again would leave the first ones too near the middle.
    n = MANY // 2
    ozone = Molecule.named("O3")
    positions, _ = Sphere(radius=1.0, min_distance=1.2).sample(
        ozone, seed=SEED, first=0, count=n
    )
    squares = np.sum(positions**2, axis=2)
    error = np.sqrt(2 * squares.var(axis=0).max() / n)
    assert np.ptp(squares.mean(axis=0)) < 5 * error


def test_a_hopeless_sphere_says_so():
    benzene = Molecule.named("C6H6")
    message = r"event 3: of 10000 geometries .* two of 12 atoms .* raise `radius` or lower"
    with pytest.raises(ValueError, match=message):
        Sphere(radius=1.0, min_distance=1.2).sample(benzene, seed=SEED, first=3, count=5)


def test_box_is_uniform_in_bonds_and_angle():
    n = MANY
    positions, _ = Box(**BOX).sample(OCS, seed=SEED, first=0, count=n)
    o, c, s = positions.transpose(1, 0, 2)
    drawn = {
        "first_bond": np.linalg.norm(o - c, axis=1),
        "second_bond": np.linalg.norm(s - c, axis=1),
        "angle_degrees": np.degrees(frames.angle(o, c, s)),
    }
    for name, values in drawn.items():
        low, high = BOX[name]
        assert distance_from_law(values, lambda v, a=low, b=high: (v - a) / (b - a)) < 1
    correlation = np.corrcoef(list(drawn.values())) - np.eye(3)
    assert np.abs(correlation).max() < 5 / np.sqrt(n)


def test_box_lies_as_documented():
    positions, _ = Box(**BOX).sample(OCS, seed=SEED, first=0, count=100)
    assert_array_equal(positions[:, 1], 0)
    assert (positions[:, 0, 0] > 0).all()
    assert_array_equal(positions[:, 0, 1:], 0)
    assert (positions[:, 2, 1] >= 0).all()
    assert_array_equal(positions[:, 2, 2], 0)


def test_box_takes_the_central_atom_it_is_told():
    sharp = {"first_bond": (2, 2), "second_bond": (3, 3), "angle_degrees": (120, 120)}
    positions, _ = Box(**sharp, central=2).sample(OCS, seed=SEED, first=0, count=1)
    o, c, s = positions[0]
    assert np.linalg.norm(o - s) == pytest.approx(2)
    assert np.linalg.norm(c - s) == pytest.approx(3)
    assert np.degrees(frames.angle(o, s, c)) == pytest.approx(120)


def test_frames_come_in_their_order_and_again():
    positions, _ = Frames(positions=WIGGLE).sample(OCS, seed=SEED, first=5, count=10)
    assert_array_equal(positions, WIGGLE[np.arange(5, 15) % 7])
    last, _ = Frames(positions=WIGGLE).sample(OCS, seed=SEED, first=2**64 - 3, count=3)
    assert_array_equal(last, WIGGLE[[(2**64 - 3 + i) % 7 for i in range(3)]])


def test_orientation_turns_positions_and_momenta_alike():
    positions, _ = Gaussian(sigma=0.2).sample(OCS, seed=SEED, first=0, count=50)
    x, p = orient(positions, 3 * positions, how="random", seed=SEED, first=0)
    assert p is not None
    assert_allclose(p, 3 * x, atol=1e-14)
    gram = np.einsum("nik,njk->nij", positions, positions)
    assert_allclose(np.einsum("nik,njk->nij", x, x), gram, atol=1e-13)


def test_orientation_is_random_and_belongs_to_the_event():
    n = MANY
    positions, _ = Equilibrium().sample(OCS, seed=SEED, first=0, count=n)
    x, none = orient(positions, None, how="random", seed=SEED, first=0)
    assert none is None
    axis = (x[:, 2] - x[:, 0]) / np.linalg.norm(x[:, 2] - x[:, 0], axis=1, keepdims=True)
    for component in axis.T:
        assert distance_from_law(component, lambda c: (1 + c) / 2) < 1
    part, _ = orient(positions[40:60], None, how="random", seed=SEED, first=40)
    assert_array_equal(part, x[40:60])


def test_orientation_is_independent_of_the_geometry():
    n = MANY
    drawn, _ = Box(**BOX).sample(OCS, seed=SEED, first=0, count=n)
    turned, _ = orient(drawn, None, how="random", seed=SEED, first=0)
    bond = np.linalg.norm(drawn[:, 0], axis=1)
    axis = turned[:, 0] / bond[:, None]
    centred = bond - bond.mean()
    columns = np.column_stack([centred, centred**2, axis, axis**2])
    correlation = np.corrcoef(columns, rowvar=False)[:2, 2:]
    assert np.abs(correlation).max() < 5 / np.sqrt(n)


def test_given_orientation_changes_nothing():
    positions, _ = Equilibrium().sample(OCS, seed=SEED, first=0, count=3)
    x, p = orient(positions, None, how="given", seed=SEED, first=0)
    assert_array_equal(x, positions)
    assert p is None
    with pytest.raises(ValueError, match='"given" or "random", got \'aligned\''):
        orient(positions, None, how="aligned", seed=SEED, first=0)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Gaussian, {"sigma": 0.0}, "sigma must be positive and finite, got 0.0"),
        (Gaussian, {"sigma": math.nan}, "sigma must be positive and finite, got nan"),
        (Sphere, {"radius": -1.0, "min_distance": 0.1}, "radius must be positive"),
        (Sphere, {"radius": 1.0, "min_distance": 0.0}, "min_distance must be positive"),
        (Sphere, {"radius": 1.0, "min_distance": 2.0}, "2 does not fit .* radius 1 bohr"),
        (Box, BOX | {"first_bond": (2.0, 1.0)}, r"first_bond must be \(from, to\)"),
        (Box, BOX | {"second_bond": (1.0, math.inf)}, "second_bond must be"),
        (Box, BOX | {"second_bond": (0.0, 1.0)}, "longer than 0"),
        (Box, BOX | {"angle_degrees": (90.0, 181.0)}, "angle_degrees must be .* 0 to 180"),
        (Box, BOX | {"angle_degrees": (90.0,)}, "angle_degrees must be"),
        (Frames, {"positions": np.zeros((0, 3, 3))}, r"got \(0, 3, 3\)"),
        (Frames, {"positions": np.full((2, 3, 3), np.nan)}, "frame 0 .* atom 0 "),
    ],
)
def test_wrong_options_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_ensembles_that_do_not_fit_the_molecule_are_refused():
    water, methane = Molecule.named("H2O"), Molecule.named("CH4")
    with pytest.raises(ValueError, match="for three atoms, but CH4 has 5"):
        Box(**BOX).sample(methane, seed=SEED, first=0, count=1)
    with pytest.raises(ValueError, match="must be 0, 1 or 2, got 3"):
        Box(**BOX, central=3).sample(water, seed=SEED, first=0, count=1)
    with pytest.raises(ValueError, match="frames of 3 atoms, but 5"):
        Frames(positions=WIGGLE).sample(methane, seed=SEED, first=0, count=1)
