"""Scores of unlike kinds never compare in silence."""

import pytest
import torch

from generative.score import Score, logmeanexp


def test_like_scores_subtract():
    a, b = Score(torch.tensor([3.0]), "exact"), Score(torch.tensor([1.0]), "exact")
    assert (a - b).item() == 2.0


def test_a_bound_is_not_a_likelihood():
    with pytest.raises(TypeError, match="kind exact and one of kind ELBO"):
        Score(torch.zeros(1), "exact") - Score(torch.zeros(1), "ELBO")


def test_kinds_are_named():
    with pytest.raises(ValueError, match="got 'nll'"):
        Score(torch.zeros(1), "nll")


def test_mean_of_exponentials():
    generator = torch.Generator().manual_seed(1)
    terms = torch.randn(200_000, generator=generator, dtype=torch.float64)
    value, error = logmeanexp(terms, 0)
    assert abs(value - 0.5) < 5 * error  # E exp(z) = exp(1/2)
    assert 0.002 < error < 0.005  # sqrt(e - 1) / sqrt(200000) = 0.0029
