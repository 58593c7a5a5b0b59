"""An optimizer for precise regression: orthogonal steps for matrices, Adam for the rest.

The gradient of a wide layer is dominated by a few directions; Adam scales single weights and
leaves that so. Muon replaces the (averaged) gradient of a matrix by the nearest matrix whose
singular values are all alike, by a few Newton-Schulz iterations, so that rare directions learn
as fast as common ones. Regression with little noise is then more precise by an order of
magnitude for the same work.

Biases, and matrices with a short side (the first and the last layer), are left to Adam.

References
----------
K. Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024),
https://kellerjordan.github.io/posts/muon
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

#: shortest side of a matrix whose steps are made orthogonal
_SHORTEST = 32

#: steps of matrices are this many times the learning rate: a weight of Adam moves by it, a
#: matrix by it in all directions together
_RATIO = 10.0

_MOMENTUM = 0.95
_BETAS = (0.9, 0.999)
_TINY = 1e-8
#: of the iteration x -> a x + b x³ + c x⁵, steep at 0; singular values end within 0.7 to 1.2
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Orthogonal steps with momentum for matrices, Adam for other parameters.

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float
        That of Adam; matrices take 10 times as much.
    weight_decay : float
        Of all, decoupled.
    """

    def __init__(self, parameters: Iterable[Tensor], *, lr: float, weight_decay: float = 0.0):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        """Change the parameters once."""
        if closure is not None:
            msg = "the loss is computed once for a step, not in it"
            raise ValueError(msg)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                change = self._adam if _is_short(parameter) else self._orthogonal
                parameter.sub_(change(parameter), alpha=group["lr"])

    def _orthogonal(self, parameter: Tensor) -> Tensor:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        ahead = gradient.lerp(state["momentum"], _MOMENTUM)
        rows, columns = parameter.shape
        return _RATIO * math.sqrt(max(1.0, rows / columns)) * orthogonalised(ahead)

    def _adam(self, parameter: Tensor) -> Tensor:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["step"] = torch.zeros((), dtype=torch.int64)
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - _BETAS[0])
        state["square"].mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        early = [1 - beta ** int(state["step"]) for beta in _BETAS]
        return state["mean"] / early[0] / ((state["square"] / early[1]).sqrt() + _TINY)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return about the nearest matrix (rows, columns) of which all singular values are one."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm() + 1e-20)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = a * x + torch.addmm(square, square, square, beta=b, alpha=c) @ x
    return x.mT if tall else x


def _is_short(parameter: Tensor) -> bool:
    return parameter.ndim != 2 or min(parameter.shape) < _SHORTEST
