"""A model as a folder: parameters in safetensors, and all else in JSON; nothing is unpickled.

`parameters.safetensors` holds parameters and buffers; `model.json` names the model, its
options and representation, the tensors with shapes and types, and the SHA-256 of that file
and of itself. A stored self-test, a loss and draws at fixed conditions, tells a model that
computes something else (a changed program, another library) from the one that was trained.

What is read is checked before anything is built: digests, keys, and the sizes of all tensors
against those of a model that takes no memory.
"""

import contextlib
import hashlib
import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from coulex import __version__
from coulex.dataset.canonical import canonical
from coulex.dataset.files import file_digest, read_json, write_bytes, write_json
from coulex.errors import CorruptFileError, InvalidDataError

from .model import Model, model_class
from .representation import REPRESENTATIONS, Batch, Representation

MODEL, PARAMETERS = "model.json", "parameters.safetensors"
FORMAT_VERSION = 1

#: the module of each representation that comes with the package
_HOMES = {
    "geometry": "geometry",
    "environment": "gram.representation",
    "trajectory": "repap.representation",
}

_KEYS = {
    *("format", "format_version", "needs", "name", "options", "representation", "tensors"),
    *("parameters_sha256", "self_test", "about", "sha256"),
}
_TESTED = 4  #: conditions of the self-test
_LARGEST_OPTION = 1 << 20
_TOLERANCE = 1e-3  #: of the self-test, relative: processors round differently


def save(model: Model, folder: Path, **about: Any) -> None:
    """Write a model into a folder, `model.json` last.

    Parameters
    ----------
    model : Model
    folder : Path
        Must exist; files of a model that it holds are replaced.
    about : dict
        Ready for JSON: data, training, results; kept, never interpreted.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    tested = self_test(model)
    if not all(map(math.isfinite, (tested["loss"], *tested["draws"]))):
        msg = f"{model.name} gives numbers that are not finite; it is not written to {folder}"
        raise FloatingPointError(msg)
    write_bytes(folder / PARAMETERS, to_bytes(state))
    content = {
        "format": "coulex model",
        "format_version": FORMAT_VERSION,
        "needs": __version__,
        "name": model.name,
        "options": model.options.describe(),
        "representation": {
            "kind": model.representation.kind,
            **model.representation.describe(),
        },
        "tensors": _declared(state),
        "parameters_sha256": file_digest(folder / PARAMETERS),
        "self_test": tested,
        "about": about,
    }
    content = json.loads(canonical(content))
    write_json(folder / MODEL, content | {"sha256": _digest(content)})


def load(folder: Path | str) -> Model:
    """Read back a model, on the CPU and ready to sample.

    Raises
    ------
    InvalidDataError
        If there is no model.
    CorruptFileError
        If anything is damaged, does not fit, is of a newer coulex, or computes something else
        than what was stored.
    """
    folder = Path(folder)
    content = read_about(folder)
    path = folder / PARAMETERS
    if not path.is_file() or file_digest(path) != content["parameters_sha256"]:
        msg = f"{path} is missing or damaged: its SHA-256 is not the one in {MODEL}"
        raise CorruptFileError(msg)
    state = _read_tensors(path)
    if _declared(state) != content["tensors"]:
        msg = f"{path} does not hold the tensors that {MODEL} declares"
        raise CorruptFileError(msg)
    model = _built(content, state, folder)
    model.eval()
    _check_self_test(model, content["self_test"], folder)
    return model


def read_about(folder: Path | str) -> dict[str, Any]:
    """Read and check the JSON of a model, without its parameters.

    Raises
    ------
    InvalidDataError, CorruptFileError
        As `load`.
    """
    folder = Path(folder)
    path = folder / MODEL
    if folder.is_file():
        msg = f"{folder} is a file; a model is a folder with {MODEL} (nothing is unpickled)"
        raise CorruptFileError(msg)
    if not path.is_file():
        unfinished = (folder / "checkpoint.safetensors").exists()
        hint = "its training is unfinished: --resume it" if unfinished else "there is no model"
        msg = f"{folder} has no {MODEL}: {hint}"
        raise InvalidDataError(msg)
    content = read_json(path)
    if content.get("format") != "coulex model":
        msg = f"{path} is not a model of coulex"
        raise CorruptFileError(msg)
    if content.get("format_version", 0) > FORMAT_VERSION:
        msg = f"{path} needs coulex >= {content.get('needs')}"
        raise CorruptFileError(msg)
    if set(content) != _KEYS:
        msg = f"{path} has other keys than expected: {sorted(set(content) ^ _KEYS)}"
        raise CorruptFileError(msg)
    if content["sha256"] != _digest({k: v for k, v in content.items() if k != "sha256"}):
        msg = f"{path} is damaged or was changed: its SHA-256 differs"
        raise CorruptFileError(msg)
    return content


def build(name: str, options: dict, representation: dict) -> Model:
    """Make an untrained model from descriptions.

    Raises
    ------
    ValueError
        If a name or an option is unknown.
    """
    kind = model_class(name)
    described = dict(representation)
    made = representation_class(described.pop("kind")).of(described)
    return kind(kind.options_type.preset(None, **options), made)


def representation_class(kind: str) -> type[Representation]:
    """Return the class of a representation.

    Raises
    ------
    ValueError
        If there is none of that kind.
    """
    if kind in _HOMES:
        import_module(f".{_HOMES[kind]}", __package__)
    if kind not in REPRESENTATIONS:
        msg = f"no representation {kind!r}; there are {', '.join({*_HOMES, *REPRESENTATIONS})}"
        raise ValueError(msg)
    return REPRESENTATIONS[kind]


def self_test(model: Model) -> dict[str, Any]:
    """Return a loss and draws at fixed conditions."""
    was_training, device = model.training, model.centre.device
    model.eval()
    grid = torch.linspace(-1, 1, _TESTED * max(model.condition_size, 1))
    c = grid.reshape(_TESTED, -1)[:, : model.condition_size].to(model.centre)
    condition = c * model.condition_spread + model.condition_centre
    flat = torch.linspace(-1, 1, _TESTED * max(model.centre.numel(), 1)).to(model.centre)
    x = flat.reshape(_TESTED, *model.shape) * model.spread + model.centre
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        with torch.no_grad():
            loss = float(model.loss(Batch(x, condition))["loss"])
        drawn = model.sample(condition, 2, torch.Generator(device).manual_seed(0))
    model.train(was_training)
    scaled = (drawn - model.centre) / model.spread
    return {"loss": loss, "draws": scaled.double().flatten().tolist()}


def _declared(state: dict[str, Tensor]) -> dict[str, Any]:
    return {k: [str(v.dtype).removeprefix("torch."), *v.shape] for k, v in state.items()}


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        msg = f"{path} is not a safetensors file: {error}"
        raise CorruptFileError(msg) from error


def _built(content: dict[str, Any], state: dict[str, Tensor], folder: Path) -> Model:
    """Build the model of a description around the tensors that were read."""
    try:
        described = content["name"], content["options"], content["representation"]
        _check_modest(content["options"])
        with contextlib.suppress(NotImplementedError), torch.device("meta"):
            _check_declared(build(*described), content["tensors"])
        model = build(*described)
        _check_declared(model, content["tensors"])
        model.load_state_dict(state)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        msg = f"{folder / MODEL} describes no model of this coulex: {error}"
        raise CorruptFileError(msg) from error
    return model


def _check_declared(model: Model, tensors: dict[str, Any]) -> None:
    if _declared(dict(model.state_dict())) != tensors:
        msg = "its tensors are not those of the model that it names"
        raise ValueError(msg)


def _check_modest(options: Any) -> None:
    """Refuse absurd sizes before memory is taken for them."""
    if isinstance(options, dict | list | tuple):
        for value in options.values() if isinstance(options, dict) else options:
            _check_modest(value)
    elif isinstance(options, int) and options > _LARGEST_OPTION:
        msg = f"an option of {options}, beyond {_LARGEST_OPTION}"
        raise ValueError(msg)


def _check_self_test(model: Model, stored: dict[str, Any], folder: Path) -> None:
    again = self_test(model)
    new, old = ([test["loss"], *test["draws"]] for test in (again, stored))
    if len(new) != len(old):
        msg = f"{folder / MODEL} stores a self-test of another model"
        raise CorruptFileError(msg)
    for now, then in zip(new, old, strict=True):
        if not abs(now - then) <= _TOLERANCE * (1 + abs(then)):
            msg = (
                f"{folder}: the self-test gives {now:.6g}, {then:.6g} was stored: this "
                "program computes another model; use the version that trained it"
            )
            raise CorruptFileError(msg)
