"""Figures of trained models, drawn from the files in their folders: losses, and latents."""

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from safetensors import SafetensorError, safe_open

from .errors import CorruptFileError, InvalidDataError
from .plot import COLOURS, INK, entitle, new_figure

_METRICS, _PARAMETERS = "metrics.csv", "parameters.safetensors"  # as `generative` names them
_STORED = "latents.stored"
_COMMON = {"epoch", "step", "lr", "train_loss", "val_loss", "seconds"}
_UNIT = re.compile(r"kl_\d+")  # a column for each latent: too many for curves
_ACTIVE = 0.01  #: nats above which a latent says something
_PARTS = 6  #: panels of parts of the loss, at most

History = dict[str, np.ndarray]


def read_history(folder: Path) -> History:
    """Read the table of a training, column by column.

    Raises
    ------
    InvalidDataError
        If there is none, or no epoch is in it.
    CorruptFileError
        If it is not such a table.
    """
    path = folder / _METRICS
    if not path.is_file():
        msg = f"{folder} holds no {_METRICS}: it is no folder of `coulex train`"
        raise InvalidDataError(msg)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {
            name: np.array([float(row[name] or "nan") for row in rows])
            for name in (rows[0] if rows else ())
        }
    except (ValueError, TypeError, csv.Error) as error:
        msg = f"{path} is not the table of a training: {error}"
        raise CorruptFileError(msg) from error
    if not rows:
        msg = f"{path} has no epoch yet"
        raise InvalidDataError(msg)
    missing = sorted(_COMMON - set(columns))
    if missing:
        msg = f"{path} is not the table of a training: it has no {', '.join(missing)}"
        raise CorruptFileError(msg)
    return columns


def learning(folders: Sequence[Path]) -> Figure:
    """Draw the losses of every epoch, and below them the parts of the validation loss.

    Parameters
    ----------
    folders : sequence of Path
        Of trained models; overlaid, a colour each.

    Raises
    ------
    InvalidDataError, CorruptFileError
        As `read_history`.
    """
    histories = [read_history(folder) for folder in folders]
    parts = [
        name
        for name in dict.fromkeys(name for h in histories for name in h)
        if name not in _COMMON and not _UNIT.fullmatch(name)
    ][:_PARTS]
    rows = -(-len(parts) // 3)
    figure = new_figure(7, 4.2 + 1.9 * rows)
    grid = figure.add_gridspec(1 + rows, 3, height_ratios=[2.2] + [1] * rows)
    axes = figure.add_subplot(grid[0, :])
    several = len(folders) > 1
    hidden = 0
    for folder, history, colour in zip(folders, histories, _colours(folders), strict=True):
        epoch, losses = history["epoch"], ("train_loss", "val_loss")
        hidden += sum(int((~np.isfinite(history[name])).sum()) for name in losses)
        label = f"{folder.name}: " if several else ""
        axes.plot(epoch, history["train_loss"], color=colour, linewidth=1, alpha=0.55)
        axes.plot(epoch, history["val_loss"], color=colour, linewidth=1.4)
        axes.lines[-2].set_label(f"{label}training")
        axes.lines[-1].set_label(f"{label}validation")
        best = int(np.nanargmin(history["val_loss"]))
        axes.plot(epoch[best], history["val_loss"][best], "o", color=colour, markersize=5)
        axes.annotate(
            f"best: epoch {epoch[best]:.0f}",
            (epoch[best], history["val_loss"][best]),
            xytext=(0, 8),
            textcoords="offset points",
            ha="right" if best > len(epoch) / 2 else "left",
            fontsize=8,
            color=colour,
        )
        for place, name in enumerate(parts):
            _part(figure, grid, place, name, history, colour)
    _scale(axes, [h[name] for h in histories for name in ("train_loss", "val_loss")])
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.set_ylabel("loss")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    said = f"{len(histories[0]['epoch'])} epochs, {histories[0]['seconds'][-1]:,.0f} s"
    said = f"{len(folders)} models" if several else said
    if hidden:
        said += f"; {hidden} losses that are not finite are not shown"
    entitle(axes, "Learning curves" if several else folders[0].name, said)
    return figure


def _part(figure: Figure, grid, place: int, name: str, history: History, colour) -> None:
    """Draw one part of the validation loss, in a panel that all models share."""
    label = f"part {place}"
    found = [axes for axes in figure.axes if axes.get_label() == label]
    axes = found[0] if found else figure.add_subplot(grid[1 + place // 3, place % 3])
    axes.set_label(label)
    if name not in history:
        return
    axes.plot(history["epoch"], history[name], color=colour, linewidth=1.2)
    _scale(axes, [line.get_ydata() for line in axes.lines])
    axes.set_title(name.replace("_", " "), fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _scale(axes, values) -> None:
    """Take a logarithmic axis where all values are positive and span a decade."""
    every = np.concatenate([np.asarray(v, float) for v in values])
    every = every[np.isfinite(every)]
    if len(every) and every.min() > 0 and every.max() > 10 * every.min():
        axes.set_yscale("log")


def _colours(folders: Sequence[Path]) -> list[str]:
    return [COLOURS[k % len(COLOURS)] for k in range(len(folders))]


def latents(folder: Path) -> Figure:
    """Draw the latents that the training left, and what each says in nats.

    Parameters
    ----------
    folder : Path
        Of a trained autoencoder.

    Raises
    ------
    InvalidDataError
        If the model has no latents.
    CorruptFileError
        If its parameters cannot be read.
    """
    z, history = _stored(folder), read_history(folder)
    best = int(np.nanargmin(history["val_loss"]))
    nats = np.array([history.get(f"kl_{k + 1}", [np.nan])[-1] for k in range(z.shape[1])])
    if f"kl_{z.shape[1]}" in history:
        nats = np.array([history[f"kl_{k + 1}"][best] for k in range(z.shape[1])])
    worth = np.where(np.isfinite(nats), nats, z.std(axis=0))
    order = np.argsort(-worth, kind="stable")
    first, second = (*order[:2], order[0])[:2]
    figure = new_figure(9, 4)
    bars, cloud = figure.subplots(1, 2, width_ratios=(1.2, 1))
    known = bool(np.isfinite(nats).all())
    heights = nats[order] if known else z.std(axis=0)[order]
    active = heights > _ACTIVE if known else np.ones(len(order), bool)
    colours = [COLOURS[0] if on else "#bbbbbb" for on in active]
    bars.bar(range(len(order)), heights, color=colours)
    if len(order) <= 16:
        bars.set_xticks(range(len(order)), [str(k + 1) for k in order])
    bars.set_xlabel("latent, the most telling first")
    bars.set_ylabel("divergence from the prior (nats)" if known else "standard deviation")
    if known:
        said = f"{int(active.sum())} of {len(order)} active: above {_ACTIVE:g} nats"
        bars.axhline(_ACTIVE, color="#888888", linewidth=0.8, linestyle="--")
        if heights.max() > 10 * _ACTIVE:
            bars.set_yscale("symlog", linthresh=_ACTIVE)
    else:
        said = f"{len(order)} latents"
    entitle(bars, folder.name, said)
    cloud.plot(z[:, first], z[:, second], ".", color=COLOURS[0], markersize=2, alpha=0.35)
    turn = np.linspace(0, 2 * math.pi, 181)
    for radius in (1, 2):
        cloud.plot(
            radius * np.cos(turn), radius * np.sin(turn), color=COLOURS[1], linewidth=0.9
        )
    cloud.set_aspect("equal", adjustable="datalim")
    cloud.set_xlabel(f"latent {first + 1}")
    cloud.set_ylabel(f"latent {second + 1}")
    entitle(
        cloud, "Latents of the training", f"{len(z):,}; circles: 1 and 2 σ of a unit normal"
    )
    for axes in (bars, cloud):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _stored(folder: Path) -> np.ndarray:
    """Return the latents (m, size) that a model keeps of its training."""
    path = folder / _PARAMETERS
    if not path.is_file():
        msg = f"{folder} holds no {_PARAMETERS}: it is no model"
        raise InvalidDataError(msg)
    try:
        with safe_open(path, framework="numpy") as file:
            if _STORED not in file.keys():  # noqa: SIM118, it is no mapping
                msg = f"the model in {folder} keeps no latents of its training"
                raise InvalidDataError(msg)
            z = np.asarray(file.get_tensor(_STORED), np.float64)
    except (SafetensorError, OSError) as error:
        msg = f"{path} is not a safetensors file: {error}"
        raise CorruptFileError(msg) from error
    return z[np.isfinite(z).all(axis=1)]
