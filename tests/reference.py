"""Slow and obvious versions of the compiled core, and closed forms, to compare it with."""

import itertools

import numpy as np
from scipy.integrate import solve_ivp


def errors(momenta, true):
    """Return the relative error of the whole vector of momenta, event by event."""
    difference = np.subtract(momenta, true)
    return np.linalg.norm(difference, axis=(1, 2)) / np.linalg.norm(true, axis=(1, 2))


def forces(x, q):
    d = x[:, None] - x
    cube = np.linalg.norm(d, axis=2) ** 3
    np.fill_diagonal(cube, np.inf)
    return np.einsum("i,j,ijk->ik", q, q, d / cube[:, :, None])


def potential(x, q):
    i, j = np.triu_indices(len(q), 1)
    return np.sum(q[i] * q[j] / np.linalg.norm(x[i] - x[j], axis=1))


def trajectory(x, v, m, q, end=np.inf, share=0.0):
    """Follow ions until a time, or until so small a share of the energy is potential.

    Explicit Runge-Kutta of order 8, Dormand and Prince, from scipy; returns x and v.
    """
    size, i, j = x.size, *np.triu_indices(len(m), 1)
    near = np.linalg.norm(x[i] - x[j], axis=1).min()
    kinetic = np.sum(m * np.sum(v**2, axis=1)) / 2
    fast = np.sqrt((kinetic + np.abs(q[i] * q[j]).sum() / near) / m.min())

    def rate(_, y):
        return np.concatenate(
            [y[size:], (forces(y[:size].reshape(-1, 3), q) / m[:, None]).ravel()]
        )

    def far(_, y):
        now = np.sum(m * np.sum(y[size:].reshape(-1, 3) ** 2, axis=1)) / 2
        return abs(potential(y[:size].reshape(-1, 3), q)) - share * now

    far.terminal = True
    out = solve_ivp(
        rate,
        (0, min(end, 1e15)),
        np.concatenate([x.ravel(), v.ravel()]),
        "DOP853",
        events=far if share else None,
        rtol=3e-14,
        atol=np.repeat([1e-15 * near, 1e-15 * fast], size),
    )
    assert out.success, out.message
    return out.y[:size, -1].reshape(-1, 3), out.y[size:, -1].reshape(-1, 3)


def explode(x, m, q, p=None, share=1e-7):
    """Return the momenta at infinity, in the frame of the centre of mass.

    From where a `share` of the energy is potential, ions go straight at the velocity that they
    have then; the error of that is of the order of the share squared.
    """
    v = np.zeros_like(x) if p is None else p / m[:, None]
    v = v - m @ v / m.sum()
    x, v = trajectory(x - m @ x / m.sum(), v, m, q, share=share)
    momenta = m[:, None] * v
    for i, j in itertools.combinations(range(len(m)), 2):
        r, w = x[i] - x[j], v[i] - v[j]
        far, speed = np.linalg.norm(r), np.linalg.norm(w)
        # the integral of r(t) / |r(t)|^3 over r(t) = r + w t
        push = q[i] * q[j] * (r / far + w / speed) / (far * speed + r @ w)
        momenta[i] += push
        momenta[j] -= push
    return momenta


def kepler(x, p, m, q):
    """Return the momenta at infinity of two ions that are not bound, (n, 2, 3), exactly.

    With k = q1 q2, relative momentum P and L = r x P, the vector A = P x L + mu k r/|r| stays
    what it is, and at infinity it is P e x L + mu k e, with e the direction of P. So
    e = (mu k A - P A x L) / (mu^2 k^2 + P^2 L^2).
    """
    mu, k = m.prod() / m.sum(), q.prod()
    r = x[:, 0] - x[:, 1]
    w = p[:, 0] / m[0] - p[:, 1] / m[1]
    far = np.linalg.norm(r, axis=1, keepdims=True)
    square = mu**2 * np.sum(w**2, axis=1, keepdims=True) + 2 * mu * k / far
    end = np.sqrt(square)
    spin = np.cross(r, mu * w)
    a = np.cross(mu * w, spin) + mu * k * r / far
    below = (mu * k) ** 2 + square * np.sum(spin**2, axis=1, keepdims=True)
    way = end * (mu * k * a - end * np.cross(a, spin)) / below
    centre = p.sum(axis=1) / m.sum()
    return np.stack([m[0] * centre + way, m[1] * centre - way], axis=1)


def in_sphere(rng, n, ions, radius=4.0, separation=0.25):
    """Draw points (n, ions, 3), uniform in a ball, where no two are too close."""
    kept = []
    while len(kept) < n:
        x = rng.uniform(-radius, radius, (ions, 3))
        apart = [np.linalg.norm(a - b) for a, b in itertools.combinations(x, 2)]
        if min(apart) >= separation and np.linalg.norm(x, axis=1).max() <= radius:
            kept.append(x)
    return np.array(kept)
