"""The neural spline flow: a density that is one, and knows a posterior that is known."""

import math

import numpy as np
import pytest
import torch
import zuko
from pairs import Pairs, linear_data

from generative.flow import Flow, FlowOptions
from generative.representation import as_batch
from generative.splines import spline_flow

SMALL = {"width": 16, "blocks": 1, "transforms": 2, "hidden": 16, "bins": 5}


def flow(size=3, k=2, *, seed=0, dtype=torch.float64, **options) -> Flow:
    torch.manual_seed(seed)
    model = Flow(FlowOptions(**SMALL | options), Pairs(size=size, k=k)).to(dtype)
    with torch.no_grad():  # far from the identity
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize(("size", "k"), [(1, 2), (3, 2), (3, 0)])
def test_there_and_back(size, k):
    model = flow(size, k)
    z = torch.randn(5, 4, size, dtype=torch.float64)
    c = torch.randn(5, k, dtype=torch.float64)
    x = model.from_normal(z, c)
    again, _ = model.to_normal(x.flatten(0, 1), c.repeat_interleave(4, 0))
    # the quadratic of a spline is solved to some digits less than double precision has
    torch.testing.assert_close(again.reshape(z.shape), z, rtol=0, atol=1e-8)


def test_the_log_determinant_is_that_of_the_jacobian():
    model = flow()
    x, c = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    _, log_det = model.to_normal(x, c)
    for row in range(6):
        at = c[row : row + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda v, at=at: model.to_normal(v[None], at)[0][0], x[row]
        )
        assert isinstance(jacobian, torch.Tensor)
        found = torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(found, log_det[row], rtol=0, atol=1e-9)


def test_the_density_is_normalised():
    """By the sum over a grid that holds all of it but tails of less than 1e-6."""
    model = flow(2, 1)
    c = torch.tensor([[0.3]], dtype=torch.float64)
    drawn = model.sample(c, 2000, torch.Generator().manual_seed(0))[0]
    middle, half = drawn.mean(0), 12 * drawn.std(0)
    edge = torch.linspace(-1, 1, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(edge, edge) * half + middle
    density = model.log_prob(grid, c.expand(len(grid), -1)).value.exp()
    # splines have kinks in their second derivative only: the trapezium rule does well
    assert float(density.sum() * half.prod() * (2 / 800) ** 2) == pytest.approx(1, abs=1e-3)


def test_the_density_is_that_of_draws():
    """In the mean over draws p(x + shift)/p(x) is 1: importance sampling of a constant."""
    model = flow(2, 1)
    c = torch.tensor([[-0.4]], dtype=torch.float64)
    x = model.sample(c, 20_000, torch.Generator().manual_seed(1))[0]
    at = c.expand(len(x), -1)
    shifted = x + 0.1 * x.std(0)
    ratio = (model.log_prob(shifted, at) - model.log_prob(x, at)).exp()
    assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / math.sqrt(len(x))


def test_a_gaussian_posterior_is_recovered():
    """x = A y + 1 + 0.1 noise: mean and width at a condition, and the entropy over all."""
    data = linear_data(8192)
    batch = as_batch(data["x"], data["y"])
    torch.manual_seed(0)
    model = Flow(FlowOptions(**SMALL), Pairs(size=2, k=3))
    model.standardise(iter([batch]))
    steps = 600
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / steps)
        rows = torch.randint(len(batch.x), (512,))
        optimizer.zero_grad()
        model.loss(type(batch)(*(t[rows] for t in batch)))["loss"].backward()
        optimizer.step()
    fresh = linear_data(8192, seed=1)
    test = as_batch(fresh["x"], fresh["y"])
    mean, error = model.log_prob(*test).mean()
    exact = -math.log(2 * math.pi * 0.1**2) - 1  # minus the entropy
    # above it by luck of the sample at most; below it by what training leaves
    assert exact - 0.05 < mean < exact + 4 * error
    c = test.condition[:50]
    drawn = model.sample(c, 400, torch.Generator().manual_seed(0)).numpy()
    slope = np.random.default_rng(99).normal(size=(3, 2))
    off = (drawn.mean(1) - fresh["y"][:50] @ slope - 1) / 0.1
    assert np.sqrt((off**2).mean()) < 0.2
    # half of the 68 % interval: a short training leaves tails that a deviation would see
    low, high = np.quantile(drawn, [0.1587, 0.8413], axis=1)
    assert np.abs((high - low).mean(0) / 0.2 - 1).max() < 0.05


def test_the_splines_are_those_of_zuko():
    """The same parameters give the same function, with bins of all sizes."""
    torch.manual_seed(0)
    ours = spline_flow(3, 2, transforms=2, bins=6, hidden=(16, 16)).double()
    theirs = zuko.flows.NSF(3, 2, transforms=2, bins=6, hidden_features=(16, 16)).double()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.mul_(5)  # far from equal bins
    theirs.load_state_dict(ours.state_dict())
    x, c = 3 * torch.randn(200, 3).double(), torch.randn(200, 2).double()
    for got, wanted in zip(
        ours(c).transform.call_and_ladj(x), theirs(c).transform.call_and_ladj(x), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bins": 1}, "bins must be at least 2, got 1"),
        ({"transforms": 0}, "transforms must be at least 1, got 0"),
        ({"activation": "sine"}, "silu"),
    ],
)
def test_options_check_themselves(options, says):
    with pytest.raises(ValueError, match=says):
        FlowOptions(**options)
