"""Environments out of structures, and how a model sees them."""

import json

import numpy as np
import pytest
from surroundings import EDGE, clusters, shaken_diamond, shared, turned

from coulex.errors import InvalidDataError
from generative.data import Stream
from generative.files import representation_class
from generative.gram import environments
from generative.gram.gram import gram
from generative.gram.representation import Environments, Surroundings
from generative.structures import Structure, read, write


def crystal(sigma=0.1, **changes):
    positions, cell = shaken_diamond(sigma=sigma)
    made = {"positions": positions, "cell": cell, "periodic": [True] * 3, "numbers": [14] * 64}
    return Structure(**made | changes)


def rng():
    return np.random.default_rng(0)


def test_environments_of_diamond_in_closed_form():
    found = environments.of([crystal(sigma=0)], neighbours=4, context=12)
    near, outer = (np.linalg.norm(found[name], axis=2) for name in ("neighbours", "outer"))
    assert np.allclose(near, EDGE * 3**0.5 / 4)
    assert np.allclose(outer, EDGE / 2**0.5)
    products = gram(found["neighbours"])[:, ~np.eye(4, dtype=bool)]
    assert np.allclose(products, -(near[0, 0] ** 2) / 3)
    assert (found["number"] == 16).all()  # all of them within 4 Å
    assert (found["element"] == 14).all()
    assert found["left_out"].tolist() == [0]


def test_neighbours_are_those_of_all_images():
    """Against every image of every atom, one by one."""
    structure = crystal()
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    images = (structure.positions[:, None] + shifts @ structure.cell).reshape(-1, 3)
    found = environments.of([structure], context=5)
    for atom in (0, 17, 63):
        away = images - structure.positions[atom]
        away = away[np.argsort(np.linalg.norm(away, axis=1))][1:14]
        assert np.abs(found["neighbours"][atom] - away[:8]).max() < 1e-12
        assert np.abs(found["outer"][atom] - away[8:]).max() < 1e-12


def test_atoms_with_few_neighbours_are_left_out_and_counted():
    crystals = [crystal(sigma=0), crystal(sigma=0, periodic=[False] * 3)]
    found = environments.of(crystals, neighbours=4, cutoff=2.5)
    inside = (found["structure"] == 1).sum()
    assert 0 < inside < 64
    assert found["left_out"].tolist() == [0, 64 - inside]
    alone = Structure(positions=np.zeros((1, 3)), numbers=[14])
    assert environments.of([alone])["left_out"].tolist() == [1]


def test_centroid():
    a, b = (environments.of([crystal()], centre=c, context=3) for c in environments.CENTRES)
    assert np.abs(b["neighbours"].mean(axis=1)).max() < 1e-12
    shift = a["neighbours"] - b["neighbours"]
    assert np.abs(shift - shift[:, :1]).max() < 1e-12
    assert np.abs(a["outer"] - b["outer"] - shift[:, :1]).max() < 1e-12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": 0}, "1 or more atoms"),
        ({"cutoff": 0.0}, "a distance in Å, got 0.0"),
        ({"centre": "middle"}, "atom, centroid, got 'middle'"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        environments.of([crystal()], **options)


@pytest.mark.parametrize(("centre", "freedom"), [("atom", 21), ("centroid", 18)])
def test_degrees_of_freedom(centre, freedom):
    """The rank of the derivative of G by the positions that can move it."""
    x = environments.of([crystal()], centre=centre)["neighbours"][0]
    moves = np.eye(24).reshape(24, 8, 3)
    if centre == "centroid":
        moves = moves - moves.mean(axis=1, keepdims=True)
    derivative = moves @ x.T + x @ np.swapaxes(moves, 1, 2)
    assert np.linalg.matrix_rank(derivative.reshape(24, -1), tol=1e-9) == freedom


def test_fading():
    x = np.array([[1.0, 0, 0], [3, 0, 0], [0, 3.5, 0], [0, 0, 4], [9, 0, 0]])
    assert np.allclose(environments.fading(x, 4, 1), [1, 1, 0.5, 0, 0])
    assert np.allclose(environments.fading(x, 4, 0), 1)


@pytest.mark.parametrize("mirror", ["O3", "SO3"])
def test_canonical_samples_do_not_depend_on_orientation_or_order(mirror):
    arrays = environments.of([crystal()], context=2)
    seen = Environments.fit(arrays, context=2, mirror=mirror, fade=1.0)
    x, condition = seen.encode(arrays, rng())
    y, q = turned(arrays["neighbours"], mirror=mirror == "O3")
    arrays = {"neighbours": y[:, ::-1], "outer": arrays["outer"] @ q}
    again, condition_again = seen.encode(arrays, rng())
    assert np.abs(again - x).max() < 1e-9
    assert np.abs(condition_again - condition).max() < 1e-9
    assert condition.shape == (64, 6)
    assert np.abs(gram(x).trace(axis1=1, axis2=2) - (y**2).sum((1, 2))).max() < 1e-9


def test_distance_augment_and_frames():
    arrays = environments.of([crystal()])
    x = arrays["neighbours"]
    see = {"labels": "distance", "frame": "given"}
    plain = Environments.fit(arrays, **see)
    assert not plain.draws
    assert np.array_equal(plain.encode(arrays, rng())[0], x)
    assert plain.encode(arrays, rng())[1].shape == (64, 0)
    laid = Environments.fit(arrays, labels="distance")
    y, _ = turned(x)
    assert (
        np.abs(laid.encode(arrays, rng())[0] - laid.encode({"neighbours": y}, rng())[0]).max()
        < 1e-9
    )
    mixed = Environments.fit(arrays, labels="augment", frame="given")
    drawn = mixed.encode(arrays, rng())[0]
    assert mixed.draws
    assert not np.array_equal(drawn, x)
    assert np.array_equal(np.sort(drawn, axis=1), np.sort(x, axis=1))
    free = Environments.fit(arrays, labels="distance", frame="random", mirror="SO3")
    spun = free.encode(arrays, rng())[0]
    assert np.abs(gram(spun) - gram(x)).max() < 1e-12 * 16
    assert np.allclose(np.linalg.det(spun[:, :3]), np.linalg.det(x[:, :3]))
    with pytest.raises(ValueError, match="no canonical frame"):
        Environments(labels="augment")


def test_description_makes_it_again():
    arrays = environments.of([crystal()])
    seen = Environments.fit(arrays)
    text = json.loads(json.dumps(seen.describe()))
    assert representation_class("environment").of(text) == seen


def test_structures_of_samples():
    seen = Environments(neighbours=8, element=14, labels="distance", frame="given")
    x = clusters(3)
    made = seen.decode(x)
    assert len(made) == 3
    assert np.array_equal(made[1].positions, np.concatenate([np.zeros((1, 3)), x[1]]))
    assert (made[1].numbers == 14).all()
    assert len(Environments(centre="centroid", element=14).decode(x)[0].positions) == 8


def test_two_elements_are_refused():
    mixed = crystal(numbers=[14, 6] * 32)
    with pytest.raises(ValueError, match=r"one element, got atomic numbers \[6, 14\]"):
        Environments.fit(environments.of([mixed]))


def test_elements_are_checked():
    seen = Environments.fit({"neighbours": clusters(5), "element": np.full(5, 14)})
    assert seen.element == 14
    seen.check_element(np.array([14, 14]))
    Environments.fit({"neighbours": clusters(5)}).check_element(np.array([6]))  # unknown
    with pytest.raises(InvalidDataError, match=r"a.cif: atoms of Cu, but environments are of"):
        seen.check_element(np.array([29]), "a.cif")
    with pytest.raises(InvalidDataError, match="atoms of Si, but environments are of C"):
        Environments.fit({"neighbours": clusters(5), "element": [14] * 5}, element=6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": 8.5}, "neighbours must be a whole number, got 8.5"),
        ({"neighbors": 8}, "no option neighbors; there are centre, context"),
        ({"fade": "a"}, "fade must be a number, got 'a'"),
        ({"cutoff": 2.5}, "no atom has 8 neighbours within 2.5 Å, but 4 at most"),
    ],
)
def test_a_source_refuses(tmp_path, options, message):
    write(tmp_path / "cell.extxyz", [crystal()])
    with pytest.raises(ValueError, match=message):
        Environments.source([tmp_path / "cell.extxyz"], **options)


def test_source_leaves_out_and_counts():
    structure = crystal(sigma=0, periodic=[False] * 3)
    found = environments.everywhere(
        [structure], neighbours=4, cutoff=2.5, centre="atom", context=0
    )
    source = Surroundings(found)
    seen = Environments(neighbours=4, labels="distance", frame="given")
    stream = Stream(source, seen, "all", seed=0)
    assert stream.n + stream.n_left_out == 64
    assert stream.n == len(environments.of([structure], neighbours=4, cutoff=2.5)["atom"])


def test_real_silicon_from_a_file():
    path = shared("a-si-512.extxyz")
    source = Environments.source([path, path], neighbours=4)
    assert source.n_events == 1024
    assert source.good(0, 512).all()
    arrays = source.for_training(0)
    assert np.median(np.linalg.norm(arrays["neighbours"], axis=2)) == pytest.approx(
        2.37, abs=0.01
    )
    assert len(read(path)) == 1
