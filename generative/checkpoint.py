"""The state of a training on disk: one file, whole or absent, that names what it belongs to.

Tensors lie in safetensors, everything else as JSON in its metadata, with a digest of both. The
file is replaced in one step, so that a process killed at any moment leaves the one before.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from coulex.dataset.canonical import canonical
from coulex.dataset.files import write_bytes
from coulex.errors import CorruptFileError, MismatchError

CHECKPOINT = "checkpoint.safetensors"


def write(
    path: Path, tensors: dict[str, Tensor], about: dict[str, Any], state: dict[str, Any]
) -> None:
    """Replace a checkpoint.

    Parameters
    ----------
    path : Path
    tensors : dict
        By name.
    about : dict
        What determines the training: a resumption compares it.
    state : dict
        Counters and history, ready for JSON.
    """
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    # numbers that are not finite may stand in a history: a loss before the first validation
    text = json.dumps({"about": about, "state": state}, sort_keys=True)
    meta = {"coulex": text, "sha256": _digest(plain, text)}
    write_bytes(path, to_bytes(plain, metadata=meta))


def read(path: Path, about: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the state of a checkpoint.

    Raises
    ------
    CorruptFileError
        If it is damaged.
    MismatchError
        If it belongs to another model, other data or other options; the differences are
        listed.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = meta["coulex"]
        content = json.loads(text)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        msg = f"{path} is no checkpoint, or cut short: {error}; train anew with --overwrite"
        raise CorruptFileError(msg) from error
    if meta.get("sha256") != _digest(tensors, text):
        msg = f"{path} is damaged: its SHA-256 differs; train anew with --overwrite"
        raise CorruptFileError(msg)
    differing = differences(content["about"], json.loads(canonical(about)))
    if differing:
        msg = f"{path} is of another training: {'; '.join(differing)}"
        raise MismatchError(msg)
    return tensors, content["state"]


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Return what differs between two descriptions, as "options.width 128, now 256"."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted({*old, *new}):
            inside = f"{where}.{key}" if where else key
            found += differences(old.get(key), new.get(key), inside)
        return found
    if old == new:
        return []
    return [f"{where} {_short(old)}, now {_short(new)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
