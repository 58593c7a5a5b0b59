"""From measured momenta to every geometry that explains them: the checked driver."""

import numpy as np

from coulex.ensemble import Ensemble, Sphere
from coulex.explosions import checked
from coulex.molecule import Molecule
from coulex.units import ANGSTROM

from . import solutions as s
from .prior import log_density
from .roots import Found, Search, by_formula, by_search, by_table
from .solutions import Solutions
from .starts import anywhere, of_prior, of_sampler

#: condition number of the shape above which a geometry lies at a fold: the linear error of a
#: bond, 1e-13 of the momenta times that, is then no longer below 1e-8
FOLD_CONDITION = 1e5

#: distances that ions of a molecule may have, bohr
BOUNDS = (0.1 * ANGSTROM, 100 * ANGSTROM)

#: |sum p| / |p| up to which momenta add up to zero
SUM_TOLERANCE = 1e-6

#: share of the momenta that is rounding, where all ions move alike
_ROUNDING = 1e-12

#: without a hint of where the geometry is: there are many solutions then (of five ions some
#: 19), and the true one is as likely as any to be missed; 85 % of
#: the starts that arrive do so within 50 rounds
_THOROUGH = Search(patience=8, max_starts=200, rounds=50)

_HEAVY = 10_000  #: electron masses; below, it is hydrogen or helium


def invert(
    momenta,
    masses,
    charges,
    *,
    prior: tuple[Ensemble, Molecule] | None = None,
    sampler=None,
    search: Search | None = None,
    tolerance=1e-9,
    bounds=BOUNDS,
    project=False,
    noise: float | None = None,
    threads=None,
) -> Solutions:
    """Find every geometry from rest that explodes into measured momenta.

    Parameters
    ----------
    momenta : (n, ions, 3) array
        Asymptotic, in atomic units.
    masses : (ions,) array
        Of the ions, in electron masses.
    charges : (ions,) or (n, ions) array
        In elementary charges, all positive.
    prior : (Ensemble, Molecule), optional
        What is known of the geometry beforehand: it gives starts, and weights. Unless given,
        all positions are as probable, in mass-weighted Cartesian coordinates.
    sampler : callable, optional
        ``(momenta (k, ions, 3), n, *, charges, masses, noise, rng) -> positions (k, n, ions,
        3), log_q``: a source of starts, a network for instance.
    search : Search, optional
        When to stop looking for more, for four ions and more; by default later where neither
        a prior (spheres do not count) nor a sampler says where to look.
    tolerance : float
        Residual that a solution may have, relative to the whole vector of momenta.
    bounds : (float, float)
        Shortest and longest distance of two ions that is accepted, bohr.
    project : bool
        Take out the sum of the momenta, by mass, whatever its size.
    noise : float, optional
        Standard deviation of each Cartesian component of a momentum, relative to its length.
        Then the `estimate` of the result holds the most probable geometries, with covariances
        (`coulex.inverse.noise`), and the momenta may have a sum that noise explains.
    threads : int, optional
        As many as the process may use, unless given. The result does not depend on it.

    Returns
    -------
    Solutions
        Positions are in the frame of the momenta, about the centre of mass. Weights are prior
        density over the modulus of det d momenta / d positions, both in mass-weighted
        Cartesian coordinates; over the solutions of an event they add up to 1, and are alike
        where the prior has none of them. Residuals are those of momenta without their sum.

    Raises
    ------
    ValueError
        As `coulex.simulate`; if a charge is not positive, or the prior has no density or is of
        another molecule.

    Notes
    -----
    Each solution is re-simulated at tolerance 1e-13, and its residual is that of this
    simulation. Of three ions all geometries are found (but those whose bonds differ by more
    than the limits of the table); of more, those that the search came upon.
    """
    if noise is not None:
        from .noise import estimate

        options = {"sampler": sampler, "search": search, "tolerance": tolerance}
        options |= {"bounds": bounds, "project": project, "threads": threads}
        return estimate(momenta, masses, charges, noise=noise, prior=prior, **options)
    p = np.array(momenta, dtype=float)
    if p.ndim != 3 or p.shape[2] != 3:
        msg = f"momenta must have shape (n, ions, 3), got {p.shape}"
        raise ValueError(msg)
    known = np.asarray(np.isfinite(p).all(axis=(1, 2)))
    finite = np.where(known[:, None, None], p, 0.0)
    _, _, m, q = checked(finite, None, masses, charges, allow_attraction=True)
    if not (q > 0).all():
        msg = (
            "charges must be positive: an ion without charge does not say where it was, and "
            "ions that attract one another have no inversion"
        )
        raise ValueError(msg)
    if not tolerance > 0 or not 0 <= bounds[0] < bounds[1]:
        msg = f"tolerance must be positive, bounds ascend; got {tolerance} and {bounds}"
        raise ValueError(msg)
    if prior is not None:
        if len(prior[1].symbols) != len(m):
            msg = f"the prior has {len(prior[1].symbols)} atoms, the momenta {len(m)} ions"
            raise ValueError(msg)
        ratio = prior[1].with_charges(q[0]).ion_masses / m
        light = m < _HEAVY  # of hydrogen, isotopes differ by factors
        if not (light | ((ratio > 0.8) & (ratio < 1.25))).all():
            msg = (
                f"the prior is for {' '.join(prior[1].symbols)}, which the masses do not fit; "
                "are the ions in the same order?"
            )
            raise ValueError(msg)
        log_density(*prior, np.empty((0, len(m), 3)))  # one without is refused at once
    p[~known] = np.nan
    status = _unusable(p, m, q, project, bounds)
    rows = np.flatnonzero(status == s.SOLVED)
    own = q[0] if len(q) == 1 else q[rows]
    found = _find(p[rows], m, own, prior, sampler, search, tolerance, threads)
    return _solutions(found, rows, status, p.shape, prior, bounds)


def _unusable(p, m, q, project, bounds) -> np.ndarray:
    """Return the status of events that have no solution for sure, `SOLVED` for the others.

    The sum of the momenta is taken out of `p`, in place.
    """
    status = np.full(len(p), s.SOLVED, np.uint8)
    largest = np.abs(p).max(axis=(1, 2))
    with np.errstate(all="ignore"):  # of numbers out of range
        unit = p / largest[:, None, None]
        total = np.linalg.norm(unit.sum(axis=1), axis=1)
        off = total > SUM_TOLERANCE * np.linalg.norm(unit, axis=(1, 2))
        p -= p.sum(axis=1, keepdims=True) * (m / m.sum())[:, None]
        # the energy is that of all pairs at this distance: some are closer, some farther
        pairs = (q.sum(axis=1) ** 2 - (q**2).sum(axis=1)) / 2
        middle = pairs / (p**2 / m[:, None]).sum(axis=(1, 2)) * 2
        alike = np.abs(p).max(axis=(1, 2)) <= _ROUNDING * largest
    status[~((middle >= bounds[0]) & (middle <= bounds[1]))] = s.SIZE
    status[alike] = s.NO_ENERGY
    status[off & (not project)] = s.MOMENTUM_SUM
    status[largest == 0] = s.NO_ENERGY
    status[np.isnan(largest)] = s.NO_MOMENTA
    return status


def _find(p, m, q, prior, sampler, search, tolerance, threads) -> Found:
    options = {"threads": threads, "residual": tolerance}
    if len(m) == 2:
        return by_formula(p, m, q, threads=threads)
    if len(m) == 3:
        return by_table(p, m, q, **options)
    starts = anywhere(p, m)
    if prior is not None:
        starts = of_prior(*prior, otherwise=starts)
    if sampler is not None:
        starts = of_sampler(sampler, p, m, q, otherwise=starts)
    if search is None:
        vague = sampler is None and (prior is None or isinstance(prior[0], Sphere))
        search = _THOROUGH if vague else Search()
    return by_search(p, m, q, starts, search=search, **options)


def _solutions(found: Found, rows, status, shape, prior, bounds) -> Solutions:
    """Weigh what was found, order it, and say of every event what came out."""
    x, count = found.positions, len(rows)
    r = np.linalg.norm(x[:, :, None] - x[:, None], axis=-1)
    r = r[:, *np.triu_indices(shape[1], 1)]
    sized = (r.min(axis=1) >= bounds[0]) & (r.max(axis=1) <= bounds[1])
    had = np.bincount(found.event, minlength=count) > 0
    keep = np.flatnonzero(sized)
    event, x = found.event[keep], x[keep]
    log = np.log(found.copies[keep]) - found.response.log_determinant[keep]
    if prior is not None:
        log += log_density(*prior, x)
    weight = _normalized(log, event, count)
    order = np.lexsort((-weight, event))
    event, x, weight, keep = event[order], x[order], weight[order], keep[order]
    condition = found.response.condition[keep]

    numbers = np.bincount(event, minlength=count)
    first = np.flatnonzero(np.diff(event, prepend=-1))
    here = np.where(found.stationary, s.NO_GEOMETRY, s.NOT_CONVERGED)
    here[had] = s.SIZE
    here[numbers == 1] = s.SOLVED
    here[numbers > 1] = s.SEVERAL
    fold = np.zeros(count, bool)
    np.logical_or.at(fold, event, ~(condition < FOLD_CONDITION))
    here[fold] = s.FOLD
    status[rows] = here
    best, n_solutions = np.full(shape, np.nan), np.zeros(shape[0], np.int64)
    best[rows[event[first]]] = x[first]
    n_solutions[rows] = numbers
    return Solutions(
        positions=best,
        n_solutions=n_solutions,
        status=status,
        solution_event=rows[event],
        solution_positions=x,
        solution_residual=found.residual[keep],
        solution_weight=weight,
        solution_condition=condition,
        solution_sign=np.nan_to_num(found.response.sign[keep]).astype(np.int8),
    )


def _normalized(log, event, count) -> np.ndarray:
    """Return weights from their logarithms; all alike where every one is zero."""
    top = np.full(count, -np.inf)
    np.maximum.at(top, event, log)
    with np.errstate(invalid="ignore"):
        weight = np.where(np.isfinite(top[event]), np.exp(log - top[event]), 1.0)
    total = np.zeros(count)
    np.add.at(total, event, weight)
    return weight / total[event]
