"""From what a network says to a distribution on cells, and what it is fitted by.

- "softmax-ce": logits, fitted by cross-entropy;
- "sigmoid-mse", as published: each cell for itself between 0 and 1, fitted to a Gaussian about
  the true coordinate by squared error; what is drawn from is what this adds up to;
- "mixture": logistic distributions, each with weight, centre and width, integrated over cells.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .grid import Grid

HEADS = ("softmax-ce", "sigmoid-mse", "mixture")

_NARROWEST = -7.0  #: logarithm of the width of a logistic, in boxes


def outputs(head: str, cells: int, components: int) -> int:
    """Return how many numbers a network says of a coordinate."""
    return 3 * components if head == "mixture" else cells


def log_cells(
    head: str, said: Tensor, field: Tensor | None, grid: Grid, forbidden: Tensor | None
) -> Tensor:
    """Return logarithms of probabilities (..., cells).

    Parameters
    ----------
    head : str
    said : (..., outputs) tensor
    field : (..., cells) tensor, optional
        Added to the logits.
    grid : Grid
    forbidden : (..., cells) bool tensor, optional
        Cells of probability 0.
    """
    logits = said if head != "mixture" else _mixture(said, grid)
    logits = logits if field is None else logits + field
    if head == "sigmoid-mse":
        logits = logsigmoid(logits)
    if forbidden is not None:
        logits = logits.masked_fill(forbidden, -torch.inf)
    return logits.log_softmax(-1)


def squared_error(
    said: Tensor, field: Tensor | None, u: Tensor, grid: Grid, width: Tensor
) -> Tensor:
    """Return the sum over cells of (sigmoid - Gaussian about u)², (...)."""
    logits = said if field is None else said + field
    return (logits.sigmoid() - grid.smeared(u, width)).square().sum(-1)


def _mixture(said: Tensor, grid: Grid) -> Tensor:
    """Return logarithms of what logistic distributions have on each cell."""
    weight, centre, width = said.unflatten(-1, (3, -1)).unbind(-2)
    components = weight.shape[-1]
    start = (torch.arange(components, device=said.device) + 0.5) / components
    centre = centre + start.to(said)
    width = (width - 3).clamp_min(_NARROWEST).exp()
    off = grid.nearest(grid.centres(said)[:, None] - centre.unsqueeze(-2))
    half, width = 0.5 / grid.cells, width.unsqueeze(-2)
    above, below = (off + half) / width, (off - half) / width
    # log(s(a) - s(b)) = log s(a) + log s(-b) + log(1 - exp(b - a))
    inside = logsigmoid(above) + logsigmoid(-below)
    inside = inside + torch.log(-torch.expm1(below - above))
    return (weight.log_softmax(-1).unsqueeze(-2) + inside).logsumexp(-1)
