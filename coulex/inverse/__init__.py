"""From momenta back to geometries."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .charges import Ranking, rank_charges
    from .identifiability import Identifiability, identify
    from .noise import estimate

_HOMES = {
    "Identifiability": "identifiability",
    "Ranking": "charges",
    "estimate": "noise",
    "identify": "identifiability",
    "rank_charges": "charges",
}

__all__ = ["Identifiability", "Ranking", "estimate", "identify", "rank_charges"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'coulex.inverse' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
