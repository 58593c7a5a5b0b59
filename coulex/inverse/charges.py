"""Which charges the ions had, where nobody knows: evidence under a stated prior.

The residual cannot tell: nearly every wrong assignment of charges has a geometry that gives
the momenta exactly. But it is a geometry of another size and shape. How probable momenta P are
with charges q is, for a density of geometries,

    p(P | q) = Σ prior(x) / |det ∂p/∂x|    over all x with p(x) = P,

and assignments are as probable as this says. A detector that sees the mass over the charge
only confuses some ions in the first place, O⁺ and S²⁺ for instance; these are listed.
"""

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from scipy.special import logsumexp

from coulex.ensemble import Ensemble
from coulex.molecule import Molecule

from .inversion import SUM_TOLERANCE
from .prior import log_density
from .roots import Search, by_search
from .starts import guesses, of_prior

#: relative difference of m/q below which two kinds of ion are one to a spectrometer
RESOLUTION = 2e-3

_MOST = 1000  #: assignments
_PATIENCE = 4  #: starts in vain: a geometry that is missed costs the whole of its evidence


@dataclass(frozen=True)
class Ranking:
    """Assignments of charges, the most probable over all events first."""

    charges: np.ndarray  #: (assignments, ions)
    #: (n, assignments), logarithms of p(momenta | charges), all up to the same constant; -inf
    #: where no geometry was found to which the prior gives a density
    log_evidence: np.ndarray
    #: (assignments,), if all events have the same charges, and all were as probable before
    probability: np.ndarray
    #: pairs of (ion, charge) that have the same m/q within `RESOLUTION`
    ambiguous: tuple[tuple[tuple[int, int], tuple[int, int]], ...]

    @property
    def best(self) -> np.ndarray:
        """Return the most probable charges (n, ions) of each event by itself."""
        return self.charges[self.log_evidence.argmax(axis=1)]


def rank_charges(
    momenta, *, prior: tuple[Ensemble, Molecule] | None, up_to: int, threads=None
) -> Ranking:
    """Rank all assignments of charges from 1 to `up_to` by their evidence.

    Parameters
    ----------
    momenta : (n, ions, 3) array
        In atomic units, without a sum; from rest.
    prior : (Ensemble, Molecule)
        What is known of the geometry; the molecule also says the masses.
    up_to : int
        Highest charge of an ion.
    threads : int, optional

    Returns
    -------
    Ranking

    Raises
    ------
    ValueError
        If no prior is given, for without one nothing decides; if it has no density or another
        number of atoms; if momenta are not finite or have a sum; if there are too many
        assignments.

    Notes
    -----
    Geometries are searched for from the molecule and from draws of the prior: those far from
    it are missed, and would weigh nothing. Evidence is that of exact momenta: at a fold, noise
    takes geometries away and their evidence with them. In the sum over events, one without a
    geometry counts as improbable as the most improbable that has one.
    """
    if prior is None:
        msg = (
            "charges are ranked under a prior: any charges have a geometry, name what is usual"
        )
        raise ValueError(msg)
    molecule = prior[1]
    p = np.asarray(momenta, float)
    ions = len(molecule.symbols)
    if p.ndim != 3 or p.shape[1:] != (ions, 3) or not np.isfinite(p).all():
        msg = f"momenta must be finite and have shape (n, {ions}, 3), got {p.shape}"
        raise ValueError(msg)
    total = np.linalg.norm(p.sum(axis=1), axis=1)
    off = total > SUM_TOLERANCE * np.linalg.norm(p, axis=(1, 2))
    if off.any():
        msg = f"the momenta of event {off.argmax()} do not add up to zero; take their sum out"
        raise ValueError(msg)
    if up_to < 1 or up_to**ions > _MOST:
        msg = f"charges up to {up_to} of {ions} ions: from 1 to {_MOST} assignments are ranked"
        raise ValueError(msg)
    log_density(*prior, np.empty((0, ions, 3)))  # one without is refused at once
    charges = np.array(list(product(range(1, up_to + 1), repeat=ions)), float)
    log = np.full((len(p), len(charges)), -np.inf)
    for k, q in enumerate(charges):
        log[:, k] = _log_evidence(p, molecule.masses - q, q, prior, threads)
    whole = np.where(np.isfinite(log), log, np.min(log, initial=0.0, where=np.isfinite(log)))
    summed = whole.sum(axis=0)
    order = np.argsort(-summed, kind="stable")
    probability = np.exp(summed - logsumexp(summed))
    same = ambiguities(molecule, up_to)
    return Ranking(charges[order], log[:, order], probability[order], same)


def _log_evidence(momenta, masses, charges, prior, threads):
    """Return log p(momenta | charges), up to a constant."""
    starts = of_prior(*prior, otherwise=guesses(momenta, masses))
    search = Search(patience=_PATIENCE)
    found = by_search(momenta, masses, charges, starts, search=search, threads=threads)
    each = log_density(*prior, found.positions) - found.response.log_determinant
    out = np.full(len(momenta), -np.inf)
    np.logaddexp.at(out, found.event, each)
    return out


def ambiguities(molecule: Molecule, up_to: int):
    """Return the pairs of (ion, charge) of different mass or charge that fly alike."""
    kinds = list(product(range(len(molecule.symbols)), range(1, up_to + 1)))
    ratio = {kind: (molecule.masses[kind[0]] - kind[1]) / kind[1] for kind in kinds}
    return tuple(
        (one, two)
        for one, two in combinations(kinds, 2)
        if molecule.symbols[one[0]] != molecule.symbols[two[0]]
        and abs(ratio[one] / ratio[two] - 1) < RESOLUTION
    )
