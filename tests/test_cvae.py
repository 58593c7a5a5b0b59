"""Autoencoders: a bound that is one, a collapse that is understood, latents from four places.

The closed form: x = W z + A c + b + noise with z standard normal is a Gaussian, and its
posterior of z a Gaussian with a mean linear in x and c. An encoder set to it makes the bound
exact, and any other one does not reach the likelihood.
"""

import math

import pytest
import torch
from pairs import Pairs, linear_data
from torch import nn

from generative.cvae import Cvae, CvaeOptions, CvaeTwoStage, TwoStageOptions
from generative.data import Arrays
from generative.recipe import Training
from generative.representation import Batch, as_batch
from generative.train import fit

SMALL = {"latent_size": 2, "hidden": (16,)}


def linear_model(*, draws: int, sigma: float = 0.5, off: float = 0.0):
    """Return a linear autoencoder with a closed form, data of it, and their log-likelihood.

    Parameters
    ----------
    off : float
        How far the encoder is from the exact posterior, in its deviations.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    w, a, b = normal(3, 2), normal(3, 2), normal(3)
    options = CvaeOptions(latent_size=2, hidden=(4,), prior="gauss", draws=draws)
    model = Cvae(options, Pairs(size=3, k=2)).double()
    precision = torch.eye(2).double() + w.mT @ w / sigma**2
    variance = 1 / precision.diagonal()
    gain = torch.linalg.solve(precision, w.mT) / sigma**2
    model.decoder = nn.Sequential(nn.Linear(4, 3).double())
    model.encoder = nn.Sequential(nn.Linear(5, 4).double())
    with torch.no_grad():
        model.decoder[0].weight.copy_(torch.cat([w, a], 1))
        model.decoder[0].bias.copy_(b)
        model.encoder[0].weight.zero_()
        model.encoder[0].weight[:2].copy_(torch.cat([gain, -gain @ a], 1))
        shift = off * variance.sqrt()
        model.encoder[0].bias.copy_(torch.cat([shift - gain @ b, variance.log()]))
        model.log_noise.fill_(math.log(sigma))
    model.eval()
    c, z = normal(400, 2), normal(400, 2)
    x = z @ w.mT + c @ a.mT + b + sigma * normal(400, 3)
    covariance = w @ w.mT + sigma**2 * torch.eye(3).double()
    exact = torch.distributions.MultivariateNormal(c @ a.mT + b, covariance).log_prob(x)
    # the encoder is diagonal, and loses what the posterior correlates
    lost = 0.5 * float(precision.diagonal().log().sum() - torch.logdet(precision))
    return model, Batch(x, c), exact, lost


def test_the_bound_of_the_exact_posterior():
    """Its gap is that of a diagonal Gaussian to a correlated one, to the last digit."""
    model, batch, exact, lost = linear_model(draws=1)
    torch.manual_seed(0)
    gaps = torch.stack([exact - model.log_prob(*batch).value for _ in range(200)])
    assert model.log_prob(*batch).kind == "ELBO"
    error = 4 * float(gaps.std()) / math.sqrt(gaps.numel())
    assert abs(float(gaps.mean()) - lost) < error


def test_a_worse_encoder_has_a_lower_bound():
    """Each latent that is off by a deviation costs what its width in the posterior says."""
    torch.manual_seed(0)
    bounds = []
    for off in (0.0, 0.5, 1.0):
        model, batch, exact, _ = linear_model(draws=1, off=off)
        values = torch.stack([model.log_prob(*batch).value for _ in range(50)])
        bounds.append(float((values - exact).mean()))
    assert bounds[2] < bounds[1] < bounds[0] < 0


def test_more_draws_approach_the_likelihood_from_below():
    gaps = []
    for draws in (1, 10, 1000):
        model, batch, exact, _ = linear_model(draws=draws, off=1.0)
        torch.manual_seed(0)
        score = model.log_prob(*batch)
        assert score.kind == ("IWAE" if draws > 1 else "ELBO")
        gaps.append(exact - score.value)
    means = [float(gap.mean()) for gap in gaps]
    assert means[0] > means[1] > means[2] > -0.01
    assert means[2] < 0.03 < means[0]
    # and the error that it states is the error that it has
    assert score.stderr is not None
    assert float((gaps[2] / score.stderr).std()) == pytest.approx(1, abs=0.3)


def test_the_loss_is_minus_the_bound():
    model, batch, _, _ = linear_model(draws=1)
    torch.manual_seed(0)
    bound = torch.stack([model.log_prob(*batch).value.mean() for _ in range(50)])
    loss = torch.stack([model.loss(batch)["loss"].detach() for _ in range(50)])
    error = 4 * math.sqrt(float(bound.var() + loss.var()) / 50)
    assert abs(float(loss.mean() + bound.mean())) < error


COIN = {"latent_size": 3, "hidden": (32,)}
WIDTH = 0.05


def coins(n, seed=0):
    """Return a number that is ±1 by chance, whatever is known, and two that are known."""
    generator = torch.Generator().manual_seed(seed)
    c = torch.randn(n, 2, generator=generator)
    sign = 2.0 * torch.randint(2, (n, 1), generator=generator) - 1
    x = torch.cat([sign, c], 1) + WIDTH * torch.randn(n, 3, generator=generator)
    return {"x": x.numpy(), "y": c.numpy()}


def trained(kind, options, data, epochs=40):
    torch.manual_seed(0)
    size, k = data["x"].shape[1], data["y"].shape[1]
    model = kind(options, Pairs(size=size, k=k))
    recipe = Training(epochs=epochs, batch_size=100, learning_rate=5e-3, warmup=50, seed=3)
    fit(model, Arrays(data), recipe)
    return model


@pytest.mark.parametrize("kind", [Cvae, CvaeTwoStage])
def test_the_published_loss_collapses(kind):
    """Its noise² of 3/2 is more than any number varies by, and no latent is worth its nats.

    Latents of a linear autoencoder live where the data vary by more than the noise. So draws
    lie between the two places that are possible.
    """
    options = kind.options_type.preset("published", **COIN)
    model = trained(kind, options, coins(2000), epochs=15)
    batch = as_batch(*coins(1000, seed=1).values())
    losses = model.loss(batch)
    assert float(losses["kl"]) < 0.05
    assert float(losses["active_units"]) == 0
    assert float(draws(model, batch.condition)[..., 0].abs().mean()) < 0.3


@pytest.mark.parametrize("kind", [Cvae, CvaeTwoStage])
def test_the_bound_with_learned_noise_does_not_collapse(kind):
    """Draws lie at either place, half of them each; the bound is above what one peak has."""
    options = kind.options_type(**COIN, warm_up=100, prior="flow")
    model = trained(kind, options, coins(2000), epochs=25)
    batch = as_batch(*coins(1000, seed=1).values())
    losses = model.loss(batch)
    assert float(losses["active_units"]) >= 1
    sign = draws(model, batch.condition)[..., 0]
    assert float((sign.abs() - 1).abs().median()) < 0.2
    assert 0.4 < float((sign > 0).float().mean()) < 0.6

    def gaussian(*widths):
        return -sum(math.log(width) + 0.5 * math.log(2 * math.pi * math.e) for width in widths)

    known = [WIDTH] * 2
    bound, error = model.log_prob(*batch).mean()
    assert bound > gaussian(1.0, *known) + 0.3
    assert bound < gaussian(WIDTH, *known) - math.log(2) + 4 * error


def test_the_published_loss_is_a_bound_of_a_stated_noise():
    """Squared error in the mean, divergence in the sum: the noise² is half the components."""
    options = CvaeOptions.preset("published", **SMALL)
    model = Cvae(options, Pairs(size=6, k=3)).eval()
    x, c = torch.randn(64, 6), torch.randn(64, 3)
    torch.manual_seed(0)
    parts = model.loss(Batch(x, c))
    torch.testing.assert_close(parts["loss"], parts["mse"] + parts["kl"])
    assert float(parts["noise"]) == pytest.approx(math.sqrt(6 / 2))
    mean, log_variance = model._encode(x, c)
    torch.manual_seed(0)
    z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
    nats = model._error(x, z, c).mean() + parts["kl"]
    constant = 3 * math.log(2 * math.pi * 3)
    torch.testing.assert_close(parts["loss"], nats - constant)


def test_a_weak_divergence_lets_latents_carry_the_answer():
    """Good with the true latent, useless with another: no prediction."""
    data, test = linear_data(4000), as_batch(*linear_data(1000, seed=1).values())
    options = CvaeOptions.preset("published", **SMALL, kl_weight=1e-4)
    model = trained(Cvae, options, data)
    told = ((model.reconstruction(*test) - test.x) / model.spread).square().mean()
    guessed = ((draws(model, test.condition)[:, 0] - test.x) / model.spread).square().mean()
    assert float(told) < 0.02
    assert float(guessed) > 10 * float(told)


def draws(model, condition, n=1):
    return model.sample(condition, n, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("latent", ["stored", "gaussian", "prior"])
def test_latents_come_from_where_they_are_said_to(latent):
    options = CvaeOptions(**SMALL, latent=latent, prior="conditional")
    model = Cvae(options, Pairs(size=2, k=3)).eval()
    torch.manual_seed(0)
    batch = as_batch(*linear_data(500).values())
    with torch.no_grad():
        model.encoder[-1].bias[:2] += 3  # where no standard normal is
    model.finish(iter([batch]))
    encoded = model._encode(*batch)[0].detach()
    near = 4 * float(model.latents.factor.norm()) / math.sqrt(500)
    assert float((model.latents.mean - encoded.mean(0)).norm()) < near
    c = torch.randn(1, 3)
    with torch.no_grad():
        z = model._new_latents(c, 4000, torch.Generator().manual_seed(0))[0]
    if latent == "stored":
        assert torch.isin(z[:, 0], model.latents.stored[:, 0]).all()
        return
    with torch.no_grad():
        prior_mean = model.prior.moments(c)[0][0]
    mean = model.latents.mean if latent == "gaussian" else prior_mean
    assert float(((z.mean(0) - mean) / z.std(0)).abs().max()) < 4 / math.sqrt(4000)


def test_warm_up_and_free_bits_are_of_training_only():
    options = CvaeOptions(**SMALL, warm_up=4, free_bits=0.5, noise="published")
    model = Cvae(options, Pairs(size=2, k=3))
    kl = torch.tensor([[0.2, 2.0], [0.4, 4.0]])  # 0.3 and 3 on average
    assert [float(model._charged(kl)) for _ in range(5)] == pytest.approx(
        [weight * (0.5 + 3.0) for weight in (0.25, 0.5, 0.75, 1.0, 1.0)]
    )
    assert int(model.steps) == 5
    assert float(model.eval()._charged(kl)) == pytest.approx(3.3)
    assert int(model.steps) == 5
    # of a sum that does not split, all latents together are free
    assert float(model.train()._charged(kl[:, :1])) == pytest.approx(2 * 0.5)


@pytest.mark.parametrize("prior", ["gauss", "conditional", "flow"])
def test_what_latents_say_is_told_by_each(prior):
    """Where a divergence is a sum over latents; validation alone asks for it."""
    options = CvaeOptions(**SMALL, prior=prior)
    model = Cvae(options, Pairs(size=2, k=3))
    batch = as_batch(*linear_data(200).values())
    assert set(model.loss(batch)) == {"loss", "mse", "noise"}
    parts = model.eval().loss(batch)
    each = [float(value) for key, value in parts.items() if key.startswith("kl_")]
    assert len(each) == (0 if prior == "flow" else 2)
    if each:
        assert float(parts["kl"]) == pytest.approx(sum(each), rel=1e-5)
        assert float(parts["active_units"]) == sum(value > 0.01 for value in each)


def test_two_stages_do_not_mix():
    """The decoder's error never reaches the autoencoder."""
    model = CvaeTwoStage(TwoStageOptions(**SMALL), Pairs(size=2, k=3)).train()
    batch = as_batch(*linear_data(64).values())
    gradients = []
    for scale in (1.0, 100.0):
        with torch.no_grad():
            model.log_noise.fill_(-math.log(scale))
        model.zero_grad()
        model.steps.zero_()
        torch.manual_seed(0)
        model.loss(batch)["loss"].backward()
        gradients.append([p.grad.clone() for p in model.encoder.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_published_sizes():
    """Encoder and decoder of the publication, nine positions and nine momenta."""
    model = Cvae(CvaeOptions.preset("published"), Pairs(size=9, k=9))
    widths = [m.out_features for m in model.encoder if isinstance(m, nn.Linear)]
    assert widths == [1024, 512, 2 * 8]
    assert [m.in_features for m in model.encoder if isinstance(m, nn.Linear)][0] == 9
    assert [m.in_features for m in model.decoder if isinstance(m, nn.Linear)][0] == 8 + 9
    assert sum(isinstance(m, nn.ELU) for m in model.encoder) == 2


@pytest.mark.parametrize(
    ("options", "known"),
    [({}, True), ({"latent": "stored"}, False), ({"noise": "published"}, False)],
)
def test_a_density_is_that_of_the_draws_or_none(options, known):
    model = Cvae(CvaeOptions(**SMALL, **options), Pairs(size=2, k=3)).eval()
    assert model.has_density is known
    if not known:
        with pytest.raises(TypeError, match="noise=learned and latent=prior only"):
            model.log_prob(torch.zeros(1, 2), torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"latent_size": 0}, "latent_size must be at least 1"),
        ({"free_bits": -1.0}, "free_bits must be 0 or more"),
        ({"prior": "rbm"}, "gauss, conditional, flow"),
        ({"latent": "test"}, "prior, stored, gaussian"),
    ],
)
def test_options_check_themselves(options, says):
    with pytest.raises(ValueError, match=says):
        CvaeOptions(**options)
    if "latent_size" in options:
        with pytest.raises(ValueError, match="of samples alone"):
            TwoStageOptions(encodes_condition=True)
