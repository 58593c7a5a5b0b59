"""A search for latents whose environment has the known atoms: the published way to fill in.

An autoencoder of Gram matrices decodes latents z to G. Known atoms are part of it, the rest
starts as noise; from z = encode(G), and from draws of the prior, a descent minimises

    f(z) = (3k - 3) / 2 mean_known (ΔG_ij / s)² / σ² - λ log p(z),

with the scales s of the normaliser and the noise σ of training (as published: the sum of
squares): for λ = 1 the most probable latent; log p is -|z|²/2 where the prior is normal. Noise
stands in the rows of X rather than in entries of G, so that what the encoder sees has rank 3.

Which place of the decoded environment a known atom has is not known, unless labels are random:
it is inferred anew before each descent (`generative.gram.matching`), at first from the mean
environment, with a different assignment for each start. The decoded environment is laid onto
the known atoms in the end.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .finding import distinct
from .gram import gram, upper
from .matching import completed, place

if TYPE_CHECKING:
    from .vae import GramVae


@dataclass(frozen=True, kw_only=True)
class Search:
    """How latents are searched for.

    Attributes
    ----------
    from_encoder, from_prior : int
        Starts of each kind.
    rounds, steps : int
        Descents, and steps of Adam in each; known atoms are assigned anew before each.
    rate : float
        Of the steps.
    weight : float
        λ, of the prior.
    """

    from_encoder: int = 8
    from_prior: int = 24
    rounds: int = 4
    steps: int = 50
    rate: float = 0.05
    weight: float = 1.0

    def __post_init__(self):
        if self.from_encoder < 0 or self.from_prior < 0 or not self.starts:
            msg = f"a search needs starts, got {self.from_encoder} and {self.from_prior}"
            raise ValueError(msg)
        if self.rounds < 1 or self.steps < 0 or self.rate <= 0 or self.weight < 0:
            msg = f"rounds from 1, steps and weight from 0, rate above 0; got {self}"
            raise ValueError(msg)

    @classmethod
    def ending_in(cls, n: int) -> "Search":
        """Return a search with as many starts as n completions need, or the usual ones."""
        usual = cls()
        return cls(from_prior=max(usual.from_prior, n - usual.from_encoder))

    @property
    def starts(self) -> int:
        """Return how many there are for each environment."""
        return self.from_encoder + self.from_prior


def searched(
    model: "GramVae",
    known: np.ndarray,
    outer: np.ndarray,
    n: int,
    generator: torch.Generator,
    search: Search,
) -> np.ndarray:
    """Complete environments by a search for latents; the head of this file says how."""
    m, starts = len(known), search.starts
    if n > starts:
        msg = f"{n} completions of {starts} starts; raise from_prior"
        raise ValueError(msg)
    every = known.repeat(starts, axis=0)
    far = outer.repeat(starts, axis=0)
    at, q = _first_places(model, known, search)
    z = _first_latents(model, every, far, at, q, generator, search)
    f = torch.zeros(len(z))
    for round_ in range(search.rounds):
        c = _condition(model, far, q)
        if round_ or search.from_prior:
            at, q = _places(model, every, z, c, keep=round_ == 0, at=at, q=q, search=search)
            c = _condition(model, far, q)
        z, f = _descended(model, every, at, z, c, search)
    with torch.no_grad():
        x = model.decode(z, _condition(model, far, q)).double().cpu().numpy()
    whole = completed(every, x, at, proper=model.proper)
    ends = whole.reshape(m, starts, *whole.shape[1:])
    cost = f.reshape(m, starts).double().cpu().numpy()
    return ends[np.arange(m)[:, None], distinct(ends[:, :, known.shape[1] :], cost, n)]


def _first_places(
    model: "GramVae", known: np.ndarray, search: Search
) -> tuple[np.ndarray, np.ndarray]:
    """Return where atoms go at first, (m starts, k), by the mean environment, and frames."""
    m, k = known.shape[:2]
    if _any_label(model):
        at = np.broadcast_to(np.arange(k), (m * search.starts, k)).copy()
        return at, np.broadcast_to(np.eye(3), (m * search.starts, 3, 3)).copy()
    mean = model.mean.double().cpu().numpy()
    found = place(known, mean, search.starts, proper=model.proper)
    return found.place.reshape(-1, k), found.rotation.reshape(-1, 3, 3)


def _first_latents(
    model: "GramVae",
    known: np.ndarray,
    outer: np.ndarray,
    at: np.ndarray,
    q: np.ndarray,
    generator: torch.Generator,
    search: Search,
) -> Tensor:
    """Return latents to start from (m starts, latents): of the encoder, then of the prior."""
    like = {"dtype": model.centre.dtype, "device": model.centre.device}
    whole = torch.randn(len(known), *model.shape, generator=generator, **like)
    whole *= model.normaliser.moments[0, 0].clamp(min=0).div(3).sqrt()  # |x|² as in the data
    whole = whole.double().cpu().numpy()
    whole[np.arange(len(known))[:, None], at] = known @ q
    c = _condition(model, outer, q)
    with torch.no_grad():
        z = model.encode(torch.from_numpy(whole).to(**like), c)
        drawn = model.prior.sample(_scaled(model, c), 1, generator)[:, 0]
    own = torch.arange(len(known), device=z.device) % search.starts < search.from_encoder
    return torch.where(own[:, None], z, drawn)


def _places(
    model: "GramVae",
    known: np.ndarray,
    z: Tensor,
    c: Tensor,
    *,
    keep: bool,
    at: np.ndarray,
    q: np.ndarray,
    search: Search,
) -> tuple[np.ndarray, np.ndarray]:
    """Return where atoms go in decoded environments; those of the encoder at first stay."""
    if _any_label(model):
        return at, q
    with torch.no_grad():
        x = model.decode(z, c).double().cpu().numpy()
    found = place(known, x, 1, proper=model.proper)
    kept = (np.arange(len(known)) % search.starts < search.from_encoder) & keep
    at = np.where(kept[:, None], at, found.place[:, 0])
    return at, np.where(kept[:, None, None], q, found.rotation[:, 0])


def _descended(
    model: "GramVae", known: np.ndarray, at: np.ndarray, z: Tensor, c: Tensor, search: Search
) -> tuple[Tensor, Tensor]:
    """Return latents after a descent, and their f."""
    like = z.new_tensor(known)
    index = torch.from_numpy(at).to(z.device)
    rows = torch.arange(len(z), device=z.device)[:, None, None]
    wanted, scale = upper(gram(like)), _scales(model, known.shape[1]).to(z)
    stiffness = _stiffness(model, known.shape[1])
    told = _scaled(model, c)

    def f(z: Tensor) -> Tensor:
        decoded = model.decode_gram(z, c)[rows, index[:, :, None], index[:, None]]
        misfit = ((upper(decoded) - wanted) / scale).square().mean(1)
        return stiffness * misfit - search.weight * model.prior.log_prob(z, told)

    z = z.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=search.rate)
    with torch.enable_grad():
        for _ in range(search.steps):
            (gradient,) = torch.autograd.grad(f(z).sum(), z)
            z.grad = gradient
            optimizer.step()
    z = z.detach()
    with torch.no_grad():
        return z, f(z)


def _stiffness(model: "GramVae", k: int) -> float:
    """Return what a mean squared misfit of 1 costs, in nats, as in training."""
    if "gram" not in model.terms:
        return k * (k + 1) / 2
    noise = model.log_noise[model.terms.index("gram")].detach().exp()
    return max(3 * k - 3, 1) / 2 / float(noise) ** 2


def _scales(model: "GramVae", k: int) -> Tensor:
    """Return the scale of each known entry of G."""
    i, j = torch.triu_indices(k, k)
    return model.normaliser.moments[:, 1].cpu()[(i != j).long()]


def _any_label(model: "GramVae") -> bool:
    return getattr(model.representation, "labels", "") == "augment"


def _condition(model: "GramVae", outer: np.ndarray, q: np.ndarray) -> Tensor:
    return torch.from_numpy((outer @ q).reshape(len(outer), -1)).to(model.centre)


def _scaled(model: "GramVae", c: Tensor) -> Tensor:
    return (c - model.condition_centre) / model.condition_spread
