"""Canonical labels: found again after any rotation, reflection and exchange of atoms."""

import numpy as np
import pytest
from surroundings import clusters, turned

from generative.gram.canonical import Template, label


def shuffled(x, seed=0):
    order = np.random.default_rng(seed).permuted(
        np.tile(np.arange(x.shape[1]), (len(x), 1)), axis=1
    )
    return np.take_along_axis(x, order[..., None], axis=1), order


@pytest.mark.parametrize("n", [3, 4, 8, 10])
@pytest.mark.parametrize("proper", [False, True])
def test_labels_and_frame_do_not_depend_on_how_an_environment_is_given(n, proper):
    x = clusters(60, n)
    template = Template(clusters(1, n, seed=5)[0], proper)
    y, _ = turned(x, mirror=not proper)
    y, order = shuffled(y)
    a, b = label(x, template), label(y, template)
    assert np.array_equal(np.take_along_axis(order, b.order, axis=1), a.order)
    if n > 3 or proper:
        assert np.abs(a.x - b.x).max() < 1e-9
    assert np.abs(a.distance - b.distance).max() < 1e-9
    again = np.take_along_axis(y, b.order[..., None], axis=1) @ b.rotation
    assert np.abs(again - b.x).max() < 1e-12
    if proper:
        assert np.allclose(np.linalg.det(b.rotation), 1)


def test_a_shaken_template_is_given_its_own_labels():
    template = Template(clusters(1, seed=2)[0])
    x = template.positions + np.random.default_rng(0).normal(0, 0.05, (100, 8, 3))
    y, _ = turned(x)
    y, order = shuffled(y)
    found = label(y, template)
    labels = np.take_along_axis(order, found.order, axis=1)
    assert (labels == np.arange(8)).all()
    assert (found.margin > 0).all()
    assert (
        np.abs(
            found.distance - np.linalg.norm(found.x - template.positions, axis=(1, 2))
        ).max()
        < 1e-9
    )


def test_no_order_of_the_first_shell_is_nearer():
    """Against all orders of four atoms, one by one."""
    from itertools import permutations

    from generative.gram.synchronise import rmsd

    x, template = clusters(20, 4), Template(clusters(1, 4, seed=9)[0])
    found = label(x, template)
    orders = [list(order) for order in permutations(range(4))]
    every = np.array([rmsd(template.positions, x[:, order]) for order in orders]) * 2
    every.sort(axis=0)
    assert np.allclose(found.distance, every[0], rtol=0, atol=1e-9)
    assert np.allclose(found.margin, every[1] - every[0], rtol=0, atol=1e-9)


def test_template_is_found_from_its_copies():
    true = clusters(1, seed=2)[0]
    copies, _ = turned(true + np.random.default_rng(0).normal(0, 0.02, (200, 8, 3)))
    template = Template.fit(shuffled(copies)[0])
    labelled = label(true[None], template)
    assert labelled.distance[0] < 0.03  # 24 means of 200 draws: 0.02 sqrt(24/200) = 0.007
    with pytest.raises(ValueError, match="got none"):
        Template.fit(np.zeros((0, 8, 3)))


def test_degenerate_environments_have_labels():
    flat = clusters(5)
    flat[:, :, 2] = 0
    line = flat * [1.0, 0, 0]
    for x in (flat, line, np.zeros((2, 8, 3))):
        found = label(x, Template(clusters(1, seed=5)[0]))
        assert np.isfinite(found.x).all()
        assert (np.sort(found.order, axis=1) == np.arange(8)).all()


def test_no_environments_and_wrong_ones():
    template = Template(clusters(1)[0])
    assert label(np.zeros((0, 8, 3)), template).x.shape == (0, 8, 3)
    with pytest.raises(ValueError, match=r"like the template; got \(2, 7, 3\)"):
        label(clusters(2, 7), template)
