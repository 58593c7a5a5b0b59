"""A log-likelihood that says what it is: exact, or a bound of a named kind.

Numbers of unlike kinds look alike and mean different things: the difference of an exact
log-likelihood and a lower bound is no gain of one model over the other. So they subtract and
compare only with their own kind.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

#: what a number can be, and how it stands to the log-likelihood
KINDS = {
    "exact": "the log-likelihood itself",
    "ELBO": "a lower bound, by one latent from the encoder",
    "IWAE": "a lower bound, by many latents from the encoder",
    "interval": "an estimate between a lower and an upper bound",
}


@dataclass(frozen=True)
class Score:
    """Logarithms of a density, in nats, one for each sample.

    Attributes
    ----------
    value : (m,) tensor
    kind : str
        One of `KINDS`.
    stderr : (m,) tensor or None
        Monte Carlo error of each value; None where there is none.
    """

    value: Tensor
    kind: str
    stderr: Tensor | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            msg = f"a score is {', '.join(KINDS)}, got {self.kind!r}"
            raise ValueError(msg)

    def __sub__(self, other: "Score") -> Tensor:
        if self.kind != other.kind:
            msg = f"a score of kind {self.kind} and one of kind {other.kind} do not compare"
            raise TypeError(msg)
        return self.value - other.value

    def shifted(self, amount: Tensor | float) -> "Score":
        """Return the score in other coordinates: `amount` is the log-determinant added."""
        return Score(self.value + amount, self.kind, self.stderr)

    def mean(self) -> tuple[float, float]:
        """Return the mean over samples and its standard error."""
        value = self.value.detach().double()
        spread = float(value.std() / len(value) ** 0.5) if len(value) > 1 else float("nan")
        return float(value.mean()), spread


def logmeanexp(terms: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return log(mean(exp(terms))) along `dim`, and its Monte Carlo error (delta method)."""
    k = terms.shape[dim]
    value = torch.logsumexp(terms, dim) - torch.log(torch.tensor(float(k)))
    relative = torch.exp(terms - value.unsqueeze(dim))
    return value, relative.std(dim) / k**0.5
