"""A training from data to a folder that appears when it is whole.

It grows beside its place, in `DIR.parts`, with checkpoint and history, and is renamed at the
end. What is killed or interrupted is resumed there.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from coulex import __version__
from coulex.dataset.canonical import canonical
from coulex.dataset.files import Lock, write_bytes, write_json
from coulex.dataset.plan import parts_of
from coulex.dataset.publish import lock_path, swap
from coulex.errors import CoulexError, MismatchError, OutputError

from . import parallel
from .card import card
from .checkpoint import CHECKPOINT, differences
from .data import PARTS, Source, Stream
from .files import MODEL, PARAMETERS, load, read_about
from .history import METRICS, History
from .model import Model, Options, model_class
from .recipe import Training, TrainingError
from .representation import Representation
from .train import Result, evaluate, fit

CARD, CURVES = "README.md", "learning.png"  #: the latter is drawn by the command line
_OURS = {MODEL, PARAMETERS, METRICS, CHECKPOINT, CARD, CURVES}


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be trained on what, and where to."""

    name: str  #: of the model
    options: Options
    representation: Representation
    training: Training
    source: Source
    folder: Path
    about: dict[str, Any]  #: provenance: command, commit, file of the data

    def build(self) -> Model:
        """Return the untrained model: a function of the seed."""
        kind = model_class(self.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed)
            return kind(self.options, self.representation)

    def described(self) -> dict[str, Any]:
        """Return what determines the model that comes out, ready for JSON."""
        seen = {"kind": self.representation.kind, **self.representation.describe()}
        return {
            "name": self.name,
            "options": self.options.describe(),
            "representation": seen,
            "training": asdict(self.training),
            "data": self.source.identity,
        }


def run(
    order: Order,
    *,
    device: str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Model, Result, dict[str, Any]]:
    """Train a model into a folder.

    Parameters
    ----------
    order : Order
    device : str
    resume, overwrite : bool
        Go on with what `DIR.parts` holds, or do nothing if the same training has ended;
        replace `DIR` in the end.
    progress, stop : callable
        As in `fit`.

    Returns
    -------
    model : Model
        On the CPU.
    result : Result
        If it is not finished, nothing has its final name, and `resume` goes on.
    summary : dict
        Ready for JSON: losses of all parts, sizes, cost.

    Raises
    ------
    OutputError
        If the folder exists (with `overwrite`: and holds more than a model), cannot be made,
        or another training is at work on it.
    TrainingError
        If the loss stops being finite. The best parameters until then are kept, as a model in
        `DIR.failed`.
    MismatchError, CorruptFileError
        As `fit`.
    """
    if not order.folder.name:
        msg = f"{order.folder} has no name that a model could have; name a new folder"
        raise OutputError(msg)
    work = parts_of(order.folder)
    if resume and (order.folder / MODEL).exists() and not work.exists():
        return _finished(order)
    model = order.build()
    with ExitStack() as held:
        if parallel.rank_and_world()[0] == 0:
            _enter(order.folder, work, held, resume=resume, overwrite=overwrite)
        going_on = resume and (work / CHECKPOINT).exists()
        try:
            result = fit(
                *(model, order.source, order.training),
                folder=work,
                resume=going_on,
                device=device,
                progress=progress,
                stop=stop,
            )
        except TrainingError as error:
            if parallel.rank_and_world()[0]:
                raise
            raise _kept_apart(order, model.cpu(), error) from error
        model.cpu()
        if not result.finished:
            return model, result, {}
        summary = _summary(order, model, result)
        if parallel.rank_and_world()[0] == 0:
            _publish(order, model, result, summary, work)
    return model, result, summary


def _enter(
    folder: Path, work: Path, held: ExitStack, *, resume: bool, overwrite: bool
) -> None:
    """Take the lock of the folder and have an empty or resumable place to work in."""
    if not folder.parent.is_dir():
        msg = f"cannot write {folder}: {folder.parent} is not a folder; make it first"
        raise OutputError(msg)
    lock = Lock(lock_path(folder))
    if not lock.take():
        msg = f"another training is at work on {folder}; wait for it, or stop it"
        raise OutputError(msg)
    held.callback(lock.release, remove=True)
    if folder.exists() and not overwrite:
        msg = f"{folder} exists; --overwrite replaces it"
        raise OutputError(msg)
    _check_replaceable(folder)
    if work.exists() and not resume:
        if not overwrite:
            msg = f"{work} holds an unfinished training: --resume it, or --overwrite"
            raise OutputError(msg)
        shutil.rmtree(work)
    work.mkdir(exist_ok=True)
    held.callback(_remove_if_empty, work)  # what did not begin is not in the way later


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _check_replaceable(folder: Path) -> None:
    """Refuse to put a model in the place of anything but a model."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        msg = f"{folder} is no folder of a model; --overwrite replaces nothing else"
        raise OutputError(msg)
    others = sorted({path.name for path in folder.glob("*")} - _OURS)
    if others:
        msg = f"{folder} holds {others[0]}, which is no part of a model; move it elsewhere"
        raise OutputError(msg)


def _finished(order: Order) -> tuple[Model, Result, dict[str, Any]]:
    """Return the model of a training that has ended, if it is that of the order."""
    content = read_about(order.folder)
    about, wanted = content["about"], order.described()
    had = {k: content[k] if k in content else about.get(k) for k in wanted}
    differing = differences(had, json.loads(canonical(wanted)))
    if differing:
        msg = f"{order.folder} is of another training: {'; '.join(differing)}"
        raise MismatchError(msg)
    return load(order.folder), Result(History(), True, 0.0, 0), about["summary"]


def _summary(order: Order, model: Model, result: Result) -> dict[str, Any]:
    """Return what came out, ready for JSON."""
    seed, history = order.training.seed, result.history
    streams = {p: Stream(order.source, order.representation, p, seed=seed) for p in PARTS}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        losses = {
            part: evaluate(model, stream, order.training.batch_size) if stream.n else {}
            for part, stream in streams.items()
        }
    return {
        "model": order.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "events": {part: stream.n for part, stream in streams.items()},
        "left_out": sum(stream.n_left_out for stream in streams.values()),
        "epochs": len(history.rows),
        "best_epoch": history.best_epoch(),
        "losses": losses,
        "seconds": history.rows[-1]["seconds"],
        "samples_per_second": result.samples / result.seconds,
        "constant": _constant(model),
    }


def _constant(model: Model) -> dict[str, int]:
    """Return how many numbers of samples and conditions never varied."""
    return {
        "samples": int((model.spread == 1).sum()) if model.standardised else 0,
        "conditions": int((model.condition_spread == 1).sum()) if model.standardised else 0,
    }


def _publish(
    order: Order, model: Model, result: Result, summary: dict[str, Any], work: Path
) -> None:
    wanted = order.described()
    described = {
        "training": wanted["training"],
        "data": wanted["data"],
        "data_drawn_by": order.source.drawn_by,
        "summary": summary,
        "provenance": {"coulex": __version__, "torch": torch.__version__, **order.about},
    }
    result.history.write(work)
    write_bytes(work / CARD, card(order.name, model, described).encode())
    model.save(work, **described)
    swap(order.folder, work)
    # last: killed before, a training finds its end again, and does not begin anew
    (order.folder / CHECKPOINT).unlink(missing_ok=True)


def _kept_apart(order: Order, model: Model, error: TrainingError) -> CoulexError:
    """Save the best parameters of a failed training, and say so."""
    failed = order.folder.with_name(order.folder.name + ".failed")
    failed.mkdir(exist_ok=True)
    try:
        model.save(failed, training=asdict(order.training), failure=str(error))
    except FloatingPointError:
        write_json(failed / "failure.json", {"failure": str(error)})
        return CoulexError(str(error))
    return CoulexError(f"{error}; the best parameters until then are in {failed}")
