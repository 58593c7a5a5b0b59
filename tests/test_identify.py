"""How well momenta determine a geometry, against inversions of noisy momenta."""

import numpy as np
import pytest

import coulex
from coulex import Box, Molecule, simulate
from coulex.geometry import coordinates
from coulex.inverse import identify
from coulex.units import ANGSTROM

OCS = Molecule.named("OCS").with_charges({"O": 2, "C": 2, "S": 2})
MASSES, CHARGES = OCS.ion_masses, OCS.charges
BOX = Box(
    first_bond=(0.8 * ANGSTROM, 3 * ANGSTROM),
    second_bond=(0.8 * ANGSTROM, 3 * ANGSTROM),
    angle_degrees=(90, 180),
)


def bent(one, two, degrees):
    """Return O, C, S with bonds in Å, C at the origin; the arguments broadcast."""
    one, two, angle = np.broadcast_arrays(one, two, np.radians(degrees))
    x = np.zeros((*one.shape, 3, 3))
    x[..., 0, 0] = one
    x[..., 2, 0], x[..., 2, 1] = two * np.cos(angle), two * np.sin(angle)
    return ANGSTROM * x


def test_gradients_are_differences():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(20, 3, 3))
    h = 1e-5
    for coordinate in coordinates("OCS", central=1):
        expected = np.empty(x.shape)
        for i in range(3):
            for axis in range(3):
                step = np.zeros((3, 3))
                step[i, axis] = h
                expected[:, i, axis] = coordinate.values(x + step)
                expected[:, i, axis] -= coordinate.values(x - step)
        expected /= 2 * h
        # the error of the differences, h²/6 of a third derivative, is largest at short bonds
        gradients = coordinate.gradients(x)
        assert np.abs(gradients - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("degrees", [0, 180])
def test_the_gradient_of_a_straight_angle_is_that_of_a_bend(degrees):
    angle = coordinates("OCS", central=1)[2]
    # bonds that differ, so that the ions are apart at 0 degrees too
    x = bent(1.2, 1.6, degrees)[None]
    x[:, :, 1] = 0.0  # the sine of π is not zero
    gradient = angle.gradients(x)
    assert gradient.sum(axis=1) == pytest.approx(0, abs=1e-10)
    for step in (1e-3, -1e-3):  # the angle leaves 180 degrees by the same either way
        moved = angle.values(x + step * gradient / np.linalg.norm(gradient))
        bend = 1e-3 * np.linalg.norm(gradient)
        assert abs(moved[0] - degrees) == pytest.approx(bend, rel=1e-4)


@pytest.fixture(scope="module")
def drawn():
    x, _ = BOX.sample(OCS, seed=11, first=0, count=2000)
    return x, identify(x, MASSES, CHARGES, symbols=OCS.symbols)


def test_deviations_are_the_spread_of_noisy_inversions(drawn):
    x, said = drawn
    noise, rng = 1e-3, np.random.default_rng(3)
    p = simulate(x, MASSES, CHARGES, tolerance=1e-13).momenta
    size = np.linalg.norm(p, axis=2, keepdims=True)
    p = p + noise * size * rng.standard_normal(p.shape)
    # the sum of the noise goes where the noise is
    p -= p.sum(axis=1, keepdims=True) * size**2 / (size**2).sum(axis=1, keepdims=True)
    found = coulex.invert(p, MASSES, CHARGES)
    rows = found.solution_event
    values, true = (
        np.stack([c.values(g) for c in said.coordinates], axis=1)
        for g in (found.solution_positions, x[rows])
    )
    apart = (values - true) / (said.deviations[rows] * noise / 0.01)
    order = np.lexsort((np.abs(apart).max(axis=1), rows))
    nearest = order[np.flatnonzero(np.diff(rows[order], prepend=-1))]
    apart = apart[nearest]
    assert len(apart) > 1980
    share = (np.abs(apart) < 1).mean(axis=0)
    # three standard deviations of a binomial of 2000 events
    assert np.abs(share - 0.6827).max() < 3 * np.sqrt(0.6827 * 0.3173 / 2000), share


def test_noise_of_one_percent_in_the_box(drawn):
    _, said = drawn
    # sd; the median of the error itself is 0.67 of it, 0.03 Å
    assert np.median(said.deviations[:, :2]) == pytest.approx(0.043, abs=0.004)


def test_the_fold_is_where_the_sign_changes():
    degrees = np.linspace(150, 175, 101)
    said = identify(bent(1.1562, 1.5614, degrees), MASSES, CHARGES)
    changes = np.flatnonzero(np.diff(said.sign))
    assert len(changes) == 1
    at = degrees[changes[0]] + 0.125
    assert at == pytest.approx(162, abs=0.5)
    assert said.condition[changes[0]] > 1e3
    # second order: the estimate falls to zero at the fold, in proportion to the distance
    near = np.abs(degrees - at)
    some = (near > 1) & (near < 2)
    ratio = said.fold_distance[some] / near[some]
    assert ratio.max() / ratio.min() < 1.5
    assert said.deviations[near < 0.2].min() > said.deviations[near > 3].max()


def test_size_and_charge_scale_the_deviations():
    x = bent(1.2, 1.7, 120.0)[None]
    one = identify(x, MASSES, CHARGES).deviations[0]
    large = identify(3 * x, MASSES, 2 * CHARGES).deviations[0]
    assert large == pytest.approx(one * [3, 3, 1], rel=1e-6)


def test_two_ions_have_a_size_only():
    # r = q1 q2 / KER: with momenta ±p, noise f|p| on each, sd of |p| is f|p|/√2, of r √2 f r
    x = np.array([[[0, 0, 0], [0, 0, 2.0 * ANGSTROM]]])
    said = identify(x, MASSES[:2], CHARGES[:2])
    assert said.deviations[0, 0] == pytest.approx(0.01 * np.sqrt(2) * 2.0, rel=1e-6)
    assert said.condition[0] == 1
    assert np.isinf(said.fold_distance[0])


def test_a_straight_molecule_and_wrong_symbols():
    x = bent(1.1562, 1.5614, 180.0)[None]
    x[:, :, 1] = 0.0
    said = identify(x, MASSES, CHARGES, symbols=OCS.symbols)
    assert np.isfinite(said.deviations).all()
    assert [c.label for c in said.coordinates] == ["CO", "CS", "OCS"]
    bend = identify(bent(1.1562, 1.5614, 179.99)[None], MASSES, CHARGES)
    assert said.deviations[0] == pytest.approx(bend.deviations[0], rel=1e-3)
    with pytest.raises(ValueError, match="3 ions, but symbols O C"):
        identify(x, MASSES, CHARGES, symbols=["O", "C"])
