"""Choices that come from a command line or a file, held to what their fields may be."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from numbers import Integral, Real
from types import UnionType
from typing import Any, Union, get_args, get_origin

_SAID = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


def check(kind: type, given: Mapping[str, Any], *, but: Iterable[str] = ()) -> None:
    """Raise ValueError unless all names are fields of a dataclass, and values of their kind.

    Parameters
    ----------
    kind : type
        A dataclass.
    given : mapping
        A single value may stand for a tuple of any length.
    but : iterable of str
        Fields that nobody chooses.
    """
    known = {f.name: f.type for f in fields(kind) if f.name not in but}
    unknown = sorted(set(given) - set(known))
    if unknown:
        msg = f"no option {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        raise ValueError(msg)
    for name, value in given.items():
        if not _fits(value, known[name]):
            msg = f"{name} must be {_said(known[name])}, got {value!r}"
            raise ValueError(msg)


def _fits(value: Any, wanted: Any) -> bool:
    inner = get_args(wanted)
    if get_origin(wanted) in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if get_origin(wanted) is tuple:
        values = value if isinstance(value, tuple | list) else (value,)
        free = inner[-1] is Ellipsis
        return (free or len(values) == len(inner)) and all(_fits(v, inner[0]) for v in values)
    if wanted in (int, float):
        kind = Integral if wanted is int else Real
        return isinstance(value, kind) and not isinstance(value, bool)
    return not isinstance(wanted, type) or isinstance(value, wanted)


def _said(wanted: Any) -> str:
    inner = get_args(wanted)
    if get_origin(wanted) is tuple:
        count = "" if inner[-1] is Ellipsis else f"{len(inner)} "
        return f"{count}values, each {_SAID.get(inner[0], inner[0])}"
    if get_origin(wanted) in (Union, UnionType):
        return " or ".join(_said(one) for one in inner if one is not type(None))
    return _SAID.get(wanted, str(wanted))
