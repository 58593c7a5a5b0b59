"""What changes the parameters: Adam, or for precise regression Muon for the matrices.

The gradient of a wide layer is dominated by a few directions; Adam scales single weights and
leaves that so. Muon replaces the averaged gradient of a matrix by the nearest one whose
singular values are all alike, so that rare directions learn as fast as common ones.
Regression with little noise is then more precise for the same work. Biases, and matrices with
a short side (first and last layers), are left to Adam.

References
----------
K. Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024),
https://kellerjordan.github.io/posts/muon
"""

from collections.abc import Sequence

import torch
from torch import nn

from .recipe import Training

_SHORTEST = 32  #: side of a matrix that Muon takes

#: steps of Muon are this many times the learning rate: a weight of Adam moves by the rate, a
#: matrix by it in all directions together
_TIMES = 10.0


def optimizers_of(
    parameters: Sequence[nn.Parameter], options: Training
) -> list[torch.optim.Optimizer]:
    """Return the optimizers that share the parameters of a model; each group has `times`."""
    muon = options.optimizer == "muon"
    wide = [p for p in parameters if muon and p.ndim == 2 and min(p.shape) >= _SHORTEST]
    rest = [p for p in parameters if all(p is not other for other in wide)]
    rate, decay = options.learning_rate, options.weight_decay
    fused = parameters[0].device.type in ("cpu", "cuda")
    made: list[torch.optim.Optimizer] = []
    if wide:
        group = {"params": wide, "times": _TIMES}
        made.append(torch.optim.Muon([group], lr=rate * _TIMES, weight_decay=decay / _TIMES))
    if rest:
        group = {"params": rest, "times": 1.0}
        made.append(torch.optim.AdamW([group], lr=rate, weight_decay=decay, fused=fused))
    return made
