"""Affine couplings of several libraries, of the same sizes, for `train.py` to compare.

Each function takes sizes and returns a module, `log_prob(x, c)`, and `draw(c)` with one sample
for each condition. All have the same number
of couplings, two hidden layers of the same width with ReLU, and about the same number of
parameters. A library that is not installed raises ImportError.
"""

import torch
from torch import nn


def coulex(size, condition_size, couplings, width):
    """Make our own stack."""
    from generative.couplings import Couplings

    module = Couplings(size, condition_size, couplings=couplings, width=width, limit=2.0)
    return module, *_of_latent(module, module.inverse, size)


def plain(size, condition_size, couplings, width):
    """Make what a careful author would write: `nn.Linear`, `chunk`, `cat`, `flip`."""
    module = Plain(size, condition_size, couplings, width)
    return module, *_of_latent(module, module.inverse, size)


def zuko(size, condition_size, couplings, width):
    """Make zuko's RealNVP; its masks alternate, so that nothing is reversed."""
    import zuko

    module = zuko.flows.RealNVP(
        size, condition_size, transforms=couplings, hidden_features=(width, width)
    )
    return module, lambda x, c: module(c).log_prob(x), lambda c: module(c).sample()


def freia(size, condition_size, couplings, width):
    """Make FrEIA's one-sided couplings with fixed permutations between them.

    Of its blocks the fastest: `AllInOneBlock` multiplies by a matrix to permute, and
    `GLOWCouplingBlock` has two networks in each.
    """
    from FrEIA import framework, modules

    def network(inputs, outputs):
        dense = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        return nn.Sequential(*dense, nn.Linear(width, outputs))

    module = framework.SequenceINN(size)
    for _ in range(couplings):
        module.append(
            modules.AffineCouplingOneSided,
            cond=0,
            cond_shape=(condition_size,),
            subnet_constructor=network,
        )
        module.append(modules.PermuteRandom)
    return module, *_of_latent(
        lambda x, c: module(x, [c]), lambda z, c: module(z, [c], rev=True)[0], size
    )


LIBRARIES = {"coulex": coulex, "plain": plain, "zuko": zuko, "FrEIA": freia}


class Plain(nn.Module):
    """Affine couplings with flips, as in a textbook."""

    def __init__(self, size, condition_size, couplings, width):
        super().__init__()
        self.kept = size // 2
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(self.kept + condition_size, width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Linear(width, 2 * (size - self.kept)),
            )
            for _ in range(couplings)
        )

    def forward(self, x, c):
        log_det = 0
        for network in self.networks:
            left, right = x[:, : self.kept], x[:, self.kept :]
            raw, shift = network(torch.cat([left, c], dim=1)).chunk(2, dim=1)
            s = 2 * torch.tanh(raw / 2)
            x = torch.cat([left, right * s.exp() + shift], dim=1).flip(1)
            log_det = log_det + s.sum(1)
        return x, log_det

    def inverse(self, z, c):
        for network in reversed(self.networks):
            left, right = z.flip(1).split([self.kept, z.shape[1] - self.kept], dim=1)
            raw, shift = network(torch.cat([left, c], dim=1)).chunk(2, dim=1)
            z = torch.cat([left, (right - shift) * torch.exp(-2 * torch.tanh(raw / 2))], dim=1)
        return z


def _of_latent(forward, inverse, size):
    def log_prob(x, c):
        z, log_det = forward(x, c)
        return log_det - 0.5 * (z**2 + torch.log(torch.tensor(2 * torch.pi))).sum(1)

    def draw(c):
        return inverse(torch.randn(len(c), size, device=c.device), c)

    return log_prob, draw
