"""What an atom is: its number, its isotopes and their masses.

A symbol may name the isotope: "13C", "D" for "2H", "T" for "3H". The default is the most
abundant isotope, since a spectrometer selects by mass over charge, and a natural average is
the mass of no ion at all. `data/elements.json` holds the numbers and their sources.
"""

import json
import re
from functools import cache
from importlib import resources

from .errors import InvalidDataError

_HEAVY_HYDROGEN = {"D": ("H", 2), "T": ("H", 3)}


@cache
def _elements() -> dict:
    text = resources.files("coulex").joinpath("data/elements.json").read_text("utf-8")
    return json.loads(text)["elements"]


def _element(symbol: str) -> dict:
    if symbol not in _elements():
        msg = f"unknown element {symbol!r}; known are those with isotopes in nature, H to U"
        raise InvalidDataError(msg)
    return _elements()[symbol]


def split_symbol(symbol: str) -> tuple[str, int | None]:
    """Return the element of a symbol, and the mass number if the symbol names one.

    Raises
    ------
    InvalidDataError
        If there is no such element or isotope; dummy atoms are none.
    """
    if symbol in _HEAVY_HYDROGEN:
        return _HEAVY_HYDROGEN[symbol]
    parts = re.fullmatch(r"(\d*)([A-Z][a-z]?)", symbol)
    if parts is None or parts[2] not in _elements():
        msg = f"unknown symbol {symbol!r}; expected an element, or an isotope as 13C, D or T"
        raise InvalidDataError(msg)
    if not parts[1]:
        return parts[2], None
    mass_number = int(parts[1])
    isotope_mass(parts[2], mass_number)
    return parts[2], mass_number


def atomic_number(element: str) -> int:
    """Return the charge of the nucleus."""
    return _element(element)["number"]


def most_abundant(element: str) -> int:
    """Return the mass number of the isotope that is most abundant in nature."""
    return _element(element)["most_abundant"]


def average_mass(element: str) -> float:
    """Return the standard atomic weight, in u."""
    return _element(element)["average"]


def isotope_mass(element: str, mass_number: int) -> float:
    """Return the mass of a neutral atom of one isotope, in u.

    Raises
    ------
    InvalidDataError
        If the table has no such isotope; the message lists those it has.
    """
    isotopes = _element(element)["isotopes"]
    if str(mass_number) not in isotopes:
        msg = (
            f"no isotope {mass_number} of {element} in the table; it has {', '.join(isotopes)}"
        )
        raise InvalidDataError(msg)
    return isotopes[str(mass_number)]
