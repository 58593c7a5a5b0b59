"""The parts of the compiled core one by one: tableaus, forces, steps.

They run in plain Python (``NUMBA_DISABLE_JIT=1``), where no number of nodes is to compile;
`test_engine` starts them so, and shows that compiled kernels give the same bits.
"""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import reference
from numba import config
from states import CHARGES, LANE, MASSES, State, moving, slope

from coulex.kernels import coulomb, engine, nystroem, pools

if not config.DISABLE_JIT:
    pytest.skip("needs NUMBA_DISABLE_JIT=1; test_engine runs it so", allow_module_level=True)

PAIRS = ("RKN6(4)FM", "RKN8(6)", "RKN12(10)")
ORDER = dict(zip(PAIRS, (6, 8, 12), strict=True))
LOWER = dict(zip(PAIRS, (4, 6, 10), strict=True))
EPS = np.finfo(float).eps


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.fixture(autouse=True)
def _lanes_may_hold_anything():
    with np.errstate(all="ignore"):  # as the driver does
        yield


# Tableaus, as they are published: exact numbers.


def exact(name):
    table = nystroem._published()[name]
    c, b, bp, bt, bpt = (list(map(Fraction, table[k])) for k in ("c", "b", "bp", "bt", "bpt"))
    rows = [[Fraction(a) for a in row] for row in table["A"]]
    return c, [row + [Fraction(0)] * (len(c) - len(row)) for row in rows], b, bp, bt, bpt


def dot(*factors):
    return sum(map(np.prod, zip(*factors, strict=True)), Fraction(0))


@pytest.mark.parametrize("name", PAIRS)
def test_tableaus_fulfil_the_order_conditions(name):
    """Of quadrature to the full order, and of the first trees beyond (Hairer et al., II.14).

    E. Hairer, S. P. Norsett, G. Wanner, Solving Ordinary Differential Equations I, 2nd ed.,
    doi:10.1007/978-3-540-78862-1.
    """
    c, a, b, bp, bt, bpt = exact(name)
    ones, order, lower = [Fraction(1)] * len(c), ORDER[name], LOWER[name]
    # 12(10) is published with 25 digits, the others as fractions
    slack = Fraction(1, 10**15) if name == "RKN12(10)" else 0

    def same(left, right):
        assert abs(left - right) <= slack

    for s, row in enumerate(a):
        same(dot(row, ones), c[s] ** 2 / 2)
    for k in range(order):
        powers = [x**k for x in c]
        same(dot(bp, powers), Fraction(1, k + 1))
        same(dot([u - w for u, w in zip(bp, bpt, strict=True)], powers) if k < lower else
             Fraction(1, k + 1), Fraction(1, k + 1))  # fmt: skip
        if k + 2 <= order:
            same(dot(b, powers), Fraction(1, (k + 1) * (k + 2)))
        if k + 2 <= lower:
            less = [u - w for u, w in zip(b, bt, strict=True)]
            same(dot(less, powers), Fraction(1, (k + 1) * (k + 2)))
        for n in range(order - k - 2):  # sum bp c^k A c^n
            inner = [dot(row, [x**n for x in c]) for row in a]
            same(dot(bp, powers, inner), Fraction(1, (n + 1) * (n + 2) * (n + k + 3)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_ends_with_the_first_stage_of_the_next_step(name, dtype):
    pair = nystroem.pair(name, dtype)
    c, _, b, bp, _, bpt = exact(name)
    count = len(pair.stages)
    assert pair.times.array.dtype == dtype
    assert [len(before) for before in pair.before] == list(range(1, count))
    assert pair.times[0, count - 1] == 1
    short = slice(len(b))
    for got, true in (
        (pair.positions.array[-1, short], b),
        (pair.velocities.array[0, short], bp),
        (pair.velocities.array[1, short], bpt),
        (pair.times.array[0, short], c),
    ):
        assert got == pytest.approx(np.array(true, float), rel=float(np.finfo(dtype).eps))
    assert not np.triu(pair.positions.array).any()


# Forces and energies.


def test_forces_and_energies_of_five_ions(rng):
    m, q = rng.uniform(1e3, 1e5, 5), np.array([1.0, -2.0, 3.0, 0.0, 0.5])
    x = rng.normal(size=(5, 3))
    v = rng.normal(size=(5, 3)) * 0.01
    state = State(x, v, m, q)
    at = state.at
    coulomb.forces(*state.among, at.x, at.trial, np.float64(2.5))
    true = 2.5 * reference.forces(x, q)
    assert np.abs(state[at.trial] - true).max() < 20 * EPS * np.abs(true).max()
    assert np.abs(state[at.trial].sum(axis=0)).max() < 20 * EPS * np.abs(true).max()

    potential, moduli, fastest, crowding = coulomb.energies(
        LANE, state.rows, state.ions, at.x, at.v, at.pairs, at.inverse_masses
    )
    pairs = list(itertools.combinations(range(5), 2))
    far = {(i, j): np.linalg.norm(x[i] - x[j]) for i, j in pairs}
    assert potential == pytest.approx(reference.potential(x, q), rel=1e-14)
    assert moduli == pytest.approx(reference.potential(x, np.abs(q)), rel=1e-14)
    rates = [abs(q[i] * q[j]) / far[i, j] ** 3 * (1 / m[i] + 1 / m[j]) for i, j in pairs]
    # of pairs that act on each other; ion 3 has no charge
    charged = [(i, j) for i, j in pairs if 3 not in (i, j)]
    closing = [-(x[i] - x[j]) @ (v[i] - v[j]) / far[i, j] ** 2 for i, j in charged]
    true = max(*rates, *np.maximum(closing, 0) ** 2)
    assert fastest == pytest.approx(true, rel=1e-14)
    true = (np.abs(x).max() / min(far.values())) ** 2
    assert crowding == pytest.approx(true, rel=1e-14)


def test_the_force_is_the_slope_of_the_potential(rng):
    x, h = rng.normal(size=(3, 3)), 1e-5
    force = State(x, x)[State(x, x).at.f]
    for i, axis in np.ndindex(3, 3):
        shift = np.zeros((3, 3))
        shift[i, axis] = h
        up, down = (reference.potential(x + s * shift, CHARGES) for s in (1, -1))
        # central difference: h^2 and rounding / h
        assert -(up - down) / (2 * h) == pytest.approx(force[i, axis], abs=1e-8)


# Steps.

#: a time, and numbers of steps for which the error is neither rounding nor beyond a power law
COUNTS = {
    "RKN6(4)FM": (400.0, (16, 24, 32, 48)),
    "RKN8(6)": (400.0, (8, 10, 12, 16)),
    "RKN12(10)": (800.0, (6, 8, 10, 12)),
}
#: single steps of which the same is true
STEPS = {
    "RKN6(4)FM": (12.0, 18.0, 25.0, 37.0),
    "RKN8(6)": (12.0, 18.0, 25.0, 37.0),
    "RKN12(10)": (25.0, 37.0, 50.0),
}


@pytest.mark.parametrize("name", PAIRS)
def test_order_of_convergence(rng, name):
    pair, (end, counts) = nystroem.pair(name, "float64"), COUNTS[name]
    errors = np.empty((6, len(counts), 2))
    for start in errors:
        x, v = moving(rng)
        true_x, true_v = reference.trajectory(x, v, MASSES, CHARGES, end=end)
        for error, count in zip(start, counts, strict=True):
            state = State(x, v)
            for _ in range(count):
                state.step(end / count, pair)
            error[0] = np.linalg.norm(state[state.at.x] - true_x) / np.linalg.norm(true_x)
            error[1] = np.linalg.norm(state[state.at.v] - true_v) / np.linalg.norm(true_v)
    for mean in np.exp(np.log(errors).mean(axis=0)).T:
        assert slope(counts, mean) == pytest.approx(-ORDER[name], abs=0.9)


@pytest.mark.parametrize("name", PAIRS)
def test_order_of_the_error_estimate(rng, name):
    pair, steps = nystroem.pair(name, "float64"), STEPS[name]
    estimates = np.empty((6, len(steps), 2))
    for start in estimates:
        x, v = moving(rng)
        start[:] = [State(x, v).step(h, pair) for h in steps]
    for mean in np.exp(np.log(estimates).mean(axis=0)).T:
        # 5.1, 7.3 and 10.2 as measured: of order 12, rounding leaves only steps of some length
        assert slope(steps, mean) == pytest.approx(LOWER[name] + 1, abs=0.9)
    # sum |dp|^2 / m and sum |dp|^2 differ by masses alone
    weighted, whole = np.moveaxis(estimates, -1, 0)
    assert (weighted**2 <= whole**2 / MASSES.min()).all()
    assert (weighted**2 >= whole**2 / MASSES.max()).all()


@pytest.mark.parametrize("name", PAIRS)
def test_the_error_estimate_is_not_below_the_error(rng, name):
    pair = nystroem.pair(name, "float64")
    for _ in range(5):
        x, v = moving(rng)
        h = STEPS[name][-1]
        state = State(x, v)
        _, estimate = state.step(h, pair)
        _, true = reference.trajectory(x, v, MASSES, CHARGES, end=h)
        wrong = np.linalg.norm(MASSES[:, None] * (state[state.at.v] - true))
        assert wrong < estimate  # the higher order is what is kept


@pytest.mark.parametrize("name", PAIRS)
def test_a_step_keeps_momentum_and_angular_momentum(rng, name):
    pair = nystroem.pair(name, "float64")
    x, v = moving(rng)

    def spin(x, v):
        return np.sum(np.cross(x, MASSES[:, None] * v), axis=0)

    scale = np.linalg.norm(x) * np.linalg.norm(MASSES[:, None] * v)
    lost = []
    end, counts = COUNTS[name]
    for count in counts:
        state = State(x, v)
        for _ in range(count):
            state.step(end / count, pair)
        x_end, v_end = state[state.at.x], state[state.at.v]
        assert np.abs(MASSES @ v_end).max() < 1e-13 * np.abs(MASSES[:, None] * v_end).max()
        assert np.abs(MASSES @ x_end).max() < 1e-12 * np.abs(MASSES[:, None] * x_end).max()
        lost.append(np.linalg.norm(spin(x_end, v_end) - spin(x, v)) / scale)
    assert lost[-1] < 1e-8
    assert slope(counts, lost) < -ORDER[name] + 2


@pytest.mark.parametrize("name", PAIRS)
def test_free_ions_are_moved_exactly(rng, name):
    x, v = moving(rng)
    state = State(x, v, q=np.zeros(3))
    weighted, whole = state.step(200.0, nystroem.pair(name, "float64"))
    assert weighted == whole == 0
    # ten roundings or so of the largest number on the way
    assert np.abs(state[state.at.v] - v).max() < 20 * EPS * np.abs(v).max()
    assert np.abs(state[state.at.x] - x - 200 * v).max() < 20 * EPS * np.abs(x + 200 * v).max()


@pytest.mark.parametrize(("order", "power"), [(6, 3 / 16), (8, 1 / 8), (12, 3 / 32)])
def test_growth_of_the_step(order, power):
    for error in (1e-9, 1e-4, 0.1, 1.0, 30.0, 1e9):
        got = engine.growth(LANE, np.float64(error**2), order)
        assert got == pytest.approx(np.clip(0.9 * error**-power, 0.2, 5), rel=1e-12)
    assert engine.growth(LANE, np.float64(np.inf), order) == 0.2
    assert engine.growth(LANE, np.float64(0.0), order) == 5


def test_bits_of_numbers(rng):
    for number in [0, 1, 0xFFFF, *rng.integers(0, 1 << 32, 100).tolist()]:
        assert pools.count_bits(number) == number.bit_count()
        for count in range(number.bit_count() + 1):
            kept = pools.lowest_bits(number, count)
            assert kept.bit_count() == count
            assert kept & ~number == 0
            assert kept == 0 or number & ((1 << kept.bit_length()) - 1) == kept
