"""What a column is called: "cx" is x of carbon, "ph2z" the z momentum of the second hydrogen.

Published files list atoms in Hill order (carbon, hydrogen, the rest by alphabet; without
carbon all by alphabet), first every position, then every momentum. An element that occurs more
than once is numbered from 1.
"""

import re
from collections.abc import Iterable, Sequence

from coulex.errors import InvalidDataError

Columns = tuple[tuple[str, tuple[str, str, str]], ...]  #: symbol of each ion, and x, y, z

_LABEL = re.compile(r"([a-z]{1,2})(\d*)")


def symbols_of(numbers: Iterable[int]) -> tuple[str, ...]:
    """Return the symbols of atomic numbers."""
    from ase.data import chemical_symbols

    return tuple(chemical_symbols[int(number)] for number in numbers)


def hill_order(symbols: Sequence[str]) -> list[int]:
    """Return the indices that bring ions into Hill order; equal ions keep theirs."""
    first = ("C", "H") if "C" in symbols else ()

    def rank(i: int) -> tuple[int, str]:
        symbol = symbols[i]
        return (first.index(symbol) if symbol in first else len(first), symbol)

    return sorted(range(len(symbols)), key=rank)


def labels(symbols: Sequence[str]) -> list[str]:
    """Return the label of each ion: "c", or "h1" and "h2" where there are several."""
    seen: dict[str, int] = {}
    out = []
    for symbol in symbols:
        seen[symbol] = seen.get(symbol, 0) + 1
        several = symbols.count(symbol) > 1
        out.append(symbol.lower() + (str(seen[symbol]) if several else ""))
    return out


def axis_names(symbols: Sequence[str], prefix: str = "") -> list[str]:
    """Return the names of all columns of positions, or with prefix "p" of momenta."""
    return [f"{prefix}{label}{axis}" for label in labels(list(symbols)) for axis in "xyz"]


def recognise(header: Sequence[str]) -> tuple[Columns | None, Columns | None]:
    """Return the columns of positions and of momenta that a header names; None for neither.

    Raises
    ------
    InvalidDataError
        If a column is none of ours, or an ion lacks one.
    """
    stems: dict[str, set[str]] = {}
    for name in header:
        low = name.strip().lower()
        if low[-1:] not in ("x", "y", "z"):
            raise InvalidDataError(_unknown(name))
        stems.setdefault(low[:-1], set()).add(low[-1])
    for stem, axes in stems.items():
        if axes != {"x", "y", "z"}:
            lacks = ", ".join(stem + axis for axis in "xyz" if axis not in axes)
            msg = f"the header lacks {lacks}; each ion needs x, y and z"
            raise InvalidDataError(msg)
    moving = [stem for stem in stems if stem.startswith("p") and stem[1:] in stems]
    if not moving and all(_symbol(stem[1:]) for stem in stems if stem[0] == "p"):
        alone = all(stem[0] == "p" for stem in stems)
        moving = list(stems) if alone else []
    resting = [stem for stem in stems if stem not in moving]
    if moving and resting and [stem[1:] for stem in moving] != resting:
        msg = f"positions of {' '.join(resting)}, but momenta {' '.join(moving)}; {_ADVICE}"
        raise InvalidDataError(msg)
    return _named(resting, ""), _named(moving, "p")


def parse_columns(text: str) -> Columns:
    """Read "C=px1,py1,pz1;O=px2,py2,pz2": for each ion the columns of x, y and z.

    Columns go by the names in the header, or by numbers from 1.

    Raises
    ------
    InvalidDataError
        If the text has another form.
    """
    out = []
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        symbol, _, names = part.partition("=")
        axes = tuple(name.strip() for name in names.split(","))
        if _symbol(symbol.strip().lower()) is None or len(axes) != 3 or not all(axes):
            msg = f"columns {part!r}: expected an element and three columns: C=px1,py1,pz1"
            raise InvalidDataError(msg)
        out.append((symbol.strip(), (axes[0], axes[1], axes[2])))
    if not out:
        msg = "no columns given; expected the like of C=px1,py1,pz1;O=px2,py2,pz2"
        raise InvalidDataError(msg)
    return tuple(out)


_ADVICE = "say which are which with --columns and --position-columns"


def _unknown(name: str) -> str:
    name = name.strip()
    return (
        f"column {name!r} is named neither like a position, cx, nor like a momentum, ph2z; "
        f"{_ADVICE}"
    )


def _named(stems: Sequence[str], prefix: str) -> Columns | None:
    named = []
    for stem in stems:
        symbol = _symbol(stem.removeprefix(prefix))
        if symbol is None:
            raise InvalidDataError(_unknown(stem + "x"))
        named.append((symbol, (stem + "x", stem + "y", stem + "z")))
    return tuple(named) or None


def _symbol(label: str) -> str | None:
    """Return the element of a label, None if it is not one."""
    from ase.data import atomic_numbers

    found = _LABEL.fullmatch(label)
    symbol = found[1].capitalize() if found else "X"
    return symbol if symbol != "X" and symbol in atomic_numbers else None
