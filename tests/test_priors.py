"""Priors of latents: closed forms against means over draws, densities that add up to one."""

import math

import pytest
import torch

from generative.latents import Latents
from generative.priors import PRIORS, make_prior, normal_log_prob

each_kind = pytest.mark.parametrize("kind", PRIORS)


def prior(kind, size=2, k=3):
    """Return a prior in double precision that is not where it starts."""
    torch.manual_seed(2)
    made = make_prior(kind, size, k, hidden=(8,), activation="tanh").double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@each_kind
@pytest.mark.parametrize("k", [3, 0])
def test_the_density_adds_up_to_one(kind, k):
    made = prior(kind, 2, k)
    edge = torch.linspace(-9, 9, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(edge, edge)
    c = torch.randn(1, k, dtype=torch.float64).expand(len(grid), -1)
    with torch.no_grad():
        total = made.log_prob(grid, c).exp().sum() * (edge[1] - edge[0]) ** 2
    # kinks of splines cost the trapezium rule some digits
    assert float(total) == pytest.approx(1, abs=3e-3)


@each_kind
@pytest.mark.parametrize("size", [1, 4])
def test_draws_have_the_density_that_is_said(kind, size):
    made = prior(kind, size)
    c = torch.randn(1, 3, dtype=torch.float64)
    with torch.no_grad():
        z = made.sample(c, 20_000, generator())[0]
        assert z.shape == (20_000, size)
        at = c.expand(len(z), -1)
        ratio = (made.log_prob(z + 0.1, at) - made.log_prob(z, at)).exp()
    assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / math.sqrt(len(z))


@each_kind
def test_the_divergence_is_the_mean_over_draws_of_the_encoder(kind):
    made = prior(kind)
    c = torch.randn(1, 3, dtype=torch.float64)
    mean = torch.tensor([[0.7, -0.2]], dtype=torch.float64)
    log_variance = torch.tensor([[-1.0, 0.4]], dtype=torch.float64)
    n = 100_000
    noise = torch.randn(n, 2, generator=generator(), dtype=torch.float64)
    z = mean + (0.5 * log_variance).exp() * noise
    at = c.expand(n, -1)
    with torch.no_grad():
        terms = normal_log_prob(z, mean, log_variance).sum(1) - made.log_prob(z, at)
        kl = made.kl(mean.expand(n, -1), log_variance.expand(n, -1), z, at)
    assert kl.shape == (n, 1 if kind == "flow" else 2)
    error = 4 * float(terms.std()) / math.sqrt(n)
    assert abs(float(kl.sum(1).mean() - terms.mean())) < error
    if kind != "flow":  # in closed form: no event differs from another
        assert float(kl.std(0).max()) < 1e-12


def test_the_divergence_of_the_prior_itself_is_zero():
    made = prior("conditional")
    c = torch.randn(5, 3, dtype=torch.float64)
    mean, log_variance = made.moments(c)
    assert float(made.kl(mean, log_variance, mean, c).detach().abs().max()) < 1e-12
    zero = torch.zeros(5, 2).double()
    assert float(prior("gauss").kl(zero, zero, zero, c).abs().max()) == 0


def test_an_untrained_conditional_prior_is_the_standard_normal():
    made = make_prior("conditional", 3, 2, hidden=(8,), activation="silu")
    z, c = torch.randn(4, 3), torch.randn(4, 2)
    plain = make_prior("gauss", 3, 2, hidden=(), activation="silu")
    torch.testing.assert_close(made.log_prob(z, c).detach(), plain.log_prob(z, c))


@each_kind
def test_seeds(kind):
    made, c = prior(kind), torch.randn(3, 3).double()
    with torch.no_grad():
        one, same, other = (made.sample(c, 4, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert (one != other).all()


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="prior must be gauss, conditional, flow, got 'vamp'"):
        make_prior("vamp", 2, 3, hidden=(8,), activation="silu")


def test_latents_are_a_fair_subset_and_their_gaussian():
    """10,000 latents in uneven batches: 4096 of them stay, each as probable as another."""
    latents = Latents(2).double()
    rows = torch.arange(10_000, dtype=torch.float64)
    z = torch.stack([rows, 3 * rows + torch.randn(10_000, generator=generator())], 1)
    torch.manual_seed(0)
    latents.learn(z.split([1, 4999, 4000, 1000]))
    kept = latents.stored[:, 0]
    assert len(kept.unique()) == len(kept) == 4096
    # the mean of a subset without replacement of uniform numbers
    sigma = 10_000 / math.sqrt(12 * 4096) * math.sqrt(1 - 0.4096)
    assert abs(float(kept.mean()) - 4999.5) < 4 * sigma
    torch.testing.assert_close(latents.mean, z.mean(0))
    torch.testing.assert_close(latents.factor @ latents.factor.mT, z.mT.cov(correction=0))
    drawn = latents.draw_gaussian(50, 1000, generator()).flatten(0, 1)
    torch.testing.assert_close(drawn.mT.cov(), z.mT.cov(), rtol=0.03, atol=0)
    again = latents.draw_stored(3, 5, generator())
    assert again.shape == (3, 5, 2)
    assert torch.isin(again[..., 0], kept).all()


def test_fewer_latents_than_places():
    latents = Latents(1)
    latents.learn(iter([torch.tensor([[1.0], [2.0]])]))
    assert set(latents.stored.flatten().tolist()) == {1.0, 2.0}
    assert float((latents.stored == 1).float().mean()) == 0.5
    with pytest.raises(ValueError, match="no latents"):
        latents.learn(iter([]))
