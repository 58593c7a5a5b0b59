"""Positions as samples and back: nothing is lost, and volumes are those of calculus."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from geometries import CHARGES, MASSES, box, exact, inertial

import coulex
from coulex.frames import centre_of_mass, random_rotations, rotate
from generative import charts
from generative.files import representation_class
from generative.geometry import Geometry
from generative.permutations import (
    LARGEST,
    canonical_orders,
    identical_groups,
    inverse,
    permutations,
    random_orders,
    reorder,
)

METHANE = coulex.Molecule.named("CH4").with_charges([1] * 5)
COORDINATES = [
    ("positions", "given"),
    ("centred", "given"),
    ("centred", "recoil"),
    ("jacobi", "recoil"),
    ("shape", "recoil"),
]


@cache
def ocs(count=200):
    x = rotate(box(1, count), random_rotations(3, 0, count)) + 0.5
    return {"initial_positions": x, "momenta": exact(x), "charges": CHARGES, "masses": MASSES}


@cache
def methane(count=200):
    x, _ = coulex.Gaussian(sigma=0.4).sample(METHANE, seed=2, first=0, count=count)
    m, q = METHANE.ion_masses, METHANE.charges
    p = coulex.simulate(x, m, q, tolerance=1e-13).momenta
    return {"initial_positions": x, "momenta": p, "charges": q, "masses": m}


def rng():
    return np.random.default_rng(5)


def about_centre(arrays):
    x = arrays["initial_positions"]
    return x - centre_of_mass(x, arrays["masses"])[:, None]


@pytest.mark.parametrize(("coordinates", "frame"), COORDINATES)
@pytest.mark.parametrize("identical", ["as-given", "canonical"])
@pytest.mark.parametrize("make", [ocs, methane])
def test_there_and_back(make, coordinates, frame, identical):
    arrays = make()
    g = Geometry.fit(arrays, coordinates=coordinates, frame=frame, identical=identical)
    x, condition = g.encode(arrays, rng())
    assert x.shape == (200, *g.shape)
    assert condition.shape == (200, g.condition_size)
    back, _ = g.decode(x[:, None], arrays["momenta"])
    raw = coordinates == "positions"
    true = arrays["initial_positions"] if raw else about_centre(arrays)
    assert np.abs(back[:, 0] - true).max() < 1e-12


@pytest.mark.parametrize("make", [ocs, methane])
def test_ions_at_rest_have_the_size_of_their_energy(make):
    arrays = make()
    x, _ = Geometry.fit(arrays, coordinates="shape").encode(arrays, rng())
    assert np.abs(x[:, -1]).max() < 1e-10
    g = Geometry.fit(arrays, coordinates="shape", size="ker")
    w, _ = g.encode(arrays, rng())
    assert (w == x[:, :-1]).all()
    back, log_det = g.decode(w[:, None], arrays["momenta"])
    assert log_det is None
    assert np.abs(back[:, 0] - about_centre(arrays)).max() < 1e-9


@pytest.mark.parametrize("frame", ["given", "recoil"])
@pytest.mark.parametrize("coordinates", ["jacobi", "shape"])
def test_volumes_against_differences(coordinates, frame):
    arrays = methane(8)
    g = Geometry.fit(arrays, coordinates=coordinates, frame=frame)
    x, _ = g.encode(arrays, rng())
    d, h = x.shape[1], 1e-5
    steps = h * np.concatenate([np.eye(d), -np.eye(d)])
    positions, _ = g.decode(x[:, None] + steps, arrays["momenta"])
    y = charts.to_jacobi(positions, charts.jacobi_matrix(arrays["masses"]))
    slope = (y[:, :d] - y[:, d:]) / (2 * h)
    _, log_det = g.decode(x[:, None], arrays["momenta"])
    assert np.abs(-np.linalg.slogdet(slope)[1] - log_det[:, 0]).max() < 1e-7


def test_volume_against_autograd():
    g = Geometry.fit(methane(), coordinates="shape")
    chart = g._chart
    x = torch.linspace(-0.4, 0.3, 12, dtype=torch.float64)
    reference, basis, matrix, masses = (
        torch.from_numpy(np.array(a))
        for a in (g.reference, chart._basis, chart._matrix, g.masses)
    )

    def to_y(x):
        w, u = x[:-1], x[-1]
        square = (w**2).sum()
        s = ((1 - square) * reference + 2 * basis @ w) / (1 + square)
        ions = (matrix / masses).T @ s.reshape(-1, 3)
        one, two = np.triu_indices(5, 1)
        energy = (1 / (ions[one] - ions[two]).norm(dim=1)).sum()
        return torch.exp(u) * energy * s

    slope = torch.autograd.functional.jacobian(to_y, x)
    momenta = methane()["momenta"][:1]
    unit = momenta / np.sqrt((momenta**2).sum(axis=2) @ (0.5 / METHANE.ion_masses))[0]  # KER 1
    _, log_det = g.decode(x.numpy()[None, None], unit)
    assert -torch.linalg.slogdet(slope)[1].item() == pytest.approx(log_det[0, 0], abs=1e-10)


def test_mass_weighted_volume_is_kept():
    masses = np.array([1.0, 5.0, 2.0, 7.0])
    matrix = charts.jacobi_matrix(masses)
    weighted = matrix / np.sqrt(masses)
    assert np.abs(weighted @ weighted.T - np.eye(3)).max() < 1e-15
    assert np.abs(weighted @ np.sqrt(masses)).max() < 1e-15
    x = np.random.default_rng(1).normal(size=(6, 4, 3))
    y = charts.to_jacobi(x, matrix)
    free = x - centre_of_mass(x, masses)[:, None]
    assert (y**2).sum(axis=1) == pytest.approx((masses[:, None] * free**2).sum(axis=(1, 2)))


def test_tangents():
    for s in np.random.default_rng(2).normal(size=(20, 6)):
        basis = charts.tangent_basis(s / np.linalg.norm(s))
        assert np.abs(basis.T @ basis - np.eye(5)).max() < 1e-14
        assert np.abs(basis.T @ s).max() < 1e-14
    for axis in (*np.eye(3), *-np.eye(3)):
        assert np.abs(charts.tangent_basis(axis)).sum() == 2
    plain = charts.tangent_basis([0.6, 0.0, -0.8])
    assert np.isin(plain[1], (0, 1)).all()  # what is zero keeps an axis of its own


def test_potential_of_known_geometry():
    x = np.array([[0.0, 0, 0], [2.0, 0, 0], [2.0, 0, 3.0]])
    q = np.array([1.0, 2.0, 4.0])
    assert charts.potential(x, q) == pytest.approx(2 / 2 + 8 / 3 + 4 / 13**0.5)


@pytest.mark.parametrize("coordinates", ["centred", "shape"])
def test_an_event_that_is_turned_has_the_same_sample(coordinates):
    arrays = methane()
    g = Geometry.fit(arrays, coordinates=coordinates)
    rotations = random_rotations(9, 0, 200)
    turned = arrays | {
        "momenta": rotate(arrays["momenta"], rotations),
        "initial_positions": rotate(arrays["initial_positions"], rotations) + 7.0,
    }
    (x, c), (x2, c2) = g.encode(arrays, rng()), g.encode(turned, rng())
    assert np.abs(x - x2).max() < 1e-10
    assert np.abs(c - c2).max() < 1e-10 * np.abs(c).max()
    positions, _ = g.decode(x[:, None], turned["momenta"])
    assert np.abs(positions[:, 0] - about_centre(turned)).max() < 1e-10


def test_order_of_identical_ions_is_forgotten():
    arrays = methane()
    g = Geometry.fit(arrays, coordinates="shape", identical="canonical")
    assert g.groups == [[1, 2, 3, 4]]
    order = random_orders(200, 5, g.groups, rng())
    other = arrays | {k: reorder(arrays[k], order) for k in ("momenta", "initial_positions")}
    (x, c), (x2, c2) = g.encode(arrays, rng()), g.encode(other, rng())
    assert np.abs(x - x2).max() < 1e-12
    assert np.abs(c - c2).max() < 1e-12
    positions, _ = g.decode(x2[:, None], other["momenta"])
    assert np.abs(positions[:, 0] - about_centre(other)).max() < 1e-12
    moduli = Geometry.fit(arrays, identical="canonical", conditions=("moduli",))
    sizes = moduli.encode_momenta(other["momenta"])[:, 1:]
    assert (np.diff(sizes, axis=1) <= 0).all()


def test_augmentation_exchanges_ions_with_their_momenta():
    arrays = methane()
    g = Geometry.fit(arrays, identical="augment", conditions=("momenta",), frame="given")
    x, c = g.encode(arrays, rng())
    order = random_orders(200, 5, g.groups, rng())
    assert (order != np.arange(5)).any(axis=1).mean() > 0.9
    exchanged = reorder(about_centre(arrays), order).reshape(200, -1)
    assert np.abs(x - exchanged).max() < 1e-13
    assert np.abs(c - reorder(arrays["momenta"], order).reshape(200, -1)).max() < 1e-9
    assert g.draws
    assert not Geometry.fit(ocs(), identical="augment").draws


def test_orders():
    groups = identical_groups([1, 2, 1, 2, 3, 1], [1, 1, 1, 1, 1, 2])
    assert groups == [[0, 2], [1, 3]]
    table = permutations(groups, 6)
    assert len({tuple(row) for row in table}) == len(table) == 4
    assert (table[0] == np.arange(6)).all()
    assert (table[:, 4:] == [4, 5]).all()
    with pytest.raises(ValueError, match=f"40320 orders.*{LARGEST}"):
        permutations([list(range(8))], 8)
    order = random_orders(50, 6, groups, rng())
    p = rng().normal(size=(50, 6, 3))
    assert (reorder(reorder(p, order), inverse(order)) == p).all()
    sorted_p = reorder(p, canonical_orders(p, groups))
    assert (canonical_orders(sorted_p, groups) == np.arange(6)).all()


def test_samples_of_exchanged_ions():
    arrays = methane(4)
    g = Geometry.fit(arrays, coordinates="positions", frame="given")
    table = g.component_orders()
    assert table.shape == (24, 15)
    assert (table[0] == np.arange(15)).all()
    x, _ = g.encode(arrays, rng())
    for row, order in zip(table, permutations(g.groups, 5), strict=True):
        assert (x[:, row].reshape(4, 5, 3) == arrays["initial_positions"][:, order]).all()
    with pytest.raises(ValueError, match="no exchange is a change of order"):
        Geometry.fit(arrays, coordinates="jacobi").component_orders()


def test_noise_is_fresh_and_known():
    arrays = ocs()
    options = {"noise": (0.01, 0.1), "conditions": ("momenta", "noise"), "frame": "given"}
    g = Geometry.fit(arrays, **options)
    assert g.draws
    (_, c), (_, again), (_, other) = (
        g.encode(arrays, r) for r in (rng(), rng(), np.random.default_rng(6))
    )
    assert (c == again).all()
    assert (c != other).all()
    level = np.exp(c[:, -1])
    assert level.min() >= 0.01
    assert level.max() <= 0.1
    assert (
        abs(np.mean(c[:, -1]) - np.log(0.01 * 0.1) / 2) < 5 * np.log(10) / 12**0.5 / 200**0.5
    )
    p, level = g.disturb(arrays["momenta"], rng())
    assert (g.encode_momenta(p, level) == c).all()
    assert (g.encode_momenta(p)[:, -1] == np.log(0.01)).all()
    gap = (p - arrays["momenta"]) / np.linalg.norm(arrays["momenta"], axis=2, keepdims=True)
    scaled = gap / level[:, None, None]
    assert abs(scaled.std() - 1) < 5 / (2 * scaled.size) ** 0.5


def test_noise_turns_the_frame_of_both():
    arrays = ocs()
    g = Geometry.fit(arrays, coordinates="jacobi", noise=(0.05, 0.05))
    p, level = g.disturb(arrays["momenta"], rng())
    x = g.encode_positions(arrays["initial_positions"], p)
    assert np.abs(x).max(axis=0).min() > 1  # out of the plane as well
    positions, log_det = g.decode(x[:, None], p)
    assert np.abs(positions[:, 0] - about_centre(arrays)).max() < 1e-12
    assert (log_det == 0).all()


def test_charges_may_differ():
    x = box(4, 50)
    q = np.where(np.arange(50)[:, None] % 2, [2.0, 2.0, 2.0], [1.0, 3.0, 2.0])
    p = coulex.simulate(x, MASSES, q, tolerance=1e-13).momenta
    arrays = {"initial_positions": x, "momenta": p, "charges": q, "masses": MASSES}
    g = Geometry.fit(arrays, coordinates="shape", conditions=("scale-free", "charges"))
    samples, c = g.encode(arrays, rng())
    assert (c[:, -3:] == q).all()
    assert np.abs(samples[:, -1]).max() < 1e-10
    assert (g.encode_momenta(p, charges=q) == c).all()
    back, _ = g.decode(np.repeat(samples[:, None], 2, axis=1), p, charges=q)
    assert np.abs(back - about_centre(arrays)[:, None]).max() < 1e-12
    with pytest.raises(ValueError, match="charges differ from event to event"):
        g.encode_momenta(p)
    same = Geometry.fit(arrays | {"charges": np.tile(CHARGES, (50, 1))})
    assert same.charges == tuple(CHARGES)


@pytest.mark.parametrize("coordinates", ["centred", "shape"])
def test_json(coordinates):
    noise = {"noise": (0.01, 0.02), "conditions": ("scale-free", "noise")}
    numbers = {"numbers": np.array([8, 6, 16])}
    g = Geometry.fit(ocs() | numbers, coordinates=coordinates, **noise)
    again = representation_class("geometry").of(json.loads(json.dumps(g.describe())))
    assert again == g
    assert again.numbers == (8, 6, 16)
    assert all(
        (a == b).all()
        for a, b in zip(g.encode(ocs(), rng()), again.encode(ocs(), rng()), strict=True)
    )


GOOD = {"masses": (1.0, 2.0, 3.0), "charges": (1.0, 1.0, 2.0)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"conditions": ("speed",)}, "no condition speed; there are momenta"),
        ({"frame": "body"}, "frame must be given, recoil, got 'body'"),
        ({"coordinates": "angles"}, "coordinates must be positions, centred"),
        ({"coordinates": "positions"}, 'need frame "given"'),
        ({"size": "ker"}, 'goes with coordinates "shape"'),
        ({"coordinates": "shape"}, "reference must be a unit vector of 6"),
        ({"noise": (0.1, 0.01)}, "0 < low <= high < 1"),
        ({"noise": (0.0, 0.01)}, "0 < low <= high < 1"),
        ({"conditions": ("noise",)}, "the noise cannot be a condition"),
        ({"masses": (1.0, -2.0, 3.0)}, "masses must be positive"),
        ({"masses": (1.0, 2.0)}, "2 masses, but charges"),
        ({"numbers": (1,)}, "3 masses, but numbers"),
        ({"axes": (0, 3)}, "two of 3 ions"),
        ({"axes": (1, 1)}, "two of 3 ions"),
        ({"charges": None, "identical": "canonical"}, "which ions are identical"),
        ({"colour": 1}, "a geometry has no colour; it has axes"),
    ],
)
def test_a_bad_description_is_refused_in_one_line(change, words):
    with pytest.raises(ValueError, match=words) as caught:
        Geometry.of(GOOD | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"masses": MASSES[::-1]}, "the model is of ions of masses"),
        ({"masses": MASSES[:2]}, "the model is of ions of masses"),
        (
            {"charges": np.array([1.0, 2.0, 2.0])},
            r"of charges \(2.0, 2.0, 2.0\), the data have \[1.0",
        ),
        ({"momenta": inertial(1, 200, np.ones(4))}, r"momenta must be \(m, 3, 3\)"),
        ({"initial_positions": np.ones((2, 3, 3))}, r"positions \(2, 3, 3\), but momenta"),
    ],
)
def test_other_ions_are_refused(change, words):
    g = Geometry.fit(ocs())
    with pytest.raises(ValueError, match=words):
        g.encode(ocs() | change, rng())


def test_other_samples_and_noise_are_refused():
    g = Geometry.fit(ocs(), noise=(0.01, 0.1), conditions=("noise",))
    p = ocs()["momenta"]
    with pytest.raises(ValueError, match=r"samples must be \(200, n, 9\), got \(200, 1, 8\)"):
        g.decode(np.zeros((200, 1, 8)), p)
    with pytest.raises(
        ValueError, match=r"noise of 0.01 to 0.1 of the momenta, not 0.2 to 0.2"
    ):
        g.encode_momenta(p, 0.2)
    with pytest.raises(ValueError, match="no noise"):
        Geometry.fit(ocs()).disturb(p, rng())
    with pytest.raises(ValueError, match="charges must be"):
        g.encode_momenta(p, charges=[1.0, 2.0])


def test_events_at_rest_are_left_to_the_loader():
    arrays = ocs(4)
    p = arrays["momenta"].copy()
    p[1] = 0.0
    g = Geometry.fit(ocs(), coordinates="shape")
    x, c = g.encode(arrays | {"momenta": p}, rng())
    assert np.isfinite(x).all(axis=1).tolist() == [True, False, True, True]
    assert np.isfinite(c).all(axis=1).tolist() == [True, False, True, True]


@pytest.mark.parametrize("coordinates", ["positions", "centred", "jacobi", "shape"])
def test_no_event_at_all(coordinates):
    """An empty batch goes in and comes out with its shape."""
    made = Geometry(
        masses=(1e4, 2e4, 3e4),
        charges=(1.0, 1.0, 1.0),
        coordinates=coordinates,
        frame="given" if coordinates == "positions" else "recoil",
        reference=(1.0, 0.0, 0.0, 0.0, 0.0, 0.0) if coordinates == "shape" else (),
    )
    none = np.empty((0, 3, 3))
    arrays = {"initial_positions": none, "momenta": none}
    arrays |= {"charges": np.ones(3), "masses": np.array(made.masses)}
    x, condition = made.encode(arrays, np.random.default_rng(1))
    assert x.shape == (0, *made.shape)
    assert condition.shape == (0, made.condition_size)
    positions, _ = made.decode(np.empty((0, 4, *made.shape)), none)
    assert positions.shape == (0, 4, 3, 3)
