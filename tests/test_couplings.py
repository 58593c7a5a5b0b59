"""Affine couplings: there and back, the determinant, and the derivative written out."""

import pytest
import torch
from torch import Tensor

from generative.couplings import Couplings

SIZES = [(9, 9), (1, 2), (2, 0), (5, 3)]


def stack(size: int, k: int, **sizes) -> Couplings:
    """Return couplings in float64 that are far from the identity."""
    torch.manual_seed(0)
    made = Couplings(size, k, **{"couplings": 5, "width": 12, "limit": 2.0} | sizes).double()
    with torch.no_grad():
        made.leave.mul_(20)
        made.leave_bias.normal_()
    return made


def plain(made: Couplings, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `Couplings.forward` does, with flips, rows of samples and no tricks."""
    kept, log_det = x.shape[1] // 2, torch.zeros(len(x), dtype=x.dtype)
    for k in range(len(made.enter)):
        left, changed = (
            (x[:, :kept], x[:, kept:]) if k % 2 == 0 else (x[:, -kept:], x[:, :-kept])
        )
        if kept == 0:
            left, changed = x[:, :0], x
        weight, bias = made.enter[k, :-1], made.enter[k, -1]
        h = torch.relu(torch.cat([left, c], dim=1) @ weight + bias)
        h = torch.relu(h @ made.hidden[k].T + made.hidden_bias[k, :, 0])
        raw, shift = (h @ made.leave[k].T + made.leave_bias[k, :, 0]).chunk(2, dim=1)
        s = made.limit * torch.tanh(raw / 2)
        after = changed * s.exp() + shift
        x = torch.cat([left, after] if k % 2 == 0 else [after, left], dim=1)
        log_det = log_det + s.sum(1)
    return x, log_det


def numbers(size: int, k: int, m: int = 7) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(m, size).double(), torch.randn(m, k).double()


@pytest.mark.parametrize(("size", "k"), SIZES)
def test_the_written_derivative_is_that_of_autograd(size, k):
    made = stack(size, k)
    x, c = (t.requires_grad_() for t in numbers(size, k))
    of_z, of_log_det = torch.randn_like(x), torch.randn(len(x)).double()
    found = []
    for z, log_det in (made(x, c), plain(made, x, c), made._forward(x, c)):
        total = (z * of_z).sum() + (log_det * of_log_det).sum()
        wanted = [x, c, *made.parameters()]
        found.append([z, log_det, *torch.autograd.grad(total, wanted)])
    for ours, theirs, compilable in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(compilable, theirs, rtol=1e-12, atol=1e-12)


def test_the_derivative_is_that_of_finite_differences():
    made = stack(3, 2, couplings=3, width=4)
    x, c = (t.requires_grad_() for t in numbers(3, 2, m=2))
    assert torch.autograd.gradcheck(made, (x, c))


def test_a_derivative_can_be_taken_twice_from_one_pass_and_spares_what_it_is_given():
    made = stack(5, 3)
    x, c = numbers(5, 3)
    z, log_det = made(x, c)
    weight = torch.randn_like(z)
    before = weight.clone()
    total = (z * weight).sum() + log_det.sum()
    first = torch.autograd.grad(total, made.hidden, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(total, made.hidden)[0])
    assert torch.equal(weight, before)
    assert torch.equal(x, numbers(5, 3)[0])


@pytest.mark.parametrize(("size", "k"), SIZES)
def test_there_and_back(size, k):
    made = stack(size, k)
    x, c = numbers(size, k, m=2500)  # more than are inverted together
    z, _ = made(x, c)
    with torch.no_grad():
        torch.testing.assert_close(made.inverse(z, c), x, rtol=0, atol=1e-10)
    torch.testing.assert_close(made.inverse(z, c), x, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("size", "k"), SIZES)
def test_the_log_determinant_is_that_of_the_jacobian(size, k):
    made = stack(size, k)
    x, c = numbers(size, k, m=4)
    _, log_det = made(x, c)
    for row in range(len(x)):
        at = c[row : row + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda v, at=at: made(v[None], at)[0][0], x[row]
        )
        assert isinstance(jacobian, Tensor)
        found = torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(found, log_det[row], rtol=0, atol=1e-10)


def test_no_scale_exceeds_its_limit():
    made = stack(4, 1, couplings=1, limit=0.5)
    with torch.no_grad():
        made.leave_bias.fill_(1e4)
    _, log_det = made(*numbers(4, 1))
    torch.testing.assert_close(log_det, torch.full_like(log_det, 2 * 0.5))
