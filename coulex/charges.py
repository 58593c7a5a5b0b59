"""The charges of the ions, from the ways in which a person states them.

One charge for each atom, one for each element, or a total that a rule divides: "whole" charges
go one by one to the atom with the fewest so far, of equals to the heaviest, and never beyond
the bare nucleus; "equal" gives every atom the same real share.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from .elements import atomic_number

Charges = Sequence[float] | np.ndarray | Mapping[str, float | str]  #: as a user may give them


def parse_charges(text: str) -> list[float] | dict[str, float | str]:
    """Return the charges that a text states, in the form that `charges_of` takes.

    Parameters
    ----------
    text : str
        "2,2,2", "C=2,O=2,S=2", "total=6" or "total=6,rule=equal".

    Raises
    ------
    ValueError
        If the text is none of these.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        if all("=" not in part for part in parts):
            return [float(part) for part in parts]
        pairs = [re.fullmatch(r"(\w+)\s*=\s*(\S+)", part) for part in parts]
        given = {pair[1]: pair[2] for pair in pairs if pair}
        if len(given) == len(parts):
            return {k: v if k == "rule" else float(v) for k, v in given.items()}
    except ValueError:
        pass  # a charge that is not a number gets the message of any other misspelling
    msg = f"charges {text!r}: expected 2,2,2 or C=2,O=2,S=2 or total=6, each charge once"
    raise ValueError(msg)


def charges_of(symbols, masses, given: Charges, *, allow_attraction=False) -> np.ndarray:
    """Return the charge of each ion.

    Parameters
    ----------
    symbols : sequence of str
        Elements.
    masses : (ions,) array
        They decide which atoms "whole" charges go to first.
    given : sequence or mapping
        A charge for each atom; or for each element; or {"total": 6}, with "rule" beside it,
        "whole" (the default) or "equal".
    allow_attraction : bool
        Accept negative charges.

    Returns
    -------
    (ions,) float array, in elementary charges

    Raises
    ------
    ValueError
        If atoms are left without a charge or charges without an atom; or a charge is not
        finite, negative, or more than the electrons of the atom.
    """
    if isinstance(given, Mapping):
        divide = _divide_total if "total" in given else _by_element
        charges = divide(symbols, masses, given)
    else:
        charges = np.array(given, dtype=float)
    if charges.shape != (len(symbols),):
        msg = f"{len(symbols)} atoms ({' '.join(symbols)}), but charges {charges.shape}"
        raise ValueError(msg)
    for i, (symbol, charge) in enumerate(zip(symbols, charges, strict=True)):
        if not np.isfinite(charge):
            msg = f"atom {i} ({symbol}) has the charge {charge}; expected a finite number"
        elif charge < 0 and not allow_attraction:
            msg = (
                f"atom {i} ({symbol}) has the charge {charge:g}; ions that attract one "
                "another need `allow_attraction` (--allow-attraction)"
            )
        elif charge > atomic_number(symbol):
            msg = f"atom {i} ({symbol}) has {atomic_number(symbol)} electrons, not {charge:g}"
        else:
            continue
        raise ValueError(msg)
    return charges


def _by_element(symbols, masses, given):  # noqa: ARG001, one signature for both ways
    if set(given) != set(symbols):
        msg = (
            f"charges are given for {', '.join(sorted(given))}, but the molecule consists of "
            f"{', '.join(sorted(set(symbols)))}; name each element once, with 0 for neutrals"
        )
        raise ValueError(msg)
    return np.array([float(given[symbol]) for symbol in symbols])


def _divide_total(symbols, masses, given):
    total, rule = float(given["total"]), given.get("rule", "whole")
    strange = set(given) - {"total", "rule"}
    if strange or rule not in ("whole", "equal"):
        msg = (
            f'charges {dict(given)}: beside "total" stands at most "rule", "whole" or "equal"'
        )
        raise ValueError(msg)
    if rule == "equal":
        return np.full(len(symbols), total / len(symbols))
    room = np.array([atomic_number(symbol) for symbol in symbols])
    if total != int(total) or not 0 <= total <= room.sum():
        msg = (
            f"a total charge of {total:g} cannot be divided into whole charges of "
            f"{' '.join(symbols)}, 0 to {room.sum()}; write rule=equal for real ones"
        )
        raise ValueError(msg)
    charges = np.zeros(len(symbols))
    for _ in range(int(total)):
        free = np.flatnonzero(charges < room)
        fewest = free[charges[free] == charges[free].min()]
        charges[fewest[np.argmax(np.asarray(masses)[fewest])]] += 1
    return charges
