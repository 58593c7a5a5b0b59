"""A model of your own in forty lines: a mixture of Gaussians, trained and used like any other.

    python examples/own_model.py [--events 20000] [--out .]

A model is a class with a name, options that check themselves, and what it minimizes and draws,
in numbers that have mean 0 and deviation 1. Scales, the training loop, files, draws in bohr
and the solver's starts come with the base. The class registers itself under its name.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import coulex
from coulex.units import ANGSTROM
from generative import Arrays, Geometry, Model, Options, Sampler, Score, Training, fit, load
from generative.nets import mlp


@dataclass(frozen=True, kw_only=True)
class MixtureOptions(Options):
    """Sizes of the network, and how many Gaussians."""

    width: int = 64
    peaks: int = 4


class Mixture(Model):
    """Gaussians whose weights, means and widths a network makes of the condition."""

    name = "mixture"
    options_type = MixtureOptions

    def __init__(self, options, representation):
        super().__init__(options, representation)
        outputs = options.peaks * (1 + 2 * self.centre.numel())
        self.network = mlp(self.condition_size, (options.width,) * 2, outputs)

    def _mixture(self, c):
        raw = self.network(c).unflatten(1, (self.options.peaks, -1))
        mean, log_width = raw[..., 1:].chunk(2, -1)
        peaks = Independent(Normal(mean, log_width.clamp(-7, 7).exp()), 1)
        return MixtureSameFamily(Categorical(logits=raw[..., 0]), peaks)

    def _loss(self, x, c):
        return {"loss": -self._mixture(c).log_prob(x).mean()}

    def _sample(self, c, n, generator):
        mixture, rows = self._mixture(c), torch.arange(len(c))[:, None]
        weights = mixture.mixture_distribution.probs
        peak = torch.multinomial(weights, n, replacement=True, generator=generator)
        peaks = mixture.component_distribution.base_dist
        mean, width = peaks.loc[rows, peak], peaks.scale[rows, peak]
        return mean + width * torch.randn(mean.shape, generator=generator)

    def _log_prob(self, x, c):
        return Score(self._mixture(c).log_prob(x), "exact")


def main():
    """Train it on OCS, keep it, read it back, and let it start the solver."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()

    ocs = coulex.Molecule.named("OCS").with_charges([2, 2, 2])
    ions = {"masses": ocs.ion_masses, "charges": ocs.charges}
    shaken = coulex.Gaussian(sigma=0.05 * ANGSTROM)
    positions, _ = shaken.sample(ocs, seed=1, first=0, count=options.events)
    momenta = coulex.simulate(positions, ocs.ion_masses, ocs.charges).momenta
    arrays = {"initial_positions": positions, "momenta": momenta, **ions}

    geometry = Geometry.fit(
        arrays, coordinates="shape", conditions=("scale-free", "log-ker"), noise=(0.01, 0.01)
    )
    model = Mixture(MixtureOptions(), geometry)
    training = Training(epochs=10, batch_size=100, learning_rate=3e-3)
    history = fit(model, Arrays(arrays, constants=tuple(ions)), training).history
    print(f"negative log-likelihood {history.best_loss():.3f} nats at 1 % of noise")

    folder = options.out / "mixture"
    folder.mkdir(exist_ok=True)
    model.save(folder)
    sampler = Sampler(load(folder))
    rng = np.random.default_rng(1)
    drawn, log_q = sampler(momenta[:3], 1000, noise=0.01, rng=rng, **ions)
    bonds = np.linalg.norm(drawn[:, :, 0] - drawn[:, :, 1], axis=2) / ANGSTROM
    for mean, spread in zip(bonds.mean(axis=1), bonds.std(axis=1), strict=True):
        print(f"C-O bond {mean:.3f} ± {spread:.3f} Å")
    print(f"densities of all {log_q.size} draws known: {np.isfinite(log_q).all()}")


if __name__ == "__main__":
    main()
