"""The one training loop, shared by every model.

A training is a function of model, data, options and seed: order of events, noise and latents
of an epoch follow from (seed, epoch). So one that is interrupted or killed, and resumed from
its checkpoint, ends with the parameters of one that ran through: on the CPU bit for bit, with
the same number of threads.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from . import checkpoint, parallel
from .data import Source, Stream
from .history import History
from .model import Model
from .recipe import Training
from .representation import Batch
from .run import Run


@dataclass(frozen=True)
class Result:
    """What a call of `fit` came to."""

    history: History
    finished: bool  #: False: `stop` said so, and a checkpoint is left
    seconds: float  #: of this call
    samples: int  #: trained on in this call


def fit(
    model: Model,
    source: Source,
    options: Training,
    *,
    folder: Path | None = None,
    resume: bool = False,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Minimize the loss of a model, and leave the best parameters in it.

    Parameters
    ----------
    model : Model
        Its scales are taken from the training part of the data.
    source : Source
        Split into parts by the numbers of its events; the test part is not touched.
    options : Training
    folder : Path, optional
        Where checkpoints and the history go; it must exist.
    resume : bool
        Go on from the checkpoint in `folder`.
    device : torch.device or str
    progress : callable
        Told how many samples were just trained on.
    stop : callable
        Asked after each step; true ends the training with a checkpoint.

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        If a part is smaller than it must be.
    TrainingError
        If the loss stops being finite; the model then has the best parameters so far.
    MismatchError, CorruptFileError
        If the checkpoint is of another training, or damaged.
    """
    begin, seed = perf_counter(), options.seed
    rank, world = parallel.rank_and_world()
    parts = {
        part: Stream(source, model.representation, part, seed=seed, device=device)
        for part in ("train", "validation")
    }
    _check_sizes(parts["train"].n, parts["validation"].n, options.batch_size, world)
    model.to(device)
    per_epoch = parts["train"].n // options.batch_size
    run = Run(model, options, steps=per_epoch * options.epochs)
    path = None if folder is None else folder / checkpoint.CHECKPOINT
    about = _about(model, source, options, world)
    if resume and path is not None:
        run.restore(*checkpoint.read(path, about))
    else:
        model.standardise(parts["train"].batches(1 << 14))
    trained = 0

    while run.epoch < options.epochs and not run.patience_is_over():
        with _seeded(seed, run.epoch, run.random_state, device):
            batches = parts["train"].batches(
                options.batch_size, epoch=run.epoch, skip=run.batch, whole=True
            )
            for batch in batches:
                run.step(Batch(*(t[rank::world] for t in batch)))
                trained += options.batch_size
                progress(options.batch_size)
                if parallel.anyone(stop()):
                    run.random_state = parallel.of_all(_random_state(device))
                    if path is not None and rank == 0:
                        checkpoint.write(path, run.tensors(), about, run.state())
                    return Result(run.history, False, perf_counter() - begin, trained)
            run.check_finite()
        with run.kept_parameters(), _seeded(seed, -1, None, device):
            losses = evaluate(model, parts["validation"], options.batch_size)
        run.end_epoch(losses)
        if path is not None and rank == 0:
            checkpoint.write(path, run.tensors(), about, run.state())
            run.history.write(path.parent)

    run.take_best()
    model.eval()
    with _seeded(seed, -2, None, device):
        model.finish(parts["train"].batches(options.batch_size))
    return Result(run.history, True, perf_counter() - begin, trained)


@torch.no_grad()
def evaluate(model: Model, stream: Stream, batch_size: int) -> dict[str, float]:
    """Return the mean of every entry of ``model.loss`` over a part of the data."""
    was_training = model.training
    model.eval()
    total: dict[str, Tensor] = {}
    for batch in stream.batches(batch_size):
        for key, value in model.loss(batch).items():
            total[key] = total.get(key, 0.0) + value.detach().double() * len(batch.x)
    model.train(was_training)
    return {key: float(value / stream.n) for key, value in total.items()}


def _check_sizes(train: int, validation: int, batch_size: int, world: int) -> None:
    if train < batch_size:
        msg = (
            f"{train} events to train on, fewer than a batch of {batch_size}; lower batch_size"
        )
        raise ValueError(msg)
    if not validation:
        msg = "no event is left to validate with; more events are needed"
        raise ValueError(msg)
    if batch_size % world:
        msg = f"a batch of {batch_size} cannot be shared by {world} processes alike"
        raise ValueError(msg)


def _about(model: Model, source: Source, options: Training, world: int) -> dict[str, Any]:
    """Return what determines a training."""
    return {
        "model": model.name,
        "options": model.options.describe(),
        "representation": model.representation.describe(),
        "training": asdict(options),
        "data": source.identity,
        "processes": world,
        "versions": {"torch": torch.__version__.split("+")[0]},
    }


@contextmanager
def _seeded(
    seed: int, epoch: int, state: Tensor | None, device: torch.device | str
) -> Iterator[None]:
    """Let torch draw by (seed, epoch), or go on from a state, and leave its own state be."""
    cuda, rank = torch.device(device).type == "cuda", parallel.rank_and_world()[0]
    with torch.random.fork_rng(devices=[torch.device(device)] if cuda else []):
        torch.manual_seed((seed * 1_000_003 + epoch + 2) % 2**63 + rank)
        if state is not None:
            own = state[rank].clone()  # torch reads from where memory begins
            (torch.cuda.set_rng_state if cuda else torch.set_rng_state)(own)
        yield


def _random_state(device: torch.device | str) -> Tensor:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_rng_state()
    return torch.get_rng_state()
