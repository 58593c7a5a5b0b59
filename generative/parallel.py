"""One training in several processes, each with a share of every batch (torchrun).

Gradients are averaged over processes after each step. Without torchrun all of this is nothing.
"""

import os
from collections.abc import Sequence
from importlib import import_module

import torch
from torch import Tensor
from torch import distributed as dist


def start(device: str) -> None:
    """Join the processes that torchrun started, if it did."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        # Defaults of its functions are the group that exists when it is imported, and would
        # keep that group's threads alive into the end of the process, which then may abort.
        import_module("torch.distributed.nn.functional")
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")


def end() -> None:
    """Leave them."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank_and_world() -> tuple[int, int]:
    """Return the number of this process, from 0, and how many there are."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace gradients by their mean over processes."""
    world = rank_and_world()[1]
    if world == 1:
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in grads])
    dist.all_reduce(flat)
    flat /= world
    for grad, mean in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
        grad.copy_(mean.view_as(grad))


def average(value: float) -> float:
    """Return the mean of a number over processes."""
    world = rank_and_world()[1]
    if world == 1:
        return value
    total = _tensor(value)
    dist.all_reduce(total)
    return float(total) / world


def anyone(flag: bool) -> bool:
    """Return whether the flag is up in any process."""
    if rank_and_world()[1] == 1:
        return flag
    total = _tensor(float(flag))
    dist.all_reduce(total)
    return float(total) > 0


def of_all(own: Tensor) -> Tensor:
    """Return the tensors of all processes, which have one shape, stacked on the CPU."""
    world = rank_and_world()[1]
    if world == 1:
        return own[None].cpu()
    own = own.to(_tensor(0.0).device)
    all_of_them = [torch.empty_like(own) for _ in range(world)]
    dist.all_gather(all_of_them, own)
    return torch.stack(all_of_them).cpu()


def _tensor(value: float) -> Tensor:
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return torch.tensor(value, dtype=torch.float64, device=device)
