"""Missing atoms: assignments without labels, the library, the search, and what is counted."""

from itertools import permutations

import numpy as np
import pytest
import torch
from surroundings import clusters, turned

from generative.gram.finding import distinct, found, hidden, ranked, rates
from generative.gram.gram import gram, upper
from generative.gram.infill import infill
from generative.gram.lookup import Library
from generative.gram.matching import completed, place
from generative.gram.representation import Environments
from generative.gram.search import Search
from generative.gram.synchronise import rmsd
from generative.model import model_class


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("known", [4, 5, 7])
@pytest.mark.parametrize("proper", [False, True])
def test_parts_find_their_places(known, proper):
    x = clusters(30)
    part, _ = hidden(x, known, np.random.default_rng(0))
    part, _ = turned(part, mirror=not proper)
    at = place(part, x, 3, proper=proper)
    assert at.place.shape == (30, 3, known)
    assert at.square[:, 0].max() < 1e-12
    assert (np.diff(at.square, axis=1) >= 0).all()
    there = np.take_along_axis(x, at.place[:, 0, :, None], axis=1)
    assert np.abs(part @ at.rotation[:, 0] - there).max() < 1e-6
    if proper:
        assert np.allclose(np.linalg.det(at.rotation), 1)
    whole = completed(part, x, at.place[:, 0], proper=proper)
    assert np.array_equal(whole[:, :known], part)
    assert (
        np.abs(
            np.sort(gram(whole).trace(axis1=1, axis2=2)) - np.sort((x**2).sum((1, 2)))
        ).max()
        < 1e-9
    )


def test_no_assignment_is_nearer():
    """Against all of them, one by one, with three of five atoms known."""
    x, part = clusters(5, 5), clusters(5, 3, seed=4)
    at = place(part, x, 2)
    for one, whole, square in zip(part, x, at.square, strict=True):
        every = [rmsd(whole[list(order)], one) ** 2 * 1 for order in permutations(range(4), 3)]
        assert np.allclose(np.sort(every)[:2], square, rtol=0, atol=1e-9)


def test_too_many_assignments_and_too_many_atoms():
    with pytest.raises(ValueError, match="9 atoms are known, of environments of 8"):
        place(clusters(1, 9), clusters(1, 8), 1)
    with pytest.raises(ValueError, match="more than 5000"):
        place(clusters(1, 12), clusters(1, 16), 1)


def test_library_finds_what_it_holds():
    x = clusters(15)
    known, missing = hidden(x, 6, np.random.default_rng(0))
    known, q = turned(known)
    drawn = Library(x, 6).lookup(known, 4)
    assert drawn.shape == (15, 4, 8, 3)
    assert np.array_equal(drawn[:, 2, :6], known)
    assert rates(drawn[:, :, 6:], missing @ q)["first"] == 1


def test_what_is_found_is_counted():
    missing = np.array([[[0.0, 0, 0], [2, 0, 0]]])
    one = [[0.1, 0, 0], [2, 0.4, 0]]
    swapped = one[::-1]
    both_on_one = [[0.1, 0, 0], [-0.1, 0, 0]]
    half = [[0.1, 0, 0], [2, 0.6, 0]]
    drawn = np.array([[half, one, swapped, both_on_one]])
    assert found(drawn, missing)["all"].tolist() == [[False, True, True, False]]
    assert rates(drawn, missing) == {
        "first": 0,
        "one": 0.5,
        "best": 1,
        "coverage": 1,
        "error": 0,
    }
    assert rates(drawn[:, :1], missing)["coverage"] == 0.5


def test_draws_that_most_agree_with_come_first_and_one_of_each_kind():
    places = np.array(
        [[0.0, 0, 0], [9, 0, 0], [0, 0.1, 0], [0, 0.2, 0], [9.3, 0, 0], [5, 0, 0]]
    )
    drawn = places[None, :, None]
    assert ranked(drawn, 3)[0, 0] in (0, 2, 3)
    assert ranked(drawn, 3)[0, 1] in (1, 4)
    assert ranked(drawn, 3)[0, 2] == 5
    cost = np.array([[5.0, 4, 3, 2, 1, 0]])
    assert distinct(drawn, cost, 3).tolist() == [[5, 4, 3]]
    assert distinct(drawn, cost, 6).tolist() == [[5, 4, 3, 2, 1, 0]]


def test_the_farthest_are_hidden():
    x = clusters(10)
    known, missing = hidden(x, 5, np.random.default_rng(0), which="farthest")
    known, missing = (np.linalg.norm(a, axis=2) for a in (known, missing))
    assert (known.max(axis=1) <= missing.min(axis=1)).all()
    with pytest.raises(ValueError, match="1 to 7 atoms can be known of 8, got 8"):
        hidden(x, 8, np.random.default_rng(0))


@pytest.fixture(scope="module")
def autoencoder():
    """A decoder with a known answer, x = mean + B z, and environments that it decodes."""
    mean = clusters(1, seed=3)
    seen = Environments.fit({"neighbours": mean.repeat(2, axis=0)})
    kind = model_class("gram-vae")
    torch.manual_seed(0)
    sizes = {"latents": 3, "hidden": (), "prior": "gauss", "misfit": "gram"}
    model = kind(kind.options_type.preset(None, **sizes), seen).eval()
    template = torch.tensor(seen.template)
    z = torch.randn(30, 3)
    with torch.no_grad():
        model.mean.copy_(template)
        model.decoder[-1].bias.zero_()
        model.decoder[-1].weight.normal_(std=0.15)
        x = model.decode(z, z[:, :0])
        model.normaliser.learn(upper(gram(x)))
        model.log_noise.fill_(-3)
    return model, x.double().numpy()


def test_search_completes_environments_that_it_knows(autoencoder):
    model, x = autoencoder
    known, missing = hidden(x, 6, np.random.default_rng(1))
    known, q = turned(known)
    search = Search(from_encoder=4, from_prior=8, rounds=2, steps=30)
    drawn = infill(model, known, 2, generator(), search=search)
    assert drawn.shape == (30, 2, 8, 3)
    assert np.array_equal(drawn[:, 1, :6], known)
    assert off(drawn, missing @ q) < 0.05  # a prior of weight 1 pulls by e^-6 of its width
    still = Search(from_encoder=4, from_prior=8, rounds=2, steps=0)
    assert off(infill(model, known, 1, generator(), search=still), missing @ q) > 0.1


def off(drawn, missing):
    """Return the median distance of missing atoms from the first completion."""
    apart = np.linalg.norm(drawn[:, 0, 6:, None] - missing[:, None], axis=-1)
    return np.median(
        np.minimum(apart[:, 0, 0] + apart[:, 1, 1], apart[:, 0, 1] + apart[:, 1, 0])
    )


def test_a_search_has_as_many_starts_as_completions(autoencoder):
    model, x = autoencoder
    assert Search.ending_in(1) == Search()
    assert Search.ending_in(100).starts == 100
    assert infill(model, x[:1, :6], 40, generator()).shape == (1, 40, 8, 3)


def test_search_refuses(autoencoder):
    model, x = autoencoder
    with pytest.raises(ValueError, match="9 completions of 8 starts"):
        infill(model, x[:1, :6], 9, generator(), search=Search(from_prior=0))
    with pytest.raises(ValueError, match="needs starts"):
        Search(from_encoder=0, from_prior=0)


def test_models_that_cannot_fill_in_say_so():
    seen = Environments.fit({"neighbours": clusters(20)})
    kind = model_class("gaussian")
    with pytest.raises(ValueError, match="gaussian can neither draw"):
        infill(kind(kind.options_type(), seen), clusters(1, 6), 1, generator())
