import json
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.constants import fine_structure, physical_constants, speed_of_light

from coulex.charges import charges_of
from coulex.elements import average_mass, isotope_mass, most_abundant, split_symbol
from coulex.errors import InvalidDataError
from coulex.frames import angle
from coulex.molecule import Molecule, parse_charges
from coulex.units import ANGSTROM, EV, U

OCS = Molecule.named("OCS")
PROTON = physical_constants["proton-electron mass ratio"][0]
DEUTERON = physical_constants["deuteron-electron mass ratio"][0]
TRITON = physical_constants["triton-electron mass ratio"][0]
#: an electron mass is c² hartree, so half a hartree, which binds the electron of H, weighs
RYDBERG = 0.5 * fine_structure**2


# masses


def test_carbon_12_is_12_u_less_its_electrons():
    ions = OCS.with_charges([2, 6, 2]).ion_masses
    assert ions[1] == pytest.approx(12 * U - 6, abs=1e-9)


@pytest.mark.parametrize(
    ("symbol", "nucleus"), [("H", PROTON), ("D", DEUTERON), ("T", TRITON)]
)
def test_hydrogen_without_its_electron_is_its_nucleus(symbol, nucleus):
    molecule = Molecule.of([symbol, symbol], [[0, 0, 0], [1.4, 0, 0]])
    # the table is good to 1e-10 u, which is 2e-7 electron masses
    assert_allclose(molecule.ion_masses, nucleus - RYDBERG, rtol=0, atol=1e-6)


# NIST, Atomic Weights and Isotopic Compositions, in u
@pytest.mark.parametrize(
    ("element", "mass_number", "mass"),
    [
        ("N", 14, 14.00307400443),
        ("O", 16, 15.99491461957),
        ("F", 19, 18.99840316273),
        ("S", 32, 31.9720711744),
        ("Cl", 35, 34.968852682),
        ("Br", 79, 78.9183376),
        ("I", 127, 126.9044719),
    ],
)
def test_default_isotopes_and_their_masses(element, mass_number, mass):
    assert most_abundant(element) == mass_number
    # the two evaluations differ by up to their uncertainty, 4e-6 u for iodine
    assert isotope_mass(element, mass_number) == pytest.approx(mass, abs=5e-6)


def test_averages_are_the_standard_atomic_weights():
    weights = {"H": 1.008, "C": 12.011, "O": 15.999, "S": 32.06, "Cl": 35.45, "Br": 79.904}
    assert {element: average_mass(element) for element in weights} == weights
    molecule = OCS.with_average_masses()
    assert_allclose(molecule.masses, U * np.array([15.999, 12.011, 32.06]), rtol=1e-14)
    assert molecule.mass_numbers is None


def test_isotopes_by_element_by_atom_and_by_symbol():
    one = OCS.with_isotopes({0: 18, "C": 13})
    two = Molecule.of(["18O", "13C", "S"], OCS.positions)
    assert one.mass_numbers == two.mass_numbers == (18, 13, 32)
    assert one.symbols == two.symbols == ("O", "C", "S")
    assert_array_equal(one.masses, two.masses)
    methane = Molecule.named("CH4").with_isotopes({1: 1, "H": 2})
    assert methane.mass_numbers == (12, 1, 2, 2, 2)


def test_an_isotope_changes_nothing_else():
    charged = OCS.with_charges([1, 2, 3])
    heavy = charged.with_average_masses().with_isotopes({"S": 34})
    assert heavy.mass_numbers == (16, 12, 34)
    assert_array_equal(heavy.charges, [1, 2, 3])
    assert_array_equal(heavy.positions, OCS.positions)


@pytest.mark.parametrize("symbol", ["X", "Xx", "", "c", "CL", "C1", "12", "-1", "9C", "Tc"])
def test_unknown_symbols_are_refused(symbol):
    with pytest.raises(InvalidDataError, match=r"unknown symbol|no isotope"):
        split_symbol(symbol)


def test_isotopes_of_atoms_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="isotopes for 'N', but the atoms are O C S"):
        OCS.with_isotopes({"N": 15})
    with pytest.raises(ValueError, match="isotopes for 3, but"):
        OCS.with_isotopes({3: 15})
    with pytest.raises(ValueError, match="no isotope 20 of C in the table; it has 12, 13, 14"):
        OCS.with_isotopes({"C": 20})


# the library


def distances(molecule):
    i, j = np.triu_indices(len(molecule.symbols), 1)
    return np.linalg.norm(molecule.positions[i] - molecule.positions[j], axis=1) / ANGSTROM


@pytest.mark.parametrize("name", Molecule.names())
def test_library(name):
    molecule = Molecule.named(name)
    assert molecule.name == name
    between = (
        np.linalg.norm(molecule.positions[:, None] - molecule.positions, axis=2) / ANGSTROM
    )
    np.fill_diagonal(between, np.inf)
    assert between.min() > 0.7  # H2: 0.73 Å
    assert between.min(axis=1).max() < 2.7  # I2: 2.67 Å, so nobody is left out
    if re.fullmatch(r"([A-Z][a-z]?\d*)+", name):
        formula = Counter()
        for element, count in re.findall(r"([A-Z][a-z]?)(\d*)", name):
            formula[element] += int(count or 1)
        assert Counter(molecule.symbols) == formula


def test_ocs_is_that_of_the_published_numbers():
    assert OCS.symbols == ("O", "C", "S")
    assert_allclose(distances(OCS), [1.1562, 2.7176, 1.5614], atol=1e-6)
    # KER = sum of 1 / r = 26.975 eV with charge 1 on each
    assert np.sum(1 / (distances(OCS) * ANGSTROM)) / EV == pytest.approx(26.975, abs=1e-3)


# Rotational constants B0 in MHz: OCS 6081.49, CH3(79)Br 9568.2, CH3I 7501.3 (NIST Chemistry
# WebBook and CCCBDB). Zero-point motion moves B0 away from B of the equilibrium by up to 1 %.
@pytest.mark.parametrize(
    ("name", "b0_mhz"), [("OCS", 6081.5), ("CH3Br", 9568.2), ("CH3I", 7501.3)]
)
def test_rotational_constants(name, b0_mhz):
    molecule = Molecule.named(name)
    x = molecule.positions - molecule.masses @ molecule.positions / molecule.masses.sum()
    across = np.sum(molecule.masses * np.sum(x[:, 1:] ** 2, axis=1))
    inertia = np.sum(molecule.masses * x[:, 0] ** 2) + across / 2
    rydberg_mhz = physical_constants["Rydberg constant"][0] * speed_of_light / 1e6
    assert rydberg_mhz / inertia == pytest.approx(b0_mhz, rel=0.01)


def test_chbrclf_is_r_and_has_the_measured_structure():
    molecule = Molecule.named("CHBrClF")
    at = dict(zip(molecule.symbols, molecule.positions, strict=True))
    br, cl, f = (at[symbol] - at["C"] for symbol in ("Br", "Cl", "F"))
    lengths = [np.linalg.norm(bond) / ANGSTROM for bond in (br, cl, f)]
    assert_allclose(lengths, [1.927, 1.753, 1.348], atol=1e-5)
    bends = [angle(f, 0, cl), angle(f, 0, br), angle(cl, 0, br)]
    assert_allclose(np.degrees(bends), [109.6, 109.2, 111.5], atol=1e-3)
    # seen with H behind, Br, Cl, F turn clockwise
    assert np.dot(np.cross(br, cl), f) < 0
    assert np.dot(at["H"] - at["C"], br + cl + f) < 0


def test_an_unknown_molecule_is_met_with_the_known_ones():
    with pytest.raises(
        ValueError, match="no molecule 'XYZ' in the library; it has 2-iodo.*OCS"
    ):
        Molecule.named("XYZ")


def test_ase_is_imported_only_when_needed():
    code = (
        "import sys; from coulex.molecule import Molecule; Molecule.named('OCS'); "
        "Molecule.names(); print(sorted({'ase', 'scipy.spatial'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


# the object


def test_arrays_are_copies_and_read_only():
    positions = np.zeros((2, 3))
    positions[1, 0] = 2.0
    molecule = Molecule.of(["H", "Cl"], positions)
    positions += 1
    assert_array_equal(molecule.positions, [[0, 0, 0], [2, 0, 0]])
    for array in (molecule.positions, molecule.masses, molecule.charges):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert_array_equal(molecule.numbers, [1, 17])


def test_description_is_json_and_complete():
    told = json.loads(json.dumps(OCS.with_charges([2, 2, 2]).describe()))
    told["symbols"] = tuple(told["symbols"])
    told["mass_numbers"] = tuple(told["mass_numbers"])
    assert Molecule(**told).describe() == OCS.with_charges([2, 2, 2]).describe()


@pytest.mark.parametrize(
    ("symbols", "positions", "message"),
    [
        (["H", "H"], [[0, 0, 0], [np.nan, 0, 0]], r"positions of atom 1 \(H\) are not finite"),
        (["H", "H"], [[0, 0, 0]], r"2 ions, so positions must be \(2, 3\), got \(1, 3\)"),
        (["H"], [[0, 0, 0]], "1 atoms; an explosion takes at least two"),
        ([], np.zeros((0, 3)), "0 atoms"),
    ],
)
def test_what_is_no_molecule_is_refused(symbols, positions, message):
    with pytest.raises(ValueError, match=message):
        Molecule.of(symbols, positions)


def test_a_mass_must_be_positive():
    wrong = OCS.describe() | {"masses": [1e4, -1.0, 1e4], "mass_numbers": None}
    with pytest.raises(InvalidDataError, match=r"ion 1 \(C\) would have the mass -2"):
        Molecule(**wrong | {"symbols": OCS.symbols})


# charges


@pytest.mark.parametrize(
    ("text", "given", "charges"),
    [
        ("2,1,3", [2, 1, 3], [2, 1, 3]),
        (" 2, 1.5 ,0", [2, 1.5, 0], [2, 1.5, 0]),
        ("C=2,O=1,S=3", {"C": 2, "O": 1, "S": 3}, [1, 2, 3]),
        ("total=6", {"total": 6}, [2, 2, 2]),
        ("total=7", {"total": 7}, [2, 2, 3]),
        ("total=8,rule=whole", {"total": 8, "rule": "whole"}, [3, 2, 3]),
        ("total=7, rule=equal", {"total": 7, "rule": "equal"}, [7 / 3] * 3),
        ("total=0", {"total": 0}, [0, 0, 0]),
    ],
)
def test_charges_as_one_says_them(text, given, charges):
    assert parse_charges(text) == given
    assert_array_equal(OCS.with_charges(given).charges, charges)


def test_whole_charges_stop_at_the_bare_nucleus():
    methane = Molecule.named("CH4")
    assert_array_equal(methane.with_charges({"total": 9}).charges, [5, 1, 1, 1, 1])
    assert_array_equal(methane.with_charges({"total": 2}).charges, [1, 1, 0, 0, 0])


def test_attraction_is_allowed_on_request():
    charged = OCS.with_charges([1, -1, 1], allow_attraction=True)
    assert_array_equal(charged.charges, [1, -1, 1])
    assert_allclose(charged.ion_masses - charged.masses, [-1, 1, -1], atol=1e-9)


@pytest.mark.parametrize(
    "text", ["", "2,,2", "two", "C=2,O", "C=2,C=3", "C=two", "C:2", "total=", "2,C=2", "2;2"]
)
def test_misspelled_charges_are_refused(text):
    with pytest.raises(ValueError, match="expected 2,2,2 or C=2,O=2,S=2 or total=6"):
        parse_charges(text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([2, 2], r"3 atoms \(O C S\), but charges \(2,\)"),
        (2, r"3 atoms \(O C S\), but charges \(\)"),
        ([2, 2, np.nan], r"atom 2 \(S\) has the charge nan; expected a finite"),
        ([2, np.inf, 2], r"atom 1 \(C\) has the charge inf"),
        ([2, -1, 2], r"atom 1 \(C\) has the charge -1; .* `allow_attraction`"),
        ([2, 7, 2], r"atom 1 \(C\) has 6 electrons, not 7"),
        ({"C": 2, "O": 2}, "given for C, O, but the molecule consists of C, O, S"),
        ({"C": 2, "O": 2, "S": 2, "N": 1}, "given for C, N, O, S, but"),
        (
            {"total": 2.5},
            "2.5 cannot be divided into whole charges of O C S, 0 to 30; .*=equal",
        ),
        ({"total": 31}, "31 cannot be divided"),
        ({"total": -3}, "-3 cannot be divided"),
        ({"total": 6, "rule": "fair"}, '"rule", "whole" or "equal"'),
        ({"total": 6, "C": 2}, 'beside "total" stands at most "rule"'),
    ],
)
def test_wrong_charges_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        charges_of(OCS.symbols, OCS.masses, given)
