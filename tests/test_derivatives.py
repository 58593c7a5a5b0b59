"""The Jacobian: against differences, against what holds exactly, where ions are collinear."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal

import coulex
from coulex.derivatives import VARIABLES

MASSES, CHARGES = np.array([29000.0, 21900.0, 58200.0]), np.array([2.0, 1.0, 3.0])
STEPS = {"positions": 2e-3, "initial_momenta": 0.3, "charges": 2e-3}


def events(n=12, *, moving=False):
    """Geometries of three ions, the first four of them collinear; and momenta."""
    rng = np.random.default_rng(5)
    x = reference.in_sphere(rng, n, 3, radius=5.0, separation=1.0)
    x[:4, :, 1:] = x[0, 0, 1:]
    x[:4, :, 0] = np.array([-2.1, 0.0, 2.8]) + 0.1 * rng.normal(size=(4, 3))
    p = rng.normal(size=x.shape) * 0.05 * np.sqrt(MASSES)[:, None] if moving else None
    return x, p


def differences(function, step):
    """Return the derivative at 0, by extrapolation: its error falls as step**6."""
    one, two, four = (
        (function(h) - function(-h)) / (2 * h) for h in (step, 2 * step, 4 * step)
    )
    better, good = (4 * one - two) / 3, (4 * two - four) / 3
    return (16 * better - good) / 15


def numerical(name, x, p, **options):
    """Return the derivatives with respect to `name`, (n, 9, variables), the slow way."""
    given = {
        "positions": x,
        "initial_momenta": np.zeros_like(x) if p is None else p,
        "charges": np.tile(CHARGES, (len(x), 1)),
    }
    base, columns = given[name], []
    for k in range(base[0].size):

        def momenta(step, k=k):
            changed = base.copy().reshape(len(base), -1)
            changed[:, k] += step
            now = given | {name: changed.reshape(base.shape)}
            run = coulex.simulate(
                now["positions"],
                MASSES,
                now["charges"],
                initial_momenta=now["initial_momenta"],
                tolerance=1e-13,
                **options,
            )
            assert not run.status.any()
            return run.momenta.reshape(len(base), -1)

        columns.append(differences(momenta, STEPS[name]))
    return np.stack(columns, axis=-1)


def deviation(got, true):
    got = got.reshape(true.shape)
    size = np.linalg.norm(true, axis=(1, 2))
    return np.linalg.norm(got - true, axis=(1, 2)) / size


@pytest.mark.parametrize("moving", [False, True], ids=["at rest", "moving"])
@pytest.mark.parametrize("wrt", [VARIABLES, ("positions",)], ids=["all", "positions"])
def test_against_differences(wrt, moving):
    x, p = events(moving=moving)
    found = coulex.jacobian(x, MASSES, CHARGES, initial_momenta=p, wrt=wrt)
    for name in VARIABLES:
        if name not in wrt:
            assert getattr(found, name) is None
            continue
        # differences of 1e-13 over a step of 1e-3 relative leave 1e-10
        assert deviation(getattr(found, name), numerical(name, x, p)).max() < 1e-9, name


def test_momenta_are_those_of_simulate():
    x, _ = events()
    found, run = (
        coulex.jacobian(x, MASSES, CHARGES).explosions,
        coulex.simulate(x, MASSES, CHARGES),
    )
    assert reference.errors(found.momenta, run.momenta).max() < 1e-12
    assert_array_equal(found.status, run.status)


@pytest.mark.parametrize("moving", [False, True], ids=["at rest", "moving"])
def test_identities(moving):
    """Of a boost, a turn, the size, the charge, the start: used or not."""
    x, p = events(moving=moving)
    found = coulex.jacobian(x, MASSES, CHARGES, initial_momenta=p, wrt=VARIABLES)
    start = np.zeros_like(x) if p is None else p
    p_end = found.explosions.momenta
    force = np.array([reference.forces(one, CHARGES) for one in x])
    for e in np.eye(3):
        laws = [
            (e + 0 * x, 0 * x, 0, 0 * x),
            (0 * x, MASSES[:, None] * e + 0 * x, 0, MASSES[:, None] * e + 0 * x),
            (np.cross(e, x), np.cross(e, start), 0, np.cross(e, p_end)),
            (x, -start / 2, 0, -p_end / 2),
            (0 * x, start, CHARGES, p_end),
            (start / MASSES[:, None], force, 0, 0 * x),
        ]
        for dx, dp, dq, true in laws:
            got = np.einsum("nabcd,ncd->nab", found.positions, dx)
            got += np.einsum("nabcd,ncd->nab", found.initial_momenta, dp)
            got += np.einsum("nabc,c->nab", found.charges, dq + 0 * CHARGES)
            scale = np.linalg.norm(p_end, axis=(1, 2), keepdims=True)
            assert np.abs((got - true) / scale).max() < 1e-8


def test_columns_that_are_free_would_have_come_out_alike(monkeypatch):
    x, _ = events()
    free = coulex.jacobian(x, MASSES, CHARGES)
    monkeypatch.setattr("coulex.derivatives._Space._tied", lambda _: ["translation"])
    whole = coulex.jacobian(x, MASSES, CHARGES)
    assert_allclose(free.positions, whole.positions, atol=1e-8 * np.abs(whole.positions).max())


def test_many_directions_go_in_parts(monkeypatch):
    x, _ = events()
    whole = coulex.jacobian(x, MASSES, CHARGES, wrt=VARIABLES)
    monkeypatch.setattr("coulex.explosions._DIRECTIONS", (2, 3))
    parts = coulex.jacobian(x, MASSES, CHARGES, wrt=VARIABLES)
    for name in VARIABLES:
        one, other = getattr(whole, name), getattr(parts, name)
        assert_allclose(other, one, rtol=1e-9, atol=1e-9 * np.abs(one).max())


def test_float32():
    x, _ = events()
    single = coulex.jacobian(x, MASSES, CHARGES, precision="float32")
    double = coulex.jacobian(x, MASSES, CHARGES)
    assert (
        deviation(
            single.positions.reshape(len(x), 9, 9), double.positions.reshape(-1, 9, 9)
        ).max()
        < 1e-3
    )


def test_events_that_fail_have_no_jacobian():
    x, _ = events()
    x[3, 1] = x[3, 0]
    found = coulex.jacobian(x, MASSES, CHARGES)
    assert found.explosions.status[3] != 0
    assert np.isnan(found.positions[3]).all()
    assert np.isfinite(np.delete(found.positions, 3, axis=0)).all()


def test_no_events():
    found = coulex.jacobian(np.empty((0, 3, 3)), MASSES, CHARGES, wrt=VARIABLES)
    assert found.positions.shape == (0, 3, 3, 3, 3)
    assert found.charges.shape == (0, 3, 3, 3)


@pytest.mark.parametrize("wrt", [(), ("momenta",)])
def test_what_to_differentiate_by(wrt):
    x, _ = events()
    with pytest.raises(ValueError, match="wrt must name some of positions"):
        coulex.jacobian(x, MASSES, CHARGES, wrt=wrt)
