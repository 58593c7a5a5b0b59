"""The two conditional invertible networks: densities, draws, and what is no prediction."""

import math

import pytest
import torch
from pairs import Pairs, linear_data

from generative.cinn import LATENTS, Cinn, CinnLatent, CinnLatentOptions, CinnOptions
from generative.representation import Batch, as_batch

SMALL = {"couplings": 4, "width": 16}


def cinn(size=2, k=1, **options) -> Cinn:
    torch.manual_seed(0)
    model = Cinn(CinnOptions(**SMALL | options), Pairs(size=size, k=k)).double()
    with torch.no_grad():
        model.couplings.leave.mul_(10)
    return model


def test_the_density_is_normalised():
    """By the sum over a grid; kinks of ReLU cost the trapezium rule some digits."""
    model = cinn()
    c = torch.tensor([[0.3]], dtype=torch.float64)
    drawn = model.sample(c, 2000, torch.Generator().manual_seed(0))[0]
    middle, half = drawn.mean(0), 12 * drawn.std(0)
    edge = torch.linspace(-1, 1, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(edge, edge) * half + middle
    density = model.log_prob(grid, c.expand(len(grid), -1)).value.exp()
    assert float(density.sum() * half.prod() * (2 / 800) ** 2) == pytest.approx(1, abs=2e-3)


def test_what_goes_forward_and_back_is_what_was_given():
    """Whatever was learned: so it is no prediction."""
    model = cinn(9, 3)
    x, c = torch.randn(7, 9).double(), torch.randn(7, 3).double()
    torch.testing.assert_close(model.reconstruction(x, c), x, rtol=0, atol=1e-9)


def trained(model, batch: Batch, steps: int, rate: float):
    model.standardise(iter([batch]))
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        rows = torch.randint(len(batch.x), (512,))
        optimizer.zero_grad()
        model.loss(Batch(*(t[rows] for t in batch)))["loss"].backward()
        optimizer.step()
    model.eval()
    model.finish(iter([batch]))
    return model


def test_a_gaussian_posterior_is_recovered():
    """x = A y + 1 + 0.1 noise, whose density is known."""
    data, fresh = linear_data(8192), linear_data(8192, seed=1)
    batch, test = as_batch(data["x"], data["y"]), as_batch(fresh["x"], fresh["y"])
    torch.manual_seed(0)
    model = Cinn(CinnOptions(couplings=6, width=32), Pairs(size=2, k=3))
    trained(model, batch, steps=900, rate=1e-2)
    mean, error = model.log_prob(*test).mean()
    exact = -math.log(2 * math.pi * 0.1**2) - 1  # minus the entropy
    # above it by luck of the sample at most; below it by what training leaves
    assert exact - 0.08 < mean < exact + 4 * error


@pytest.mark.parametrize("latent", LATENTS)
def test_the_latent_network_draws_without_positions(latent):
    """The mean of its draws is that of the data; what it was not told of it cannot know."""
    data, fresh = linear_data(4096), linear_data(512, seed=1)
    batch, test = as_batch(data["x"], data["y"]), as_batch(fresh["x"], fresh["y"])
    torch.manual_seed(0)
    options = CinnLatentOptions(
        latent_size=2,
        told_size=16,
        hidden=(32,),
        couplings=2,
        width=16,
        kl_weight=0.3,
        latent=latent,
    )
    model = trained(CinnLatent(options, Pairs(size=2, k=3)), batch, steps=500, rate=1e-2)
    drawn = model.sample(test.condition, 64, torch.Generator().manual_seed(0))
    error = ((drawn.mean(1) - test.x) ** 2).mean(0) / test.x.var(0)
    assert float(error.max()) < 0.05  # predicting the mean: 1
    assert not model.has_density


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        (CinnOptions, {"couplings": 0}, "at least 1, got 0 and 128"),
        (CinnOptions, {"limit": math.inf}, "limit must be positive"),
        (CinnLatentOptions, {"latent": "test"}, "stored, gaussian, prior"),
        (CinnLatentOptions, {"kl_weight": -1.0}, "kl_weight must be 0 or more"),
        (CinnLatentOptions, {"latent_size": 0}, "latent_size must be at least 1"),
    ],
)
def test_options_check_themselves(kind, options, says):
    with pytest.raises(ValueError, match=says):
        kind(**options)
