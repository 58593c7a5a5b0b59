"""What changes while a model is trained, and so what a checkpoint holds.

Parameters, their running mean, the best of them, the optimizer, counters and history.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from . import parallel
from .history import History
from .model import Model
from .optimizers import optimizers_of
from .recipe import Training, TrainingError
from .representation import Batch

_FINITE_EVERY = 64  #: steps between two looks at the loss, each of which waits for a GPU


class Run:
    """What changes while a model is trained."""

    def __init__(self, model: Model, options: Training, *, steps: int):
        self.model, self.options, self.steps = model, options, steps
        self.parameters = list(model.parameters())
        device = self.parameters[0].device
        self.optimizers = optimizers_of(self.parameters, options)
        mode = "reduce-overhead" if device.type == "cuda" else None
        self.loss = torch.compile(model.loss, mode=mode) if options.compiled else model.loss
        self.mixed = options.precision == "bf16"
        self.history = History()
        self.epoch = self.batch = self.n_steps = 0
        self.total = torch.zeros((), dtype=torch.float64, device=device)
        #: (processes, bytes), within an epoch that was interrupted
        self.random_state: Tensor | None = None
        self.mean: list[Tensor] = [p.detach().clone() for p in self.parameters]
        self.best: dict[str, Tensor] = {}
        self.seconds = 0.0
        self._clock = perf_counter()

    def step(self, batch: Batch) -> None:
        """Change the parameters once."""
        self.model.train()
        rate = self.options.rate(self.n_steps, self.steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["times"]
        kind = self.total.device.type
        with torch.autocast(kind, torch.bfloat16) if self.mixed else nullcontext():
            loss = self.loss(batch)["loss"]
        self.model.zero_grad()
        loss.backward()
        parallel.average_gradients(self.parameters)
        if self.options.clip:
            clip_grad_norm_(self.parameters, self.options.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        if self.options.ema:
            # as if the start were forgotten: the mean of the first steps is that of few
            keep = min(self.options.ema, (1 + self.n_steps) / (10 + self.n_steps))
            with torch.no_grad():
                for mean, parameter in zip(self.mean, self.parameters, strict=True):
                    mean.lerp_(parameter, 1 - keep)
        self.total += loss.detach().double()
        self.batch, self.n_steps = self.batch + 1, self.n_steps + 1
        if self.batch % _FINITE_EVERY == 0:
            self.check_finite()

    def check_finite(self) -> None:
        """Raise, with the best parameters in the model, unless all losses were finite."""
        if not math.isfinite(float(self.total)):
            self.take_best()
            msg = (
                f"the loss became {float(self.total)} in epoch {self.epoch}, by step "
                f"{self.n_steps}; lower the learning rate"
            )
            raise TrainingError(msg)

    def end_epoch(self, losses: dict[str, float]) -> None:
        """Note an epoch, and its parameters if they are the best yet."""
        now = perf_counter()
        self.seconds += now - self._clock
        self._clock = now
        row: dict[str, Any] = {"epoch": self.epoch, "step": self.n_steps}
        row["lr"] = self.options.rate(self.n_steps - 1, self.steps)
        row["train_loss"] = parallel.average(float(self.total) / max(self.batch, 1))
        row["val_loss"] = losses["loss"]
        row |= {key: value for key, value in losses.items() if key != "loss"}
        if not math.isfinite(losses["loss"]):
            self.total.fill_(losses["loss"])
            self.check_finite()
        if losses["loss"] < self.history.best_loss():
            with self.kept_parameters():
                self.best = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.history.rows.append(row | {"seconds": self.seconds})
        self.epoch, self.batch, self.random_state = self.epoch + 1, 0, None
        self.total.zero_()

    def patience_is_over(self) -> bool:
        """Return whether the validation loss has not improved for too long."""
        patience = self.options.patience
        return bool(patience) and self.history.epochs_since_best() >= patience

    @contextmanager
    def kept_parameters(self) -> Iterator[None]:
        """Give the model the parameters that will be kept: their running mean, if wanted."""
        if not self.options.ema:
            yield
            return
        own = [p.detach().clone() for p in self.parameters]
        self._put(self.mean)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def take_best(self) -> None:
        """Put the best parameters into the model."""
        if self.best:
            self.model.load_state_dict(self.best)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of a checkpoint."""
        out = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        out |= {f"best.{k}": v for k, v in self.best.items()}
        if self.options.ema:
            out |= {f"mean.{i}": v for i, v in enumerate(self.mean)}
        for j, optimizer in enumerate(self.optimizers):
            for i, state in optimizer.state_dict()["state"].items():
                moments = {k: torch.as_tensor(v) for k, v in state.items()}
                out |= {f"optimizer.{j}.{i}.{k}": v for k, v in moments.items()}
        out["total"] = self.total
        if self.random_state is not None:
            out["random_state"] = self.random_state
        return out

    def state(self) -> dict[str, Any]:
        """Return counters and history."""
        counters = {"epoch": self.epoch, "batch": self.batch, "n_steps": self.n_steps}
        now = perf_counter()
        return counters | {
            "seconds": self.seconds + now - self._clock,
            "history": self.history.rows,
        }

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Become what a checkpoint holds."""
        part = _by_prefix(tensors)
        self.model.load_state_dict(part["model"])
        self.best = {k: v.to(self.total.device) for k, v in part.get("best", {}).items()}
        for i, value in part.get("mean", {}).items():
            self.mean[int(i)].copy_(value)
        moments: list[dict[int, dict[str, Tensor]]] = [{} for _ in self.optimizers]
        for key, value in part.get("optimizer", {}).items():
            j, i, name = key.split(".")
            moments[int(j)].setdefault(int(i), {})[name] = value
        for optimizer, state_of in zip(self.optimizers, moments, strict=True):
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state_of, "param_groups": groups})
        self.total.copy_(tensors["total"])
        self.random_state = tensors.get("random_state")
        self.epoch, self.batch = state["epoch"], state["batch"]
        self.n_steps, self.seconds = state["n_steps"], state["seconds"]
        self.history.rows[:] = state["history"]


def _by_prefix(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        prefix, _, name = key.partition(".")
        parts.setdefault(prefix, {})[name] = value
    return parts
