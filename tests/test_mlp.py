"""The regressor: the point that each loss finds, and exchanges of identical ions."""

import numpy as np
import pytest
import torch
from models import events
from pairs import Pairs

from generative.data import Arrays
from generative.geometry import Geometry
from generative.mlp import Mlp, MlpOptions
from generative.model import Model
from generative.recipe import Training
from generative.representation import Batch
from generative.train import fit

PLACES = np.array([[0.0, 0.0], [1.0, 2.0]])


def point_of(loss: str) -> np.ndarray:
    """Return what is learned of two places, the first with probability 0.7."""
    rng = np.random.default_rng(0)
    x = PLACES[(rng.random(2000) > 0.7).astype(int)]
    torch.manual_seed(0)
    model = Mlp(MlpOptions(width=8, blocks=1, loss=loss), Pairs(size=2, k=0))
    recipe = Training(epochs=20, batch_size=100, learning_rate=0.02, seed=3)
    fit(model, Arrays({"x": x, "y": np.zeros((2000, 0))}), recipe)
    drawn = model.sample(torch.zeros(1, 0), 3, torch.Generator())
    assert torch.equal(drawn[:, 0], drawn[:, 2])  # a point
    return drawn[0, 0].numpy()


def test_the_squared_error_finds_the_mean():
    # of 2000 events 0.3 is known to 0.01, and of Adam's last steps nothing is left
    assert np.abs(point_of("plain") - 0.3 * PLACES[1]).max() < 0.08


def test_the_error_itself_finds_what_is_most_probable():
    assert np.abs(point_of("median") - PLACES[0]).max() < 0.02


def like_methane(identical="as-given") -> Geometry:
    return Geometry(
        masses=(12.0, 1.0, 1.0),
        charges=(1.0, 1.0, 1.0),
        coordinates="centred",
        conditions=("momenta",),
        identical=identical,
    )


def test_exchanges_of_identical_ions_cost_nothing():
    """Each component has a scale of its own, and an exchange goes from one to another."""
    model = Mlp(MlpOptions(width=8, blocks=1, loss="permutations"), like_methane())
    x, c = torch.randn(50, 9), torch.randn(50, 9)
    model.centre.copy_(torch.randn(9))
    model.spread.copy_(torch.rand(9) + 0.5)
    exchanged = x[:, [0, 1, 2, 6, 7, 8, 3, 4, 5]]
    other = x[:, [3, 4, 5, 0, 1, 2, 6, 7, 8]]  # carbon is no hydrogen
    loss = [
        float(model.loss(Batch(rows, c))["loss"].detach()) for rows in (x, exchanged, other)
    ]
    assert loss[0] == pytest.approx(loss[1], rel=1e-6)
    assert abs(loss[0] - loss[2]) > 1e-3
    least = torch.minimum(
        *(
            ((model.network(model._scaled_condition(c)) - model._scaled(rows)) ** 2).mean(1)
            for rows in (x, exchanged)
        )
    )
    assert loss[0] == pytest.approx(float(least.mean().detach()), rel=1e-5)


def test_without_ions_there_is_nothing_to_exchange():
    with pytest.raises(ValueError, match="pairs knows no identical ions"):
        Mlp(MlpOptions(loss="permutations"), Pairs())


def test_default_choices_fit_each_other():
    """What the class says about training and representation can be built, and learns."""
    arrays = events(seed=1, count=2000)
    options = MlpOptions(width=32, blocks=1)
    geometry = Geometry.fit(arrays, **options.REPRESENTATION["default"])
    torch.manual_seed(0)
    model: Model = Mlp(options, geometry)
    short = {"epochs": 30, "batch_size": 100, "warmup": 20}
    recipe = Training(**options.TRAINING["default"], **short, seed=3)
    source = Arrays(arrays, ("masses", "charges", "numbers"))
    assert fit(model, source, recipe).history.best_loss() < 0.05  # the mean: 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 0}, "width must be at least 1"),
        ({"loss": "hinge"}, "plain, median, permutations"),
        ({"activation": "sine"}, "activation must be"),
    ],
)
def test_options_check_themselves(options, says):
    with pytest.raises(ValueError, match=says):
        MlpOptions(**options)
