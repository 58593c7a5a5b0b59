import numpy as np
import pytest
from numba import config
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation

from coulex import frames

EPS = np.finfo(float).eps
MIRROR = np.diag([1.0, 1.0, -1.0])


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def random_matrices(rng, n):
    return Rotation.random(n, rng=rng).as_matrix()


def assert_proper(rotations):
    """Orthogonal and of determinant +1, to a few roundings."""
    identity = rotations @ np.swapaxes(rotations, -1, -2)
    assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=50 * EPS)
    assert_allclose(np.linalg.det(rotations), 1, atol=50 * EPS)


def turn_angle(rotations):
    cosine = (np.trace(rotations, axis1=-2, axis2=-1) - 1) / 2
    return np.arccos(np.clip(cosine, -1, 1))


def test_centre_of_mass_of_two_masses_divides_their_distance(rng):
    x = rng.normal(size=(7, 2, 3))
    expected = (x[:, 0] + 3 * x[:, 1]) / 4
    assert_allclose(frames.centre_of_mass(x, [1, 3]), expected, atol=10 * EPS)


def test_rotate_is_the_matrix_product(rng):
    x, r = rng.normal(size=(20, 4, 3)), random_matrices(rng, 20)
    before = x.copy()
    expected = [(matrix @ points.T).T for matrix, points in zip(r, x, strict=True)]
    assert_allclose(frames.rotate(x, r), expected, atol=20 * EPS)
    assert_array_equal(x, before)
    assert_allclose(frames.rotate(np.asfortranarray(x), r.tolist()), expected, atol=20 * EPS)


@pytest.mark.parametrize(("reference", "second"), [(0, 1), (2, 0), (1, 3)])
def test_recoil_frame_is_where_it_says(rng, reference, second):
    p = rng.normal(size=(100, 4, 3)) * 200
    rotations = frames.recoil_frame(p, reference=reference, second=second)
    assert_proper(rotations)
    q = frames.rotate(p, rotations)
    size = 10 * EPS * np.abs(p).max()
    length = np.linalg.norm(p[:, reference], axis=1)
    assert_allclose(q[:, reference, 0], length, rtol=10 * EPS)
    assert np.abs(q[:, reference, 1:]).max() < size
    assert np.abs(q[:, second, 2]).max() < size
    assert (q[:, second, 1] > 0).all()


def test_recoil_frame_does_not_depend_on_how_the_event_lay(rng):
    p = rng.normal(size=(100, 3, 3))
    turned = frames.rotate(p, random_matrices(rng, 100))
    here, there = (frames.rotate(x, frames.recoil_frame(x)) for x in (p, turned))
    # the angle about x is as uncertain as the direction of the second momentum off it
    assert np.abs(here - there).max() < 1e-12


def test_mirror_images_stay_apart(rng):
    p = rng.normal(size=(100, 4, 3))
    here, there = (frames.rotate(x, frames.recoil_frame(x)) for x in (p, p @ MIRROR))
    assert_allclose(here @ MIRROR, there, atol=1e-12)


@pytest.mark.parametrize("factor", [-0.7, 2.0, 0.0])
def test_collinear_momenta_turn_by_the_least_angle(rng, factor):
    p = np.repeat(rng.normal(size=(100, 1, 3)), 2, axis=1)
    p[:, 1] *= factor
    rotations = frames.recoil_frame(p)
    assert_proper(rotations)
    x = p[:, 0] / np.linalg.norm(p[:, 0], axis=1, keepdims=True)
    turned = np.einsum("nij,nj->ni", rotations, x)
    assert_allclose(turned, np.tile([1.0, 0, 0], (100, 1)), atol=10 * EPS)
    # no rotation that takes x to the x axis turns by less than the angle between them
    assert_allclose(turn_angle(rotations), np.arccos(x[:, 0]), atol=1e-7)


@pytest.mark.parametrize("bend", [1e-4, 1e-8, 1e-11, 1e-13])
def test_nearly_collinear_momenta_give_a_proper_rotation(rng, bend):
    p = np.repeat(rng.normal(size=(1000, 1, 3)), 2, axis=1)
    p[:, 1] += bend * rng.normal(size=(1000, 3))
    assert_proper(frames.recoil_frame(p))


@pytest.mark.parametrize("off", [1e-3, 1e-8, 1e-100, 1e-200])
def test_reference_near_minus_x(off):
    p = np.array([[[-1.0, off, 2 * off], [1.0, 0.0, 0.0]]])
    p[0, 1] = -2 * p[0, 0]
    rotations = frames.recoil_frame(p)
    assert_proper(rotations)
    assert_allclose(frames.rotate(p, rotations)[0, 0], [1, 0, 0], rtol=1e-5, atol=10 * EPS)


def test_reference_along_the_axis():
    along = np.array([[[2.0, 0, 0], [-2, 0, 0]], [[-2, 0, 0], [2, 0, 0]]])
    rotations = frames.recoil_frame(along)
    assert_array_equal(rotations, [np.eye(3), np.diag([-1, -1, 1])])


def test_reference_at_rest_leaves_the_event_alone():
    p = np.array([[[0.0, 0, 0], [1, 2, 3]], [[0.0, 0, 0], [0, 0, 0]]])
    assert_array_equal(frames.recoil_frame(p), np.broadcast_to(np.eye(3), (2, 3, 3)))


def test_no_events():
    empty = np.empty((0, 3, 3))
    assert frames.recoil_frame(empty).shape == (0, 3, 3)
    assert frames.rotate(empty, empty).shape == (0, 3, 3)
    assert frames.random_rotations(1, 0, 0).shape == (0, 3, 3)


def test_random_rotations_are_uniform():
    n = 2_000 if config.DISABLE_JIT else 100_000  # a thousand times slower without compiler
    rotations = frames.random_rotations(3, 0, n)
    assert_proper(rotations)
    # The elements of a matrix of spin j are orthogonal, with mean square 1 / (2j + 1): those
    # of R itself (j = 1), and of its symmetric square without trace (j = 2).
    r = rotations.reshape(n, 9)
    assert np.abs(r.mean(axis=0)).max() < 5 * np.sqrt(1 / 3 / n)
    assert_allclose(r.T @ r / n, np.eye(9) / 3, atol=5 / np.sqrt(n))
    assert np.abs((1.5 * r**2 - 0.5).mean(axis=0)).max() < 5 * np.sqrt(1 / 5 / n)
    # the angle of a uniform rotation has the density (1 - cos) / pi
    angle = np.sort(turn_angle(rotations))
    expected = (angle - np.sin(angle)) / np.pi
    assert np.abs(expected - (np.arange(n) + 0.5) / n).max() < 2.23 / np.sqrt(n)


def test_random_rotations_belong_to_their_event():
    whole = frames.random_rotations(3, 0, 100)
    assert_array_equal(frames.random_rotations(3, 40, 20), whole[40:60])


def test_kabsch_finds_the_rotation(rng):
    x, r = rng.normal(size=(50, 5, 3)), random_matrices(rng, 50)
    found, rmsd = frames.kabsch(x, frames.rotate(x, r) + rng.normal(size=(50, 1, 3)))
    assert_allclose(found, r, atol=1e-12)
    assert rmsd.max() < 1e-13 * 10


def test_kabsch_agrees_with_scipy_on_noisy_weighted_points(rng):
    x, y, w = rng.normal(size=(20, 6, 3)), rng.normal(size=(20, 6, 3)), rng.uniform(1, 9, 6)
    found, rmsd = frames.kabsch(x, y, weights=w)
    assert_proper(found)
    for a, b, r, left in zip(x, y, found, rmsd, strict=True):
        a0, b0 = (z - frames.centre_of_mass(z, w) for z in (a, b))
        expected, total = Rotation.align_vectors(b0, a0, weights=w)
        assert_allclose(r, expected.as_matrix(), atol=1e-10)
        assert left == pytest.approx(total / np.sqrt(w.sum()), rel=1e-10)


def test_kabsch_never_reflects(rng):
    x = rng.normal(size=(100, 5, 3))
    found, rmsd = frames.kabsch(x, x @ MIRROR)
    assert_proper(found)
    assert rmsd.min() > 1e-3  # five points at random are chiral


def test_kabsch_lays_a_plane_upon_its_mirror_image(rng):
    x = rng.normal(size=(100, 4, 3))
    x[:, :, 2] = 0
    turned = frames.rotate(x @ np.diag([1.0, -1, 1]), random_matrices(rng, 100))
    found, rmsd = frames.kabsch(x, turned)
    assert_proper(found)
    assert rmsd.max() < 1e-12


def test_kabsch_of_points_on_a_line_turns_by_the_least_angle(rng):
    direction = rng.normal(size=(100, 2, 3))
    direction /= np.linalg.norm(direction, axis=2, keepdims=True)
    line = np.array([-1.0, 0.5, 2])[:, None]
    a, b = (direction[:, k, None] * line for k in (0, 1))
    found, rmsd = frames.kabsch(a, b)
    assert_proper(found)
    assert rmsd.max() < 1e-12
    cosine = np.sum(direction[:, 0] * direction[:, 1], axis=1)
    assert_allclose(turn_angle(found), np.arccos(cosine), atol=1e-6)


def test_kabsch_of_one_point_or_none_apart_is_no_rotation():
    found, rmsd = frames.kabsch(np.zeros((2, 3, 3)), np.ones((2, 3, 3)))
    assert_array_equal(found, np.broadcast_to(np.eye(3), (2, 3, 3)))
    assert_array_equal(rmsd, [0, 0])


def test_angle_keeps_its_accuracy_at_180_degrees():
    bend = np.array([1e-9, 1e-5, 0.1, 1.0])
    second = np.stack([-np.cos(bend), np.sin(bend), np.zeros(4)], axis=1)
    found = frames.angle(np.array([2.0, 0, 0]), np.zeros(3), second)
    assert_allclose(np.pi - found, bend, atol=4 * EPS)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"got \(2, 3\), \(3,\)"):
        frames.centre_of_mass(np.zeros((2, 3)), np.ones(3))
    with pytest.raises(ValueError, match=r"got \(4, 2, 3\), \(3, 3\)"):
        frames.rotate(np.zeros((4, 2, 3)), np.eye(3))
    with pytest.raises(ValueError, match=r"\(n, ions, 3\), got \(2, 3\)"):
        frames.recoil_frame(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="two of 3 ions, got 0, 3"):
        frames.recoil_frame(np.zeros((1, 3, 3)), second=3)
    with pytest.raises(ValueError, match="two of 3 ions, got 1, 1"):
        frames.recoil_frame(np.zeros((1, 3, 3)), reference=1)
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(3, 3\)"):
        frames.kabsch(np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="not negative and not all zero"):
        frames.kabsch(np.zeros((2, 3)), np.zeros((2, 3)), weights=[0, 0])
