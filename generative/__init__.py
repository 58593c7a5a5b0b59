"""Generative models of molecular geometries: train, save, load, sample.

Names are imported when they are first used; `coulex` never imports this package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data import Arrays, Events, Stream
    from .files import load
    from .geometry import Geometry
    from .model import Model, Options, model_class
    from .recipe import Training
    from .representation import Batch, Representation
    from .sampler import Sampler
    from .score import Score
    from .train import fit

_HOMES = {
    "Arrays": "data",
    "Batch": "representation",
    "Events": "data",
    "Geometry": "geometry",
    "Model": "model",
    "Options": "model",
    "Representation": "representation",
    "Sampler": "sampler",
    "Score": "score",
    "Stream": "data",
    "Training": "recipe",
    "fit": "train",
    "load": "files",
    "model_class": "model",
}

__all__ = [
    "Arrays",
    "Batch",
    "Events",
    "Geometry",
    "Model",
    "Options",
    "Representation",
    "Sampler",
    "Score",
    "Stream",
    "Training",
    "fit",
    "load",
    "model_class",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'generative' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
