"""A model with a known answer, all the way: file, training, draws, scorecard.

Positions are a linear function of momenta and Gaussian noise, which no explosion is, and a
conditional Gaussian is the exact model of that. So every number of the scorecard is known.
"""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from coulex import dataset
from coulex.cli import app
from coulex.dataset import Shard, Target
from coulex.molecule import Molecule

N, DRAWS, SIGMA = 6000, 40, 0.05


def run(*words):
    done = CliRunner().invoke(app, [str(w) for word in words for w in str(word).split()])
    assert done.exit_code == 0, (done.output, done.exception)
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("known"), np.random.default_rng(1)
    ocs = Molecule.named("OCS").with_charges([2, 2, 2])
    momenta = 100 * rng.normal(size=(N, 3, 3))
    momenta -= momenta.mean(axis=1, keepdims=True)
    slope = 0.002 * np.random.default_rng(2).normal(size=(9, 9))
    positions = ocs.positions + (momenta.reshape(N, 9) @ slope).reshape(N, 3, 3)
    positions += SIGMA * rng.normal(size=positions.shape)
    arrays = {"initial_positions": positions, "momenta": momenta, "charges": ocs.charges}
    arrays |= {"masses": ocs.ion_masses, "numbers": np.array(ocs.numbers, np.int32)}
    with Target(folder / "linear.h5", {}, {}, N) as target:
        target.write(Shard(0, 0, N), {k: np.asarray(v) for k, v in arrays.items()})
        target.finalize()
    seen = "--frame given --coordinates positions --conditions momenta"
    course = "--epochs 30 --batch-size 200 --learning-rate 0.02 --patience 0"
    run("train gaussian", folder / "linear.h5", seen, course, "-o", folder / "model")
    about = f"-n {DRAWS} --condition {folder / 'linear.h5'} -o {folder / 'draws.h5'}"
    run("sample", folder / "model", about)
    return folder


def test_the_loss_is_the_entropy(folder):
    losses = json.loads((folder / "model/model.json").read_text())["about"]["summary"][
        "losses"
    ]
    data = dataset.open(folder / "linear.h5")
    spread = data["initial_positions"].std(axis=0)
    # of the noise, in units of the deviation of each component
    entropy = (0.5 * np.log(2 * np.pi * np.e) + np.log(SIGMA / spread)).sum()
    error = (9 / 2 / (0.15 * N)) ** 0.5
    assert losses["test"]["loss"] == pytest.approx(entropy, abs=5 * error)


def test_every_number_of_the_scorecard_is_known(folder):
    said = json.loads(run("score", folder / "draws.h5", "--json --threads 1").stdout)
    truth = dataset.open(folder / "linear.h5")["initial_positions"]
    values = 9 * said["events"]
    error = (2 / values) ** 0.5  # of a mean of squares, relative
    mse = said["metrics"]["mse"]
    assert mse == pytest.approx(SIGMA**2 * (1 + 1 / DRAWS), rel=5 * error)
    assert said["one_draw"]["mse"] == pytest.approx(2 * SIGMA**2, rel=5 * error)
    mae = SIGMA * (1 + 1 / DRAWS) ** 0.5 * (2 / np.pi) ** 0.5
    assert said["metrics"]["mae"] == pytest.approx(mae, rel=5 * error)
    # of a Gaussian, at a point of its own
    assert said["metrics"]["crps"] == pytest.approx(SIGMA / np.pi**0.5, rel=5 * error)
    mean = said["floors"]["mean"]["mse"]
    assert mean == pytest.approx(truth.var(axis=0).mean(), rel=10 * error)
