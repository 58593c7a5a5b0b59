"""Geometries behind noisy momenta: the most probable one of an event, and how sure it is.

Every Cartesian component of the momentum of ion i has independent Gaussian noise of standard
deviation f |p_i|. With r(x) = (p(x) - P)/σ the geometry sought minimizes

    |r(x)|²/2 - log prior(x),

least squares without a prior. Of the priors only the Gaussian ensemble is part of this, as
min_R |x - R x₀|²/2w²: the orientation R is found along with the geometry, not averaged over.
The others choose among exact solutions. The curvature A at the minimum, JᵀC⁻¹J and that of the
prior, gives the covariance A⁻¹, and exp(-minimum) |A|^-1/2 the probability of one minimum
beside others (Laplace).

This is linear theory around one point. Where it fails, the status of the estimate says so.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.linalg import eigh, norm

from coulex.derivatives import jacobian
from coulex.ensemble import Ensemble, Gaussian
from coulex.explosions import simulate
from coulex.frames import kabsch, rotate
from coulex.molecule import Molecule

from . import solutions as s
from .identifiability import centred, covariance_of, lengths, shape_of
from .inversion import invert
from .response import across_fold, response
from .starts import guesses

#: standard deviations within which a fold, or a straight angle, spoils the linear theory
NEAR = 2.0

#: standard deviations from zero beyond which a sum of momenta is no noise
SUM_LIMIT = 6.0

_ROUNDS = 200
_SETTLED = 1e-9  #: what another step would gain, in units where noise costs 1/2
# At a fold the last steps are many, and gain nothing.
_NOTHING, _IDLE = 1e-5, 3  #: gain of a step, and how many of these in a row are enough
_STUCK = 1e8  #: damping with which a step that gains nothing is too short for any to do so
_LEAP = 0.3  #: largest relative change of a distance in one step
_STARTS = 8  #: where no solution is known


def spread(momenta, noise) -> np.ndarray:
    """Return the standard deviation (n, ions) of each component of noisy momenta."""
    return noise * lengths(momenta)


def without_sum(momenta, noise) -> np.ndarray:
    """Return the momenta (n, ions, 3) that add up to zero and are nearest within the noise."""
    p = np.asarray(momenta, float)
    variance = spread(p, noise)[:, :, None] ** 2
    total = variance.sum(axis=1, keepdims=True)
    share = np.divide(variance, total, out=np.zeros_like(variance), where=total > 0)
    return p - p.sum(axis=1, keepdims=True) * share


def excess(momenta, noise) -> np.ndarray:
    """Return the sum (n,) of the momenta in standard deviations of the noise."""
    p = np.asarray(momenta, float)
    sigma = np.sqrt((spread(p, noise) ** 2).sum(axis=1))
    total = norm(p.sum(axis=1), axis=1)
    with np.errstate(invalid="ignore"):  # of momenta that are no numbers
        return np.divide(total, sigma, out=np.zeros(len(p)), where=sigma > 0)


def estimate(
    momenta, masses, charges, *, noise, prior=None, symbols=None, project=False, **options
) -> s.Solutions:
    """Invert noisy momenta: the geometries behind them, the best one with its covariance.

    Parameters
    ----------
    momenta, masses, charges, prior
        As for `coulex.invert`.
    noise : float
        Standard deviation of each Cartesian component of a momentum, relative to its length.
    symbols : sequence of str, optional
        Names of the ions; else those of the prior, if there is one.
    project : bool
        Take out a sum of the momenta that is larger than noise explains.
    **options
        Others of `coulex.invert`.

    Returns
    -------
    Solutions
        With an `estimate`. Solutions are those of the momenta without their sum, of which each
        ion takes a share by the variance of its noise.

    Raises
    ------
    ValueError
        As `coulex.invert`; if noise is not above 0 and below 1.
    """
    if not 0 < noise < 1:
        msg = f"noise is a share of the momentum, above 0 and below 1, got {noise}"
        raise ValueError(msg)
    p = np.array(momenta, dtype=float)
    if p.ndim == 3 and p.shape[2] == 3:  # else it is refused
        with np.errstate(invalid="ignore"):
            small = (excess(p, noise) < SUM_LIMIT) | project
        p[small] = without_sum(p[small], noise)
    found = invert(p, masses, charges, prior=prior, **options)
    given = {"noise": noise, "prior": prior, "symbols": symbols}
    more = fit(found, p, masses, charges, threads=options.get("threads"), **given)
    return replace(found, estimate=more)


def fit(
    found: s.Solutions,
    momenta,
    masses,
    charges,
    *,
    noise: float,
    prior: tuple[Ensemble, Molecule] | None = None,
    symbols=None,
    threads=None,
) -> s.Estimate:
    """Find the most probable geometry of noisy momenta, starting from all exact ones.

    Parameters
    ----------
    found : Solutions
        Of these momenta.
    momenta : (n, ions, 3) array
        Their sum taken out.
    masses : (ions,) array
    charges : (ions,) or (n, ions) array
    noise : float
        Standard deviation of each component of a momentum, relative to its length.
    prior : (Ensemble, Molecule), optional
    symbols : sequence of str, optional
        Names of the ions; else those of the prior, if there is one.
    threads : int, optional

    Returns
    -------
    Estimate
    """
    p, m, q = np.asarray(momenta, float), np.asarray(masses, float), np.asarray(charges, float)
    gaussian = None
    if prior is not None and isinstance(prior[0], Gaussian):
        gaussian = (prior[0], prior[1])
    event, start, exact = _starts(found, p, m, prior, gaussian is None)
    own = q[event] if q.ndim == 2 else q
    model = _Model(p[event], spread(p[event], noise), m, own, gaussian, threads)
    x, cost, settled = model.minimize(start, still=exact & (gaussian is None))
    log = -cost - 0.5 * model.log_curvature(x)
    if gaussian is None:  # the solutions know their weights, with any prior
        first = np.flatnonzero(np.diff(found.solution_event, prepend=-1))
        weight = found.solution_weight[first]
        log[exact] = 0.0
        weights = np.ones(len(event))
        weights[exact] = weight
    else:
        weights = _shares(event, x, log, len(p))
    order = np.lexsort((-log, event))
    rows = order[np.flatnonzero(np.diff(event[order], prepend=-1))]
    if symbols is None and prior is not None:
        symbols = prior[1].symbols
    best = _Best(event[rows], x[rows], weights[rows], settled[rows], model.of(rows))
    return _estimate(found, best, shape_of(x, symbols), len(p))


@dataclass(frozen=True)
class _Best:
    """The best minimum of each event that has one."""

    event: np.ndarray
    x: np.ndarray
    weight: np.ndarray
    settled: np.ndarray
    model: "_Model"


def _starts(found, momenta, masses, prior, best_only):
    """Return events, geometries, and which of these are exact solutions."""
    events, geometries = found.solution_event, found.solution_positions
    if best_only:
        first = np.flatnonzero(np.diff(events, prepend=-1))
        events, geometries = events[first], geometries[first]
    parts = [(events, geometries, True)]
    usable = np.isfinite(momenta).all(axis=(1, 2)) & (norm(momenta, axis=(1, 2)) > 0)
    usable &= ~np.isin(found.status, (s.MOMENTUM_SUM, s.SIZE))
    alone = np.flatnonzero(usable & (found.n_solutions == 0))
    if alone.size:
        propose = guesses(momenta, masses)
        parts += [(alone, propose(alone, number), False) for number in range(_STARTS)]
    if prior is not None:
        every = alone if best_only else np.flatnonzero(usable)
        parts.append((every, np.tile(prior[1].positions, (len(every), 1, 1)), False))
    return (
        np.concatenate([event for event, _, _ in parts]),
        np.concatenate([x for _, x, _ in parts]),
        np.concatenate([np.full(len(event), exact) for event, _, exact in parts]),
    )


class _Model:
    """What is minimized, for many starts at once."""

    def __init__(
        self, momenta, sigma, masses, charges, prior: tuple[Gaussian, Molecule] | None, threads
    ):
        self.momenta, self.sigma, self.masses, self.charges = momenta, sigma, masses, charges
        self.prior, self.threads = prior, threads
        self.basis = centred(masses)

    def of(self, rows):
        """Return the same for some of the starts."""
        q = self.charges[rows] if self.charges.ndim == 2 else self.charges
        p, sigma = self.momenta[rows], self.sigma[rows]
        return _Model(p, sigma, self.masses, q, self.prior, self.threads)

    def begin(self, x):
        """Return starts about the centre of mass, of the right size, in the frame."""
        m = self.masses
        x = x - np.einsum("nik,i->nk", x, m)[:, None] / m.sum()
        p = simulate(x, m, self.charges, threads=self.threads).momenta
        size = (p**2 / m[:, None]).sum(axis=(1, 2))
        x = x * (size / (self.momenta**2 / m[:, None]).sum(axis=(1, 2)))[:, None, None]
        return rotate(x, kabsch(p, self.momenta, weights=1 / m)[0])

    def at(self, x):
        """Return costs (n,), gradients and curvatures in the basis, and the Jacobian."""
        size = 3 * len(self.masses)
        slopes = jacobian(x, self.masses, self.charges, threads=self.threads)
        assert slopes.positions is not None
        r = (slopes.explosions.momenta - self.momenta) / self.sigma[:, :, None]
        j = (slopes.positions / self.sigma[:, :, None, None, None]).reshape(-1, size, size)
        j = j @ self.basis
        r = r.reshape(-1, size)
        cost = 0.5 * (r**2).sum(axis=1)
        gradient = np.einsum("nik,ni->nk", j, r)
        curvature = np.swapaxes(j, 1, 2) @ j
        if self.prior is not None:
            more, slope, bend = _gaussian(*self.prior, x)
            cost = cost + more
            gradient = gradient + slope @ self.basis
            curvature = curvature + self.basis.T @ bend @ self.basis
        return cost, gradient, curvature, slopes.positions

    def minimize(self, start, *, still):
        """Return where the starts lead, what that costs, and whether they settled."""
        x = start.copy()
        moving = np.flatnonzero(~still)
        cost, settled = np.zeros(len(x)), np.array(still)
        if moving.size:
            x[moving], cost[moving], settled[moving] = self.of(moving)._descend(start[moving])
        return x, cost, settled

    def _descend(self, start):
        """Follow Levenberg and Marquardt downhill."""
        x = self.begin(start)
        cost, gradient, curvature, _ = self.at(x)
        settled, damping = np.zeros(len(x), bool), np.full(len(x), 1e-3)
        idle = np.zeros(len(x), np.int64)
        for _ in range(_ROUNDS):
            active = np.flatnonzero(~settled & np.isfinite(cost) & (damping < _STUCK))
            if not active.size:
                break
            values, vectors = eigh(curvature[active])
            scale = np.abs(values).max(axis=1, keepdims=True)
            values = np.maximum(np.abs(values), 1e-12 * scale)
            along = np.einsum("nki,nk->ni", vectors, gradient[active])
            hope = 0.5 * (along**2 / values).sum(axis=1)
            small = hope < _SETTLED
            settled[active[small]] = True
            active = active[~small]
            if not active.size:
                continue
            bent = (
                values[~small]
                + damping[active, None] * np.median(values[~small], axis=1)[:, None]
            )
            step = (
                -np.einsum("nki,ni->nk", vectors[~small], along[~small] / bent) @ self.basis.T
            )
            step = _shortened(x[active], step.reshape(len(active), -1, 3))
            tried = x[active] + step
            new = self.of(active).at(tried)
            better = new[0] < cost[active]
            good = active[better]
            gained = np.where(better, cost[active] - new[0], np.inf)
            idle[active] = np.where(gained < _NOTHING, idle[active] + 1, 0)
            settled[active] = idle[active] == _IDLE
            x[good], cost[good] = tried[better], new[0][better]
            gradient[good], curvature[good] = new[1][better], new[2][better]
            damping[active] *= np.where(better, 0.1, 10.0)
            damping = np.maximum(damping, 1e-12)
        return x, cost, settled | (damping >= _STUCK)

    def log_curvature(self, x):
        """Return log |A| at minima, infinite where there is none."""
        curvature = self.at(x)[2]
        good = np.isfinite(curvature).all(axis=(1, 2))
        out = np.full(len(x), np.inf)
        sign, log = np.linalg.slogdet(curvature[good])
        out[good] = np.where(sign > 0, log, np.inf)
        return out

    def covariance(self, x):
        """Return the covariance (n, ions, 3, ions, 3) of geometries."""
        slopes = self.at(x)[3]
        bend = None if self.prior is None else _gaussian(*self.prior, x)[2]
        return covariance_of(slopes, self.sigma, self.masses, bend)


def _shortened(x, step):
    """Return steps, none of which changes a distance by more than a share of it."""
    one, two = np.triu_indices(x.shape[1], 1)
    change = norm(step[:, one] - step[:, two], axis=2) / norm(x[:, one] - x[:, two], axis=2)
    worst = change.max(axis=1)
    return step * np.minimum(1.0, _LEAP / np.maximum(worst, 1e-300))[:, None, None]


def _gaussian(ensemble: Gaussian, molecule: Molecule, positions):
    """Return min_R |x - R x0|**2 / 2 w**2, its gradient and its second derivatives.

    R turns by M⁻¹ Σ y_i × dx_i, with y = R x0 and M = tr(Yᵀ X) - Σ y_i x_iᵀ, as the sum of
    x_i × y_i stays zero.
    """
    x = positions - positions.mean(axis=1, keepdims=True)
    fixed = molecule.positions - molecule.positions.mean(axis=0)
    count, ions, _ = x.shape
    rotations, _ = kabsch(np.broadcast_to(fixed, x.shape), x)
    y = rotate(np.broadcast_to(fixed, x.shape), rotations)
    width = ensemble.sigma**2
    gap = (x - y).reshape(count, -1)
    s = np.einsum("nij,nik->njk", y, x)
    turning = np.trace(s, axis1=1, axis2=2)[:, None, None] * np.eye(3) - s
    turning = 0.5 * (turning + np.swapaxes(turning, 1, 2))
    # of e_k · (y_i × dx_i): rows k
    arms = np.cross(np.eye(3)[None, :, None], y[:, None]).reshape(count, 3, -1)
    inverse = np.linalg.pinv(turning, rcond=1e-10, hermitian=True)
    bend = np.eye(3 * ions) - np.swapaxes(arms, 1, 2) @ inverse @ arms
    # the centre is free
    middle = np.kron(np.eye(ions) - np.full((ions, ions), 1 / ions), np.eye(3))
    return 0.5 * (gap**2).sum(axis=1) / width, gap / width, middle @ bend @ middle / width


def _shares(event, x, log, count):
    """Return the probabilities of minima, those of an event that are found twice once."""
    order = np.lexsort((-log, event))
    total, top = np.zeros(count), np.full(count, -np.inf)
    np.maximum.at(top, event, log)
    kept: dict[int, list[int]] = {}
    for row in order:
        if not np.isfinite(log[row]):
            continue
        others = kept.setdefault(int(event[row]), [])
        near = [norm(x[row] - x[k]) < 1e-3 * norm(x[row]) for k in others]
        if not any(near):
            others.append(int(row))
            total[event[row]] += np.exp(log[row] - top[event[row]])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.exp(log - top[event]) / total[event]


def _estimate(found, best: _Best, shape, count) -> s.Estimate:
    """Put together what is known of the best geometry of each event."""
    event, x, model = best.event, best.x, best.model
    covariance = model.covariance(x)
    values = np.stack([c.values(x) for c in shape], axis=1)
    deviations = np.stack([c.deviations(x, covariance) for c in shape], axis=1)
    fit = model.at(x)[0]
    if model.prior is not None:
        fit = fit - _gaussian(*model.prior, x)[0]
    status = np.full(len(event), s.LINEAR, np.uint8)
    angles = np.array([c.is_angle for c in shape])
    bend = np.minimum(values, 180 - values)
    straight = (angles & (bend < NEAR * deviations)).any(axis=1)
    status[straight] = s.NEAR_STRAIGHT
    status[~(_far(x, covariance, model) > NEAR)] = s.NEAR_FOLD
    status[~np.isfinite(deviations).all(axis=1)] = s.UNSETTLED
    status[found.n_solutions[event] == 0] = s.NEAREST
    status[~best.settled] = s.UNSETTLED

    def whole(part, fill=np.nan):
        out = np.full((count, *part.shape[1:]), fill, part.dtype)
        out[event] = part
        return out

    return s.Estimate(
        positions=whole(x),
        covariance=whole(covariance),
        coordinates=shape,
        values=whole(values),
        deviations=whole(deviations),
        misfit=whole(2 * fit),
        weight=whole(best.weight),
        status=whole(status, s.NO_ESTIMATE),
    )


def _far(x, covariance, model):
    """Return the distance (n,) of the fold along the weakest direction, in deviations."""
    m = model.masses
    if len(m) == 2:
        return np.full(len(x), np.inf)
    known = response(x, m, model.charges, threads=model.threads)
    fold = np.abs(across_fold(known, x, m, model.charges, threads=model.threads))
    weighted = known.weakest * m[:, None]
    unit = np.einsum("nia,nia->n", weighted, known.weakest)
    with np.errstate(invalid="ignore", divide="ignore"):
        square = np.einsum("nia,niajb,njb->n", weighted, covariance, weighted)
        return fold * unit / np.sqrt(square)
