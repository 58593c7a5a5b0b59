"""Which parameters are changed how, and that a training by Muon is resumed exactly."""

import pytest
import torch
from pairs import Pairs, linear_data

from generative.data import Arrays
from generative.model import model_class
from generative.optimizers import optimizers_of
from generative.recipe import Training
from generative.train import fit


def kinds(optimizer):
    shapes = [torch.empty(64, 64), torch.empty(64), torch.empty(3, 64), torch.empty(40, 32)]
    parameters = [torch.nn.Parameter(s) for s in shapes]
    made = optimizers_of(parameters, Training(optimizer=optimizer))
    return {
        type(o).__name__: [tuple(p.shape) for g in o.param_groups for p in g["params"]]
        for o in made
    }


def test_matrices_are_for_muon():
    small = [(64,), (3, 64)]
    assert kinds("muon") == {"Muon": [(64, 64), (40, 32)], "AdamW": small}
    assert kinds("adam") == {"AdamW": [(64, 64), *small, (40, 32)]}


def test_muon_moves_all_directions_alike():
    """Whatever the singular values of the gradient are, here from 1 to 1e-2."""
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(40, 40))
    weight = torch.nn.Parameter(torch.zeros(40, 40))
    weight.grad = u @ torch.diag(torch.logspace(0, -2, 40)) @ v
    (optimizer,) = optimizers_of([weight], Training(optimizer="muon", learning_rate=0.01))
    optimizer.step()
    values = (u.mT @ weight.detach() @ v.mT).diagonal()
    assert 0.05 < float(-values.max()) < float(-values.min()) < 0.14  # ten times the rate


def mlp(seed=0):
    kind = model_class("mlp")
    torch.manual_seed(seed)
    return kind(kind.options_type(width=40, blocks=1), Pairs())


def test_a_stopped_training_by_muon_goes_on_bit_for_bit(tmp_path):
    options = Training(epochs=3, batch_size=100, optimizer="muon", weight_decay=0.01, seed=3)
    data = Arrays(linear_data(1000))
    through, resumed = mlp(), mlp()
    fit(through, data, options)
    count = iter(range(9))
    fit(resumed, data, options, folder=tmp_path, stop=lambda: next(count, None) is None)
    resumed = mlp(seed=1)
    assert fit(resumed, data, options, folder=tmp_path, resume=True).finished
    other = resumed.state_dict()
    assert all(torch.equal(value, other[key]) for key, value in through.state_dict().items())


def test_muon_is_more_precise():
    """On a smooth function without noise, for the same number of steps."""
    torch.manual_seed(1)
    y = torch.randn(4000, 3)
    data = Arrays({"x": torch.sin(y[:, :2] + 0.5 * y[:, 2:]).numpy(), "y": y.numpy()})
    reached = {}
    for optimizer in ("adam", "muon"):
        options = Training(epochs=25, batch_size=100, optimizer=optimizer, seed=3)
        reached[optimizer] = fit(mlp(), data, options).history.best_loss()
    assert reached["muon"] < 0.7 * reached["adam"]


def test_an_optimizer_that_nobody_knows():
    with pytest.raises(ValueError, match="optimizer must be adam or muon, got 'sgd'"):
        Training(optimizer="sgd")
