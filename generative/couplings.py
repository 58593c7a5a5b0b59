"""Affine couplings in a row: an invertible map with a known determinant, made fast.

A coupling keeps one part of its numbers, and from it and a condition makes scale and shift of
the other part: x2 -> x2 exp(s) + t. The next one keeps a part from the other end, which is
what reversing all numbers in between would do. Of an odd count the part that is kept is the
shorter one.

Notes
-----
s and t come from a network with two hidden layers and ReLU. Its raw scale r is limited softly,
s = L tanh(r/2) = L (2 / (1 + exp(-r)) - 1): no coupling stretches by more than exp(L), and no
r gives a gradient that explodes. (The second form: torch's tanh takes five times as long.)

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
        # the last row is the bias
        self.enter = _uniform(inputs, couplings, inputs + 1, width)
        self.hidden = _uniform(width, couplings, width, width)
        self.hidden_bias = _uniform(width, couplings, width, 1)
        # scales and shifts start small: the whole is near the identity
        self.leave = _uniform(100 * width, couplings, outputs, width)
        self.leave_bias = nn.Parameter(torch.zeros(couplings, outputs, 1))

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (m, size) of x (m, size) and c (m, k), and log |det dz/dx| (m,)."""
        x, c = x.to(self.enter.dtype), c.to(self.enter.dtype)
        if torch.compiler.is_compiling():
            return self._forward(x, c)
        weights = self.enter, self.hidden, self.hidden_bias, self.leave, self.leave_bias
        return _Couplings.apply(x, c, self.limit, *weights)  # pyright: ignore

    def inverse(self, z: Tensor, c: Tensor) -> Tensor:
        """Return the x (m, size) whose z (m, size) these are, given c (m, k)."""
        z, c = z.to(self.enter.dtype), c.to(self.enter.dtype)
        if torch.is_grad_enabled():
            return self._inverse(z, c)
        pieces = zip(z.split(_BLOCK), c.split(_BLOCK), strict=True)
        return torch.cat([self._inverse_in_place(*piece) for piece in pieces])

    def _forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Do what `_Couplings` does, for a compiler that derives and joins steps itself."""
        state, told = x.T, _with_ones(c.T)
        log_det = x.new_zeros(len(x))
        for k in range(len(self.enter)):
            kept, changed = _parts(state, k)
            s, shift = self._scale_and_shift(k, kept, told)
            after = changed * s.exp() + shift
            state = torch.cat([after, kept] if k % 2 else [kept, after])
            log_det = log_det + s.sum(0)
        return state.T, log_det

    def _inverse(self, z: Tensor, c: Tensor) -> Tensor:
        state, told = z.T, _with_ones(c.T)
        for k in reversed(range(len(self.enter))):
            kept, changed = _parts(state, k)
            s, shift = self._scale_and_shift(k, kept, told)
            before = (changed - shift) * torch.exp(-s)
            state = torch.cat([before, kept] if k % 2 else [kept, before])
        return state.T

    def _scale_and_shift(self, k: int, kept: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-scale and shift (changed, m) of a coupling from what it is given."""
        h = torch.mm(self.enter[k].T, torch.cat([kept, told])).relu()
        h = torch.addmm(self.hidden_bias[k], self.hidden[k], h).relu()
        raw, shift = torch.addmm(self.leave_bias[k], self.leave[k], h).chunk(2)
        return self.limit * (2 * torch.sigmoid(raw) - 1), shift

    def _inverse_in_place(self, z: Tensor, c: Tensor) -> Tensor:
        """Do the same where nobody wants a derivative."""
        state = z.T.clone(memory_format=torch.contiguous_format)
        parts = _parts(state, 0), _parts(state, 1)
        kept_size, changed_size = (len(part) for part in parts[0])
        seen = torch.cat([parts[0][0], _with_ones(c.T)])
        h1, h2 = z.new_empty(2, self.hidden.shape[1], len(z))
        out = z.new_empty(2 * changed_size, len(z))
        raw, shift = out.chunk(2)
        layers = zip(
            *(self.enter.mT, self.hidden_bias, self.hidden, self.leave_bias, self.leave),
            strict=True,
        )
        for k, (w1, b2, w2, b3, w3) in reversed(list(enumerate(layers))):
            kept, changed = parts[k % 2]
            seen[:kept_size] = kept
            torch.mm(w1, seen, out=h1).relu_()
            torch.addmm(b2, w2, h1, out=h2).relu_()
            torch.addmm(b3, w3, h2, out=out)
            s = torch.rsub(raw.sigmoid_(), -self.limit, alpha=-2 * self.limit)
            changed.sub_(shift).div_(s.exp_())
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
        (couplings, inputs, width), m = enter.shape, len(x)
        state = x.T.clone(memory_format=torch.contiguous_format)
        parts = _parts(state, 0), _parts(state, 1)
        kept_size, changed_size = (len(part) for part in parts[0])
        seen = x.new_empty(couplings, inputs, m)
        seen[:, kept_size:] = _with_ones(c.T)
        first, second = x.new_empty(2, couplings, width, m)
        sigmoid, scale, scaled = x.new_empty(3, couplings, changed_size, m)
        out = x.new_empty(2 * changed_size, m)
        raw, shift = out.chunk(2)
        # one list for each kind: a coupling's own tensors cost no time to find
        ours = zip(
            *(enter.mT, hidden_bias, hidden, leave_bias, leave),
            *(seen, seen[:, :kept_size], first, second, sigmoid, scale, scaled),
            strict=True,
        )
        for k, (w1, b2, w2, b3, w3, u, u_kept, h1, h2, half, e, moved) in enumerate(ours):
            kept, changed = parts[k % 2]
            u_kept.copy_(kept)
            torch.mm(w1, u, out=h1).relu_()
            torch.addmm(b2, w2, h1, out=h2).relu_()
            torch.addmm(b3, w3, h2, out=out)
            torch.sigmoid(raw, out=half)
            # rsub(a, b, alpha) is b - alpha a
            torch.exp(torch.rsub(half, -limit, alpha=-2 * limit), out=e)
            torch.mul(changed, e, out=moved)
            torch.add(moved, shift, out=changed)
        ctx.limit = limit
        ctx.save_for_backward(
            seen, first, second, sigmoid, scale, scaled, enter, hidden, leave
        )
        log_det = limit * (2 * sigmoid - 1).sum((0, 1))
        return state.T, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_z, of_log_det = gradients
        seen, first, second, sigmoid, scale, scaled, enter, hidden, leave = ctx.saved_tensors
        # what is called d_something is the gradient of that
        d_state = of_z.T.clone(memory_format=torch.contiguous_format)
        parts = _parts(d_state, 0), _parts(d_state, 1)
        kept_size, changed_size = (len(part) for part in parts[0])
        m = d_state.shape[1]
        wanted = seen.shape[1] - 1 if ctx.needs_input_grad[1] else kept_size
        d_seen, d_c = d_state.new_empty(wanted, m), d_state.new_zeros(wanted - kept_size, m)
        d_seen_kept, d_seen_c = d_seen.split([kept_size, wanted - kept_size])
        d_enter, d_hidden, d_leave = map(torch.empty_like, (enter, hidden, leave))
        d_hidden_bias = hidden.new_empty(*hidden.shape[:2], 1)
        d_leave_bias = leave.new_empty(*leave.shape[:2], 1)
        d_h1, d_h2 = d_state.new_empty(2, *first[0].shape)
        d_out = d_state.new_empty(2 * changed_size, m)
        d_raw, d_shift = d_out.chunk(2)
        slope = 2 * ctx.limit * sigmoid * (1 - sigmoid)
        ours = zip(
            *(enter[:, :wanted], hidden.mT, leave.mT, seen, first, second, slope, scale),
            *(scaled, d_enter, d_hidden, d_hidden_bias, d_leave, d_leave_bias),
            strict=True,
        )
        for k, mine in reversed(list(enumerate(ours))):
            w1, w2, w3, u, h1, h2, ds, e, moved, d_w1, d_w2, d_b2, d_w3, d_b3 = mine
            d_kept, d_changed = parts[k % 2]
            torch.addcmul(of_log_det, d_changed, moved, out=d_raw).mul_(ds)
            d_shift.copy_(d_changed)
            d_changed.mul_(e)
            torch.mm(d_out, h2.T, out=d_w3)
            torch.sum(d_out, 1, keepdim=True, out=d_b3)
            _where_positive(torch.mm(w3, d_out, out=d_h2), h2)
            torch.mm(d_h2, h1.T, out=d_w2)
            torch.sum(d_h2, 1, keepdim=True, out=d_b2)
            _where_positive(torch.mm(w2, d_h2, out=d_h1), h1)
            torch.mm(u, d_h1.T, out=d_w1)
            torch.mm(w1, d_h1, out=d_seen)
            d_kept.add_(d_seen_kept)
            d_c.add_(d_seen_c)
        d_weights = (d_enter, d_hidden, d_hidden_bias, d_leave, d_leave_bias)
        return d_state.T, d_c.T if ctx.needs_input_grad[1] else None, None, *d_weights


def _parts(state: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return views of what coupling `k` keeps, and of what it changes."""
    kept = len(state) // 2
    if k % 2:
        changed, left = state.split([len(state) - kept, kept])
    else:
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
