"""Affine couplings in a row: an invertible map with a known determinant, made fast.

A coupling keeps one part of its numbers, and from it and a condition makes scale and shift of
the other part: x2 -> x2 exp(s) + t. The next one keeps a part from the other end, which is
what reversing all numbers in between would do. Of an odd count the part that is kept is the
shorter one.

Notes
-----
s and t come from a network with two hidden layers and ReLU. Its raw scale r is limited softly,
s = L tanh(r / L): no coupling stretches by more than exp(L), and no r gives a gradient that
explodes.

Numbers run along rows, samples along columns. Then parts are views, a product with few results
runs at four times the speed that it has in the other order, and the product of the first layer
takes part, condition and a row of ones, for the bias, at once. The backward pass is written
out: it writes the gradients of all couplings where they belong, and keeps nothing that it does
not need. Tests hold it to automatic differentiation.

References
----------
L. Dinh, J. Sohl-Dickstein, S. Bengio, Density estimation using Real NVP (2016),
arXiv:1605.08803.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: samples that are inverted together: two layers of them fit into the cache of a core
_BLOCK = 1024


class Couplings(nn.Module):
    """Affine couplings; parameters of one kind are one tensor.

    Parameters
    ----------
    size, condition_size : int
        Numbers of a sample and of a condition.
    couplings, width : int
        How many, and of how many units the hidden layers of each.
    limit : float
        Of the logarithm of a scale.
    """

    def __init__(
        self, size: int, condition_size: int, *, couplings: int, width: int, limit: float
    ) -> None:
        super().__init__()
        self.limit = limit
        kept = size // 2
        inputs, outputs = kept + condition_size, 2 * (size - kept)
        # the last column is the bias
        self.enter = _uniform(inputs, couplings, width, inputs + 1)
        self.hidden = _uniform(width, couplings, width, width)
        self.hidden_bias = _uniform(width, couplings, width, 1)
        # scales and shifts start small: the whole is near the identity
        self.leave = _uniform(100 * width, couplings, outputs, width)
        self.leave_bias = nn.Parameter(torch.zeros(couplings, outputs, 1))

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (m, size) of x (m, size) and c (m, k), and log |det dz/dx| (m,)."""
        weights = self.enter, self.hidden, self.hidden_bias, self.leave, self.leave_bias
        x, c = x.to(self.enter.dtype), c.to(self.enter.dtype)
        return _Couplings.apply(x, c, self.limit, *weights)  # pyright: ignore

    def inverse(self, z: Tensor, c: Tensor) -> Tensor:
        """Return the x (m, size) whose z (m, size) these are, given c (m, k)."""
        if torch.is_grad_enabled():
            return self._inverse(z, c)
        pieces = zip(z.split(_BLOCK), c.split(_BLOCK), strict=True)
        return torch.cat([self._inverse(*piece) for piece in pieces])

    def _inverse(self, z: Tensor, c: Tensor) -> Tensor:
        state = z.to(self.enter.dtype).T.contiguous()
        told = _with_ones(c.to(self.enter.dtype).T)
        for k in reversed(range(len(self.enter))):
            kept, changed = _parts(state, k)
            h = torch.mm(self.enter[k], torch.cat([kept, told])).relu_()
            h = torch.addmm(self.hidden_bias[k], self.hidden[k], h).relu_()
            raw, shift = torch.addmm(self.leave_bias[k], self.leave[k], h).chunk(2)
            before = (changed - shift) * torch.exp(-self.limit * torch.tanh(raw / self.limit))
            state = torch.cat([before, kept] if k % 2 else [kept, before])
        return state.T


class _Couplings(torch.autograd.Function):
    """The forward direction of `Couplings`, with its derivative."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        c: Tensor,
        limit: float,
        enter: Tensor,
        hidden: Tensor,
        hidden_bias: Tensor,
        leave: Tensor,
        leave_bias: Tensor,
    ) -> tuple[Tensor, Tensor]:
        (couplings, width, inputs), m = enter.shape, len(x)
        state = x.T.clone(memory_format=torch.contiguous_format)
        kept_size = inputs - 1 - c.shape[1]
        changed_size = len(state) - kept_size
        seen = x.new_empty(couplings, inputs, m)
        seen[:, kept_size:] = _with_ones(c.T)
        first, second = x.new_empty(2, couplings, width, m)
        before, tanh, scale = x.new_empty(3, couplings, changed_size, m)
        out = x.new_empty(2 * changed_size, m)
        raw, shift = out.chunk(2)
        for k in range(couplings):
            kept, changed = _parts(state, k)
            seen[k, :kept_size] = kept
            torch.mm(enter[k], seen[k], out=first[k])
            first[k].relu_()
            torch.addmm(hidden_bias[k], hidden[k], first[k], out=second[k])
            second[k].relu_()
            torch.addmm(leave_bias[k], leave[k], second[k], out=out)
            torch.tanh(raw.div_(limit), out=tanh[k])
            torch.exp(torch.mul(tanh[k], limit, out=raw), out=scale[k])
            before[k] = changed
            changed.mul_(scale[k]).add_(shift)
        ctx.save_for_backward(
            *(seen, first, second, before, tanh, scale, enter, hidden, leave)
        )
        return state.T, limit * tanh.sum((0, 1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_z, of_log_det = gradients
        seen, first, second, before, tanh, scale, enter, hidden, leave = ctx.saved_tensors
        changed_size, m = before.shape[1:]
        state = of_z.T.clone(memory_format=torch.contiguous_format)  #: gradient of the state
        kept_size = len(state) - changed_size
        wanted = seen.shape[1] - 1 if ctx.needs_input_grad[1] else kept_size
        of_seen = state.new_empty(wanted, m)
        of_c = state.new_zeros(wanted - kept_size, m)
        of_enter, of_hidden, of_leave = map(torch.empty_like, (enter, hidden, leave))
        of_hidden_bias = hidden.new_empty(*hidden.shape[:2], 1)
        of_leave_bias = leave.new_empty(*leave.shape[:2], 1)
        of_layer = torch.empty_like(first[0])
        of_out = state.new_empty(2 * changed_size, m)
        of_raw, of_shift = of_out.chunk(2)
        slope = 1 - tanh**2
        for k in reversed(range(len(enter))):
            of_kept, of_changed = _parts(state, k)
            of_shift.copy_(of_changed)
            of_changed.mul_(scale[k])
            torch.addcmul(of_log_det, of_changed, before[k], out=of_raw).mul_(slope[k])
            torch.mm(of_out, second[k].T, out=of_leave[k])
            torch.sum(of_out, 1, keepdim=True, out=of_leave_bias[k])

            torch.mm(leave[k].T, of_out, out=of_layer)
            _where_positive(of_layer, second[k])
            torch.mm(of_layer, first[k].T, out=of_hidden[k])
            torch.sum(of_layer, 1, keepdim=True, out=of_hidden_bias[k])

            of_layer = torch.mm(hidden[k].T, of_layer)
            _where_positive(of_layer, first[k])
            torch.mm(of_layer, seen[k].T, out=of_enter[k])
            torch.mm(enter[k, :, :wanted].T, of_layer, out=of_seen)
            of_kept.add_(of_seen[:kept_size])
            of_c.add_(of_seen[kept_size:])
        weights = (of_enter, of_hidden, of_hidden_bias, of_leave, of_leave_bias)
        return (state.T, of_c.T if ctx.needs_input_grad[1] else None, None, *weights)


def _parts(state: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return views of what coupling `k` keeps, and of what it changes."""
    kept = len(state) // 2
    if k % 2:
        changed, left = state.split([len(state) - kept, kept])
        return left, changed
    left, changed = state.split([kept, len(state) - kept])
    return left, changed


def _where_positive(gradient: Tensor, layer: Tensor) -> None:
    """Make a gradient zero where ReLU gave zero."""
    torch.ops.aten.threshold_backward.grad_input(gradient, layer, 0, grad_input=gradient)


def _with_ones(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows.new_ones(1, rows.shape[1])])


def _uniform(fan_in: int, *shape: int) -> nn.Parameter:
    """Return parameters as of `nn.Linear`."""
    bound = max(fan_in, 1) ** -0.5
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))
