"""Conversion to atomic units, the only units used inside the package.

Multiply on the way in, divide on the way out: ``r = 0.96 * ANGSTROM``, ``print(t / FS)``.
Values are CODATA's, as scipy carries them.
"""

from scipy.constants import physical_constants

BOHR_M = physical_constants["atomic unit of length"][0]
ANGSTROM = 1e-10 / BOHR_M  #: bohr
U = 1 / physical_constants["electron mass in u"][0]  #: electron masses
FS = 1e-15 / physical_constants["atomic unit of time"][0]  #: atomic units of time
EV = 1 / physical_constants["Hartree energy in eV"][0]  #: hartree
KG_M_PER_S = 1 / physical_constants["atomic unit of momentum"][0]  #: atomic units of momentum

#: what the unit attribute of a file may say, by quantity: (spellings, factor to atomic units);
#: the first spelling of each quantity is the one that is written
_SPELLINGS = {
    "length": [
        (("bohr", "a0", "au", "a.u.", "atomic unit of length"), 1.0),
        (("angstrom", "Å", "ang", "ångström"), ANGSTROM),
    ],
    "area": [
        (("bohr^2", "a0^2", "au", "a.u."), 1.0),
        (("angstrom^2", "Å^2", "Å²"), ANGSTROM**2),
    ],
    "momentum": [
        (("atomic unit of momentum", "au", "a.u.", "hbar/a0", "hbar/bohr"), 1.0),
        (("kg m/s", "kg*m/s", "kg m s^-1"), KG_M_PER_S),
    ],
    "charge": [(("elementary charge", "e", "au", "a.u."), 1.0)],
    "mass": [
        (("electron mass", "m_e", "me", "au", "a.u."), 1.0),
        (("u", "Da", "amu", "dalton", "unified atomic mass unit"), U),
    ],
}


def written(quantity: str) -> str:
    """Return the name under which our files declare the atomic unit of `quantity`."""
    return _SPELLINGS[quantity][0][0][0]


def to_atomic(unit: str, quantity: str) -> float:
    """Return the factor that turns numbers in `unit` into atomic units.

    Parameters
    ----------
    unit : str
        As a file or a user spells it; capitals and surrounding blanks do not matter.
    quantity : {"length", "area", "momentum", "charge", "mass"}

    Raises
    ------
    ValueError
        If `unit` is not a known unit of `quantity`; the message lists those that are.
    """
    said = unit.strip().lower()
    for spellings, factor in _SPELLINGS[quantity]:
        if said in (name.lower() for name in spellings):
            return factor
    known = ", ".join(names[0] for names, _ in _SPELLINGS[quantity])
    msg = f"unknown unit of {quantity} {unit!r}; known are {known}"
    raise ValueError(msg)
