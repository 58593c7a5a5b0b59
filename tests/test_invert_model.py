"""`coulex invert --model`: draws as starts, and what they are worth."""

import os
from pathlib import Path

import numpy as np
import pytest
from geometries import CHARGES, MASSES, OCS, exact
from inverting import as_json, digest, run
from models import PRIOR, events, trained
from test_posterior import noisy as with_noise

from coulex import Molecule, dataset, invert, simulate
from coulex.dataset import Target
from coulex.ensemble import Gaussian
from coulex.inverse.comparison import compare
from coulex.inverse.starts import of_sampler

N = 60
PRIOR_OPTIONS = "--prior gaussian --sigma 0.05291772"


def write(path, arrays):
    with Target(path, {"molecule": OCS.describe()}, {}, len(arrays["momenta"])) as out:
        for shard in out.missing():
            out.write(shard, arrays)
        out.finalize()


@pytest.fixture(scope="module")
def model():
    return trained(events(1, 2000))


@pytest.fixture
def here(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", os.devnull)  # files name the commit
    Path("model").mkdir()
    model.save(Path("model"))
    write("new.h5", events(9, N))


# -- the library


def five():
    molecule = Molecule.named("CHBrClF").with_charges([1, 1, 1, 1, 1])
    x, _ = Gaussian(sigma=0.1).sample(molecule, seed=3, first=0, count=20)
    run = simulate(x, molecule.ion_masses, molecule.charges, tolerance=1e-13)
    return molecule, x, run.momenta


def near(x, width, seed=0):
    """Return a sampler that draws about the truth, whatever it is asked."""

    def draw(momenta, n, *, charges, masses, noise, rng):
        size = (len(momenta), n, *momenta.shape[1:])
        return x[: len(momenta), None] + width * rng.normal(size=size), None

    return draw


def test_starts_near_the_truth_find_it():
    molecule, x, p = five()
    found = invert(p, molecule.ion_masses, molecule.charges, sampler=near(x, 0.02))
    nearest = np.full(len(x), np.inf)
    centre = np.einsum("nik,i->nk", x, molecule.ion_masses) / molecule.ion_masses.sum()
    gap = found.solution_positions - (x - centre[:, None])[found.solution_event]
    np.minimum.at(nearest, found.solution_event, np.abs(gap).max(axis=(1, 2)))
    assert nearest.max() < 1e-6


def test_starts_that_are_not_finite_are_replaced():
    x = events(2, 6)["initial_positions"]

    def broken(momenta, n, **_):
        drawn = np.repeat(x[:, None], n, axis=1)
        drawn[1, 3] = np.nan
        return drawn, None

    starts = of_sampler(
        broken, exact(x), MASSES, CHARGES, otherwise=lambda event, _: 7 + 0 * x[event]
    )
    assert np.array_equal(starts(np.array([0, 1]), 3), np.stack([x[0], np.full((3, 3), 7.0)]))
    assert np.array_equal(starts(np.array([1]), 2), x[[1]])


def test_the_ways_compared():
    molecule, x, p = five()
    about = molecule.ion_masses, molecule.charges
    prior = (Gaussian(sigma=0.1), molecule)
    alone, helped, without = compare(p, *about, near(x, 0.02), prior=prior, truth=x)
    assert (alone.solved, alone.found) == (0, 0)
    assert 0.001 < alone.error_angstrom < 0.03
    assert helped.solved == len(x)
    assert helped.found == 1
    assert helped.error_angstrom < 1e-6
    assert without.name == "solver alone"
    assert without.solved == len(x)
    assert all(way.milliseconds > 0 for way in (alone, helped, without))


def test_the_ways_compared_with_noise(model):
    from generative.sampler import Sampler

    x = events(9, 20)["initial_positions"]
    p = with_noise(x, 4)
    ways = compare(p, MASSES, CHARGES, Sampler(model), prior=(PRIOR, OCS), truth=x, noise=0.02)
    assert [way.name for way in ways] == [
        "network alone, best of 8",
        "network, weighted",
        "solver alone",
    ]
    assert all(way.solved is None for way in ways)
    assert 0 < ways[1].effective <= 1
    assert ways[1].error_angstrom < 0.1


# -- the command


@pytest.mark.usefixtures("here")
def test_the_report_compares(model):
    said = as_json(run(f"invert new.h5 -o a.h5 --model model {PRIOR_OPTIONS} --json"))
    names = [way["name"] for way in said["comparison"]]
    assert names == ["network alone, best of 8", "network + solver", "solver alone"]
    alone, helped, without = said["comparison"]
    assert alone["solved"] == 0
    assert helped["solved"] == without["solved"] == N
    assert helped["found"] == without["found"] == 1
    assert said["outside_training"] == 0
    table = run(f"invert new.h5 -o b.h5 --model model {PRIOR_OPTIONS}").stdout
    assert "network + solver" in table
    assert digest("a.h5") == digest("b.h5")
    about = dataset.open("a.h5").configuration["inversion"]["model"]
    assert about["model"] == "gaussian"
    assert len(about["sha256"]) == 64


@pytest.mark.usefixtures("here")
def test_without_a_model_nothing_changes():
    run("invert new.h5 -o plain.h5")
    data = dataset.open("plain.h5")
    assert "model" not in data.configuration["inversion"]
    assert "outside_training" not in data


@pytest.mark.usefixtures("here")
def test_a_model_of_other_ions_is_refused():
    arrays = events(9, 5)
    write("charged.h5", arrays | {"charges": np.array([1.0, 2.0, 2.0])})
    wrong = run("invert charged.h5 -o a.h5 --model model", 1)
    assert len(wrong.stderr.strip().splitlines()) == 1
    assert "charges 2, 2, 2, these events have 1, 2, 2" in wrong.stderr
    order = [1, 0, 2]
    swapped = {n: arrays[n][:, order] for n in ("initial_positions", "momenta")}
    swapped |= {"masses": MASSES[order], "numbers": OCS.numbers[order], "charges": CHARGES}
    write("swapped.h5", swapped)
    assert "atomic numbers" in run("invert swapped.h5 -o a.h5 --model model", 1).stderr
    assert not Path("a.h5").exists()


@pytest.mark.usefixtures("here")
def test_events_outside_the_training_are_flagged():
    arrays = events(9, 10)
    far = arrays["momenta"].copy()
    far[:4] *= 2
    write("far.h5", arrays | {"momenta": far})
    said = run("invert far.h5 -o a.h5 --model model")
    assert "4 of 10 events are unlike" in said.stderr
    assert dataset.open("a.h5")["outside_training"].tolist() == [1] * 4 + [0] * 6


@pytest.mark.usefixtures("here")
def test_weighted_draws_of_noisy_events():
    arrays = events(9, 200)
    arrays["momenta"] = with_noise(arrays["initial_positions"], 4)
    write("noisy.h5", arrays)
    line = f"invert noisy.h5 --model model --noise 0.02 {PRIOR_OPTIONS}"
    said = as_json(run(f"{line} --samples 1000 -o a.h5 --json"))["posterior"]
    assert said["samples"] == 1000
    assert 0.02 < said["effective_share"] < 1  # a Gaussian is a rough proposal
    data = dataset.open("a.h5")
    own, w = data["sample_event"], data["sample_weight"]
    assert np.bincount(own, w) == pytest.approx(1)
    effective = 1 / np.bincount(own, w**2)
    assert data["sample_effective"] == pytest.approx(effective)
    # the mean of the posterior: no worse than the most probable geometry
    distance = np.linalg.norm(
        data["sample_positions"][:, 0] - data["sample_positions"][:, 2], axis=1
    )
    mean = np.bincount(own, w * distance)
    true, best = (
        np.linalg.norm(data[name][:, 0] - data[name][:, 2], axis=1)
        for name in ("initial_positions", "estimate_positions")
    )
    errors = [np.sqrt(((found - true) ** 2).mean()) for found in (mean, best)]
    assert errors[0] < 1.1 * errors[1]
    # ranks of the truth
    below = np.bincount(own, w * (distance < true[own]))
    assert abs(below.mean() - 0.5) < 4 / np.sqrt(12 * 200)
    run(f"{line} --samples 1000 -o b.h5")
    assert digest("a.h5") == digest("b.h5")
    run("validate a.h5")


@pytest.mark.usefixtures("here")
def test_no_weights_without_noise_or_density():
    assert "--samples are draws" in run("invert new.h5 -o a.h5 --samples 10", 2).stderr
    Path("blind").mkdir()
    trained(events(1, 1000), coordinates="centred").save(Path("blind"))
    line = "invert new.h5 -o a.h5 --samples 10 --noise 0.02 --model blind"
    assert "no density of positions" in run(line, 1).stderr
