import hashlib
import json

import numpy as np
import pytest

from coulex import Box, Equilibrium, Frames, Gaussian, Molecule, Production, Sphere, simulate
from coulex.dataset import Target, predicted_bytes
from coulex.production import run
from coulex.units import ANGSTROM

OCS = Molecule.named("OCS").with_charges([2, 2, 2])
GAUSSIAN = Gaussian(sigma=0.1)
ENSEMBLES = [
    Equilibrium(),
    GAUSSIAN,
    Sphere(radius=4.0, min_distance=1.0),
    Box(first_bond=(2.0, 3.0), second_bond=(2.0, 3.0), angle_degrees=(90, 180)),
    Frames(positions=OCS.positions + np.random.default_rng(3).normal(size=(7, 3, 3)) / 10),
]


def production(**changes):
    return Production(**{"molecule": OCS, "ensemble": GAUSSIAN, "n": 1000} | changes)


@pytest.mark.parametrize("ensemble", ENSEMBLES, ids=lambda e: e.name)
@pytest.mark.parametrize("orientation", ["given", "random", "recoil"])
def test_an_event_depends_on_its_number_alone(ensemble, orientation):
    whole = production(ensemble=ensemble, orientation=orientation)
    at_once = whole.events(0, 100, threads=2)
    pieces = [whole.events(first, n, threads=1) for first, n in ((0, 1), (1, 36), (37, 63))]
    for name, array in at_once.items():
        joined = np.concatenate([piece[name] for piece in pieces])
        assert array.tobytes() == joined.tobytes(), name


@pytest.mark.parametrize("orientation", ["given", "random", "recoil"])
def test_momenta_belong_to_the_positions_beside_them(orientation):
    made = production(orientation=orientation).events(0, 200)
    again = simulate(made["initial_positions"], OCS.ion_masses, OCS.charges)
    size = np.linalg.norm(made["momenta"], axis=(1, 2))
    error = np.linalg.norm(again.momenta - made["momenta"], axis=(1, 2)) / size
    assert error.max() < 2e-9  # twice the tolerance: both are simulated


def test_positions_are_rounded_before_they_are_simulated():
    made = production(precision="float32").events(0, 200)
    assert made["initial_positions"].dtype == made["momenta"].dtype == np.float32
    again = simulate(
        made["initial_positions"], OCS.ion_masses, OCS.charges, precision="float32"
    )
    assert again.momenta.tobytes() == made["momenta"].tobytes()


@pytest.mark.parametrize("orientation", ["given", "random", "recoil"])
def test_positions_are_relative_to_the_centre_of_mass(orientation):
    x = production(orientation=orientation).events(0, 50)["initial_positions"]
    centre = np.einsum("nik,i->nk", x, OCS.ion_masses) / OCS.ion_masses.sum()
    assert np.abs(centre).max() < 1e-14


def test_all_the_energy_becomes_kinetic():
    made = production().events(0, 200)
    x, q = made["initial_positions"], OCS.charges
    potential = sum(
        q[i] * q[j] / np.linalg.norm(x[:, i] - x[:, j], axis=1)
        for i in range(3)
        for j in range(i)
    )
    kinetic = (made["momenta"] ** 2).sum(axis=2) @ (0.5 / OCS.ion_masses)
    assert np.abs(kinetic / potential - 1).max() < 2e-9


def test_recoil_frame_is_one_rotation_of_both():
    given, recoil = (production(orientation=o).events(0, 100) for o in ("given", "recoil"))
    p = recoil["momenta"]
    assert (p[:, 0, 0] > 0).all()
    assert np.abs(p[:, 0, 1:]).max() < 1e-9
    assert (p[:, 1, 1] > 0).all()
    for one, other in (("initial_positions", "momenta"), ("momenta", "momenta")):
        inner = [np.einsum("nik,njk->nij", made[one], made[other]) for made in (given, recoil)]
        assert np.abs(inner[0] - inner[1]).max() < 1e-12 * np.abs(inner[0]).max()


def test_an_event_that_fails_has_a_status_and_no_momenta():
    for orientation in ("given", "recoil"):
        made = production(max_steps=1, orientation=orientation).events(0, 20)
        assert (made["status"] != 0).all()
        assert np.isnan(made["momenta"]).all()
        assert np.isfinite(made["initial_positions"]).all()


def digest_of_run(path, made, *, shard_events, threads):
    with Target(path, made.configuration(), {}, made.n, shard_events=shard_events) as target:
        work = run(made, target, threads=threads)
        assert (work.events, work.stopped) == (made.n, False)
        target.finalize()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_threads_and_shards_leave_the_bytes_alone(tmp_path):
    made = production(n=3000, orientation="random")
    digests = {
        digest_of_run(tmp_path / f"{i}.h5", made, shard_events=size, threads=threads)
        for i, (size, threads) in enumerate([(3000, 1), (3000, 2), (700, 2), (64, 1)])
    }
    assert len(digests) == 1


def test_a_stop_keeps_whole_shards_and_the_rest_is_made_later(tmp_path):
    made, path = production(n=1000), tmp_path / "stopped.h5"
    asked = iter([False, False, True])
    options = {"shard_events": 100}
    with Target(path, made.configuration(), {}, 1000, **options) as target:
        work = run(made, target, stop=lambda: next(asked))
        assert (work.events, work.stopped) == (200, True)
        assert len(target.missing()) == 8
    told = []
    with Target(path, made.configuration(), {}, 1000, resume=True, **options) as target:
        assert run(made, target, progress=told.append).events == sum(told) == 800
        target.finalize()
    whole = digest_of_run(tmp_path / "whole.h5", made, shard_events=1000, threads=1)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == whole


def test_the_size_of_a_file_is_predicted(tmp_path):
    for precision in ("float64", "float32"):
        made, path = production(n=2000, precision=precision), tmp_path / f"{precision}.h5"
        digest_of_run(path, made, shard_events=2000, threads=1)
        # what the headers take does not grow with the events
        assert 0 < path.stat().st_size - made.predicted_bytes() < 20_000
        assert made.predicted_bytes() == predicted_bytes(
            2000, 3, list(made.events(0, 1)), dtype=precision
        )


def test_configuration_is_all_that_counts_and_is_json():
    one = production().configuration()
    assert json.loads(json.dumps(one, allow_nan=False)) == one
    changes = {
        "molecule": OCS.with_isotopes({"C": 13}),
        "ensemble": Gaussian(sigma=0.2),
        "orientation": "random",
        "seed": 2,
        "precision": "float32",
        "tolerance": 1e-7,
        "max_steps": 99,
        "allow_attraction": True,
        "portable": True,
    }
    for name, value in changes.items():
        assert production(**{name: value}).configuration() != one, name
    assert production(n=1).configuration() == one  # a count of its own in the file
    assert production(tolerance=1e-9).configuration() == one


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "at least one event"),
        ({"orientation": "up"}, "given, random, recoil"),
        ({"tolerance": 0.0}, "between 1e-13 and 1"),
        ({"tolerance": 1e-9, "precision": "float32"}, "float64 reaches 1e-13"),
        ({"max_steps": 0}, "between 1 and"),
        ({"max_steps": 1 << 24}, "between 1 and"),
    ],
)
def test_a_wrong_production_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        production(**changes)


def test_ensembles_are_in_bohr():
    """What the command line says in Å reaches the ensemble in bohr: sigma 0.1 Å."""
    x = production(ensemble=Gaussian(sigma=0.1 * ANGSTROM)).events(0, 4000)
    spread = (x["initial_positions"] - x["initial_positions"].mean(axis=0))[:, 0, 0].std()
    # an outer atom moves with the centre of mass subtracted: var = σ² (1 - 2 m/M + Σ m²/M²)
    m = OCS.ion_masses / OCS.ion_masses.sum()
    expected = 0.1 * ANGSTROM * np.sqrt(1 - 2 * m[0] + (m**2).sum())
    assert spread == pytest.approx(expected, rel=5 / np.sqrt(2 * 4000))
