"""From momenta back to geometries."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .identifiability import Identifiability, identify
    from .noise import estimate

_HOMES = {
    "Identifiability": "identifiability",
    "estimate": "noise",
    "identify": "identifiability",
}

__all__ = ["Identifiability", "estimate", "identify"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'coulex.inverse' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
