"""What `coulex.simulate` accepts, in which forms, and what it refuses."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from simulating import GOOD, OCS, OUT_OF_RANGE, scattered

from coulex import simulate
from coulex.explosions import STATUS


@pytest.fixture
def rng():
    return np.random.default_rng(20240501)


@pytest.fixture
def three(rng):
    return scattered(rng)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_an_empty_batch(precision):
    run = simulate(np.zeros((0, 3, 3)), OCS, [1, 1, 1], precision=precision)
    assert run.momenta.shape == (0, 3, 3)
    assert run.momenta.dtype == precision
    assert run.status.shape == run.energy_error.shape == run.error_estimate.shape == (0,)
    assert run.failures() == ""
    assert simulate(np.zeros((0, 3, 3)), OCS, np.ones((0, 3))).momenta.shape == (0, 3, 3)


def strided(a):
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan)
    wide[..., ::2] = a
    return wide[..., ::2]


def unaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[:] = a
    return view


def locked(a):
    a = a.copy()
    a.flags.writeable = False
    return a


@pytest.mark.parametrize(
    "form",
    [
        np.asfortranarray,
        strided,
        unaligned,
        locked,
        np.ndarray.tolist,
        lambda a: a.astype(">f8"),
        lambda a: a.astype(np.float32),
        lambda a: a[::-1].copy()[::-1],
    ],
    ids=[
        "fortran",
        "strided",
        "unaligned",
        "read-only",
        "list",
        "big-endian",
        "float32",
        "reversed",
    ],
)
def test_any_form_of_array_will_do(rng, three, form):
    x, p = (
        a.astype(np.float32).astype(float) for a in (three, 10 * rng.normal(size=three.shape))
    )
    m, q = OCS.round(), np.ones((20, 3))
    given = [form(a) for a in (x, m, q, p)]
    before = [np.array(a) for a in given]
    run = simulate(*given[:3], initial_momenta=given[3])
    assert_array_equal(run.momenta, simulate(x, m, q, initial_momenta=p).momenta)
    assert not run.status.any()
    for array, old in zip(given, before, strict=True):
        assert_array_equal(array, old)
    assert run.momenta.flags.writeable


def test_whole_numbers_will_do():
    x = np.arange(9).reshape(1, 3, 3) ** 2
    run = simulate(x, [1000, 2000, 3000], [1, 1, 1])
    assert_array_equal(run.momenta, simulate(x * 1.0, [1e3, 2e3, 3e3], np.ones(3)).momenta)


def test_a_result_belongs_to_the_caller(three):
    first = simulate(three, OCS, [1, 1, 1])
    kept = first.momenta.copy()
    simulate(three + 0.1, OCS, [2, 2, 2])
    assert_array_equal(first.momenta, kept)


X, M, Q = np.arange(18.0).reshape(2, 3, 3), np.ones(3), np.ones(3)


def with_nan(array, place):
    out = array.copy()
    out[place] = np.nan
    return out


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((X[0], M, Q), {}, r"positions must have shape \(n, ions, 3\), got \(3, 3\)"),
        ((X[..., :2], M, Q), {}, r"positions must have shape .*, got \(2, 3, 2\)"),
        ((X[:, :1], M[:1], Q[:1]), {}, "an explosion needs two ions at least, got 1"),
        ((X[:, :0], M[:0], Q[:0]), {}, "an explosion needs two ions at least, got 0"),
        ((X, M[:2], Q), {}, r"3 ions, but masses \(2,\)"),
        ((X, M, Q[:2]), {}, r"2 events of 3 ions, but charges \(2,\)"),
        ((X, M, np.ones((3, 3))), {}, r"2 events of 3 ions, but charges \(3, 3\)"),
        ((X, M, Q), {"initial_momenta": X[:1]}, r"initial_momenta \(1, 3, 3\) and positions"),
        ((with_nan(X, (1, 2, 0)), M, Q), {}, "position of ion 2 in event 1 is not finite"),
        ((X + np.inf, M, Q), {}, "position of ion 0 in event 0 is not finite"),
        (
            (X, M, Q),
            {"initial_momenta": with_nan(X, (0, 1, 2))},
            "initial momentum of ion 1 in event 0 is not finite",
        ),
        ((X, [1, 0, 1], Q), {}, r"masses must be positive, got \[1\. 0\. 1\.\]"),
        ((X, [1, -1, 1], Q), {}, "masses must be positive"),
        ((X, [1, np.inf, 1], Q), {}, "masses must be positive"),
        ((X, with_nan(M, 1), Q), {}, "masses must be positive"),
        ((X, M, with_nan(Q, 1)), {}, "charges must be finite"),
        ((X, M, [1, -1, 1]), {}, "charges of both signs attract .*; allow_attraction=True"),
        ((X, M, [[1, 1, 1], [1, 0, -1]]), {}, "charges of both signs attract"),
        ((X, M, Q), {"max_steps": 0}, "max_steps must be a whole number .*, got 0"),
        ((X, M, Q), {"max_steps": 1.5}, "max_steps must be a whole number .*, got 1.5"),
        ((X, M, Q), {"max_steps": 1 << 24}, "max_steps must be a whole number"),
        ((X, M, Q), {"threads": 0}, "threads must be a positive whole number, got 0"),
        ((X, M, Q), {"threads": 1.5}, "threads must be a positive whole number, got 1.5"),
        ((X, M, Q), {"tolerance": 0}, "tolerance must lie between 1e-13 and 1 in float64"),
        ((X, M, Q), {"tolerance": 1}, "tolerance must lie between"),
        ((X, M, Q), {"tolerance": np.nan}, "tolerance must lie between"),
        (
            (X, M, Q),
            {"tolerance": 1e-9, "precision": "float32"},
            "tolerance must lie between 1e-05 and 1 in float32, got 1e-09; float64 reaches",
        ),
        ((X, M, Q), {"precision": "float16"}, "precision must be float64 or float32"),
        (([[["a"] * 3] * 3], M, Q), {}, "positions must be numbers in a regular array"),
        (([[[0, 0, 0], [1, 1]]], M, Q), {}, "positions must be numbers in a regular array"),
        ((X, None, Q), {}, "masses"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        simulate(*arguments, **options)


def test_charges_of_one_sign_in_each_event_do_not_attract():
    assert not simulate(X, M, [[1, 1, 1], [-1, -1, 0]]).status.any()


def test_every_status_has_a_name():
    assert sorted(STATUS) == list(range(OUT_OF_RANGE + 1))
    assert all(name and (code == GOOD or advice) for code, (name, advice) in STATUS.items())
