"""The optimizer of precise regression: what a step is, and that it can be resumed."""

import pytest
import torch
from pairs import Pairs, linear_data

from generative.data import Arrays
from generative.model import model_class
from generative.muon import Muon, orthogonalised
from generative.recipe import Training
from generative.train import fit


@pytest.mark.parametrize("shape", [(40, 40), (64, 32), (32, 64)])
def test_steps_of_matrices_have_singular_values_near_one(shape):
    """Whatever those of the gradient are, here from 1 to 1e-2."""
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    s = torch.logspace(0, -2, min(shape))
    made = orthogonalised(100 * u @ torch.diag(s) @ v)
    values = u.mT @ made @ v.mT
    assert float(values.diagonal().min()) > 0.6
    assert float(values.diagonal().max()) < 1.3
    # and it has the singular vectors of the gradient
    assert float((values - torch.diag(values.diagonal())).abs().max()) < 1e-4


def test_the_rest_is_adam():
    torch.manual_seed(0)
    start = [torch.randn(5, 60), torch.randn(60), torch.randn(3, 40, 40)]
    runs = []
    for kind in (Muon, torch.optim.Adam):
        parameters = [torch.nn.Parameter(tensor.clone()) for tensor in start]
        optimizer = kind(parameters, lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            sum((p**4).sum() for p in parameters).backward()
            optimizer.step()
        runs.append(parameters)
    for one, other in zip(*runs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_a_step_does_not_depend_on_the_size_of_the_gradient():
    torch.manual_seed(0)
    weight, gradient = torch.randn(40, 40), torch.randn(40, 40)
    changed = []
    for size in (1.0, 1e-6):
        parameter = torch.nn.Parameter(weight.clone())
        parameter.grad = size * gradient
        Muon([parameter], lr=0.01).step()
        changed.append(parameter.detach() - weight)
    torch.testing.assert_close(*changed, rtol=1e-3, atol=1e-5)
    # a tenth in each direction, or about so
    values = torch.linalg.svdvals(changed[0])
    assert 0.02 < float(values.min()) < float(values.max()) < 0.13


def test_weights_decay():
    weight = torch.nn.Parameter(torch.ones(40, 40))
    weight.grad = torch.zeros(40, 40)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(weight.detach(), torch.full((40, 40), 0.95))


def test_a_stopped_training_goes_on_bit_for_bit(tmp_path):
    recipe = Training(epochs=3, batch_size=100, optimizer="muon", seed=3)
    source, kind = Arrays(linear_data(600)), model_class("mlp")

    def build():
        torch.manual_seed(0)
        return kind(kind.options_type(width=32, blocks=1), Pairs())

    through = build()
    fit(through, source, recipe)
    stops = iter([False] * 5 + [True])
    fit(build(), source, recipe, folder=tmp_path, stop=lambda: next(stops))
    resumed = build()
    assert fit(resumed, source, recipe, folder=tmp_path, resume=True).finished
    state = resumed.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in through.state_dict().items())


def test_the_choice_checks_itself():
    with pytest.raises(ValueError, match="optimizer must be adam or muon, got 'sgd'"):
        Training(optimizer="sgd")
