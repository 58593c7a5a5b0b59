"""Three potentials of silicon: their published parameters, as LAMMPS reads them.

Each is a sum of pair terms and of terms that punish angles; they differ in how the strength of
a bond follows the number of neighbours, and so in how good their amorphous silicon is. Lengths
are in Å, energies in eV. The parameters are written here rather than taken from the files that
come with LAMMPS, so that a name means the same numbers with every build.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Potential:
    """A potential, and what is known of its diamond lattice.

    Attributes
    ----------
    name : str
    style : str
        Of LAMMPS.
    parameters : str
        What follows the names of the three elements in a file of LAMMPS.
    cohesive_energy : float
        Of an atom in the diamond lattice, eV.
    lattice_constant : float
        Of the diamond lattice at zero pressure, Å.
    melting : float
        Where crystal and melt are in equilibrium, K; to tens of K.
    reference : str
        Where the parameters were published.
    """

    name: str
    style: str
    parameters: str
    cohesive_energy: float
    lattice_constant: float
    melting: float
    reference: str

    def file(self) -> str:
        """Return the file of parameters that LAMMPS reads."""
        return f"# {self.reference}\nSi Si Si {self.parameters}\n"


POTENTIALS = {
    p.name: p
    for p in (
        Potential(
            # A B cutoffA cutoffC alpha beta eta gamma lambda mu rho sigma Q0 u1 u2 u3 u4.
            # LAMMPS has it twice: "edip" is twice as fast, by tables, and of two runs from
            # the same seed in one process some differ (version of July 2025)
            name="edip",
            style="edip/multi",
            parameters="7.9821730 1.5075463 3.1213820 2.5609104 3.1083847 0.0070975 "
            "0.2523244 1.1247945 1.4533108 0.6966326 1.2085196 0.5774108 312.1341346 "
            "-0.165799 32.557 0.286198 0.66",
            cohesive_energy=-4.650,
            lattice_constant=5.4305,
            melting=1520.0,  # Keblinski et al., Phys. Rev. B 66, 064104 (2002)
            reference="Justo et al., Phys. Rev. B 58, 2539 (1998), 10.1103/PhysRevB.58.2539",
        ),
        Potential(
            # epsilon sigma a lambda gamma cos(theta0) A B p q tolerance
            name="sw",
            style="sw",
            parameters="2.1683 2.0951 1.80 21.0 1.20 -0.333333333333 7.049556277 "
            "0.6022245584 4.0 0.0 0.0",
            cohesive_energy=-4.3366,
            lattice_constant=5.4309,
            melting=1691.0,  # Broughton and Li, Phys. Rev. B 35, 9120 (1987)
            reference="Stillinger and Weber, Phys. Rev. B 31, 5262 (1985), "
            "10.1103/PhysRevB.31.5262",
        ),
        Potential(
            # m gamma lambda3 c d cos(theta0) n beta lambda2 B R D lambda1 A: "Si(C)", with
            # the better elastic constants, not the "Si(B)" of Phys. Rev. B 37, 6991
            name="tersoff",
            style="tersoff",
            parameters="3.0 1.0 1.7322 1.0039e5 16.218 -0.59826 0.78734 1.0999e-6 1.7322 "
            "471.18 2.85 0.15 2.4799 1830.8",
            cohesive_energy=-4.6296,
            lattice_constant=5.432,
            melting=2547.0,  # Cook and Clancy, Phys. Rev. B 47, 7686 (1993)
            reference="Tersoff, Phys. Rev. B 38, 9902 (1988), 10.1103/PhysRevB.38.9902",
        ),
    )
}


def potential_of(name: str) -> Potential:
    """Return a potential by its name.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in POTENTIALS:
        msg = f"no potential {name!r}; known are {', '.join(POTENTIALS)}"
        raise ValueError(msg)
    return POTENTIALS[name]
