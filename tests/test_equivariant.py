"""Expansions in spherical harmonics against other ways to compute them."""

import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y
from sympy.physics.wigner import wigner_3j

from generative.equivariant import (
    Bispectrum,
    ChannelMix,
    Coupling,
    Radial,
    by_degree,
    harmonics,
    power_spectrum,
)

PATHS = [
    (1, 2, 1),
    (2, 3, 1),
    (1, 1, 1),
    (2, 2, 1),
    (3, 3, 1),
    (2, 3, 4),
    (3, 3, 4),
    (4, 4, 4),
]


def vectors(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(*shape, 3)))


def rotation(seed=0, mirror=False):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return torch.from_numpy(q * np.sign(np.linalg.det(q)) * (-1 if mirror else 1))


def expansion(x, l_max=4, channels=3):
    """Return what atoms (m, n, 3) are about their centre."""
    torch.manual_seed(0)
    radial = Radial(channels, reach=4.0, gaussians=6).double()
    return harmonics(x, l_max).mT @ radial(x.norm(dim=2)).detach()


def complex_to_real(l):
    """Return U with Y_real = U Y_complex, m from -l to l, without the phase (-1)^m."""
    u = np.zeros((2 * l + 1, 2 * l + 1), complex)
    u[l, l] = 1
    for m in range(1, l + 1):
        u[l + m, l + m], u[l + m, l - m] = (-1) ** m, 1
        u[l - m, l + m], u[l - m, l - m] = -1j * (-1) ** m, 1j
        u[[l + m, l - m]] /= math.sqrt(2)
    return u


def real_3j(l1, l2, l3):
    """Return the 3j symbol of real harmonics, to a phase, from that of complex ones."""
    symbol = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            value = float(wigner_3j(l1, l2, l3, m1, m2, -m1 - m2))
            symbol[l1 + m1, l2 + m2, l3 - m1 - m2] = value
    us = [complex_to_real(l).conj() for l in (l1, l2, l3)]
    real = np.einsum("abc,ia,jb,kc->ijk", symbol, *us)
    return real.imag if np.abs(real.imag).max() > np.abs(real.real).max() else real.real


def test_harmonics_are_those_of_scipy():
    x = vectors(50)
    unit = (x / x.norm(dim=1, keepdim=True)).numpy()
    # the order x, y, z of l = 1 makes y the polar axis, and z the one that angles start at
    theta, phi = np.arccos(unit[:, 1]), np.arctan2(unit[:, 0], unit[:, 2])
    expected = []
    for l in range(7):
        y = np.stack([sph_harm_y(l, m, theta, phi) for m in range(-l, l + 1)], 1)
        real = y @ complex_to_real(l).T
        assert np.abs(real.imag).max() < 1e-13
        expected.append(real.real * math.sqrt(4 * math.pi / (2 * l + 1)))
    found = harmonics(x, 6).numpy()
    assert np.abs(found - np.concatenate(expected, 1)).max() < 1e-12


def test_products_of_harmonics_are_legendre_polynomials():
    a, b = vectors(20, seed=1), vectors(20, seed=2)
    cosine = (a * b).sum(1) / a.norm(dim=1) / b.norm(dim=1)
    ya, yb = (harmonics(v, 5).unsqueeze(-1) for v in (a, b))
    found = power_spectrum(ya, yb).numpy()
    for l in range(6):
        legendre = np.polynomial.legendre.Legendre.basis(l)(cosine.numpy())
        assert np.abs(found[:, l] - legendre).max() < 1e-12


@pytest.mark.parametrize("path", PATHS)
def test_coupling_is_that_of_clebsch_and_gordan(path):
    l1, l2, l3 = path
    a, b = (torch.randn(4, 2 * l + 1, 2, dtype=torch.float64) for l in (l1, l2))
    symbol = real_3j(l1, l2, l3) * math.sqrt(2 * l3 + 1)
    expected = np.einsum("ijk,nic,njc->nkc", symbol, a.numpy(), b.numpy())
    found = Coupling(l1, l2, l3)(a, b).numpy()
    sign = np.sign((found * expected).sum())  # the phase of a symbol is a convention
    assert np.abs(found - sign * expected).max() < 1e-12


def test_a_coupling_is_built_where_tensors_have_no_values():
    """As when the sizes of a stored model are checked before its parameters are read."""
    with torch.device("meta"):
        found = Coupling(3, 4, 5)
    a, b = torch.randn(1, 7, 1).double(), torch.randn(1, 9, 1).double()
    assert found(a, b).abs().max() > 0


def test_the_coupling_of_vectors_is_their_cross_product():
    a, b = vectors(9, seed=1), vectors(9, seed=2)
    found = Coupling(1, 1, 1)(a.unsqueeze(-1), b.unsqueeze(-1)).squeeze(-1)
    cross = torch.linalg.cross(a, b) / math.sqrt(2)
    assert min((found - cross).abs().max(), (found + cross).abs().max()) < 1e-12


@pytest.mark.parametrize("path", PATHS)
def test_what_is_coupled_turns(path):
    """A product of turned expansions is the turned product; a mirror shows its parity."""
    l1, l2, l3 = path
    x, y = vectors(5, 3, seed=1), vectors(5, 3, seed=2)
    mirror = sum(path) % 2
    for q in (rotation(), rotation(mirror=True)):
        products = []
        for turned in (x, x @ q.T), (y, y @ q.T):
            products.append([by_degree(expansion(t)) for t in turned])
        before, after = (
            Coupling(*path)(products[0][i][l1], products[1][i][l2]) for i in (0, 1)
        )
        sign = torch.linalg.det(q) if mirror else 1.0
        # of the same l as harmonics, which a matrix D turns: found from directions
        points = vectors(40, seed=3)
        d = torch.linalg.lstsq(
            by_degree(harmonics(points, l3).unsqueeze(-1))[l3].squeeze(-1),
            by_degree(harmonics(points @ q.T, l3).unsqueeze(-1))[l3].squeeze(-1),
        ).solution.mT
        assert (after - sign * d @ before).abs().max() < 1e-12


def test_invariants_do_not_turn():
    x = vectors(6, 8, seed=4) * 1.5
    bispectrum, mix = Bispectrum(4), ChannelMix(3, 5, 4).double()
    q, mirror = rotation(), rotation(mirror=True)

    def numbers(x):
        a = expansion(x)
        return power_spectrum(*(mix(a), mix(a).flip(-1))), *bispectrum(a)

    power, even, odd = numbers(x)
    scale = odd.abs().max()
    assert scale > 1e-2
    for other, sign in ((x @ q.T, 1), (x @ mirror.T, -1), (x.flip(1), 1)):
        found = numbers(other)
        assert (found[0] - power).abs().max() < 1e-12 * power.abs().max()
        assert (found[1] - even).abs().max() < 1e-12 * even.abs().max()
        assert (found[2] - sign * odd).abs().max() < 1e-12 * scale


def test_four_bonds_are_seen_from_l_of_three():
    bonds = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).double()
    a = harmonics(bonds, 4).sum(0)[:, None]
    power = power_spectrum(a, a) / 4
    expected = torch.tensor([4, 0, 0, 20 / 9, 28 / 27], dtype=torch.float64)
    assert (power - expected).abs().max() < 1e-12


def test_atoms_enter_smoothly():
    radial = Radial(3, reach=4.0, gaussians=6).double()
    r = torch.linspace(3.9, 4.1, 201, dtype=torch.float64)
    value = radial(r).detach()
    assert value[r >= 4].abs().max() < 1e-30
    # cos² falls as the square of what is left to the reach
    assert value[99].abs().max() < 2e-6 * radial(torch.tensor(2.0).double()).abs().max()
