"""A model as a sampler: gauge, density, refusals; and `coulex sample`."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from geometries import CHARGES, MASSES, OCS
from inverting import as_json, digest, run
from models import events, trained

from coulex import dataset
from coulex.dataset import Target
from coulex.errors import InvalidDataError
from coulex.frames import random_rotations, rotate
from coulex.inverse.posterior import normalised
from generative import data, sampler
from generative.calibration import effective_sample_size

N = 2000
ABOUT = {"charges": CHARGES, "masses": MASSES}


@pytest.fixture(scope="module")
def ocs():
    return events(1, N)


@pytest.fixture(scope="module")
def model(ocs):
    return trained(ocs)


@pytest.fixture
def draw(model):
    return sampler.Sampler(model)


def rng(seed=1):
    return np.random.default_rng(seed)


def test_shapes_and_equal_seeds(draw, ocs):
    p = ocs["momenta"][:50]
    x, log_q = draw(p, 7, noise=0.02, rng=rng(), **ABOUT)
    assert x.shape == (50, 7, 3, 3)
    assert log_q.shape == (50, 7)
    again, _ = draw(p, 7, noise=0.02, rng=rng(), **ABOUT)
    assert np.array_equal(x, again)
    other, _ = draw(p, 7, noise=0.02, rng=rng(2), **ABOUT)
    assert not np.array_equal(x, other)
    none, density = draw(p[:0], 7, noise=0.02, rng=rng(), **ABOUT)
    assert none.shape == (0, 7, 3, 3)
    assert density.shape == (0, 7)


def test_the_number_of_threads_does_not_matter(draw, ocs):
    before = torch.get_num_threads()
    x = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        x.append(draw(ocs["momenta"][:50], 7, noise=None, rng=rng(), **ABOUT)[0])
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert np.array_equal(*x)


def test_draws_turn_with_the_momenta(draw, ocs):
    p = ocs["momenta"][:50]
    turn = random_rotations(5, 0, 50)
    x, log_q = draw(p, 4, noise=0.02, rng=rng(), **ABOUT)
    turned, other = draw(rotate(p, turn), 4, noise=0.02, rng=rng(), **ABOUT)
    back = np.einsum("nij,nkaj->nkai", turn, x)
    assert np.abs(turned - back).max() < 1e-4  # single precision
    assert np.abs(log_q - other).max() < 1e-2


def test_the_density_of_a_draw_is_the_density_of_its_positions(draw, ocs):
    p = ocs["momenta"][:200]
    x, log_q = draw(p, 1, noise=0.02, rng=rng(), **ABOUT)
    value, kind = draw.log_density(x[:, 0], p, charges=CHARGES, noise=0.02)
    assert kind == "exact"
    # what a draw loses in single precision on its way to positions and back
    assert np.abs(value - log_q[:, 0]).max() < 0.02


def test_the_density_of_positions_is_normalised(draw, ocs):
    """By drawing from a wider Gaussian about the draws, in mass-weighted coordinates."""
    p = np.repeat(ocs["momenta"][:1], 1, axis=0)
    count = 40_000
    x, _ = draw(p, 4000, noise=0.02, rng=rng(), **ABOUT)
    free = np.linalg.svd(np.sqrt(MASSES / MASSES.sum())[None])[2][1:]
    y = np.einsum("ai,nik->nak", free * np.sqrt(MASSES), x[0]).reshape(-1, 6)
    mean, covariance = y.mean(axis=0), 1.5**2 * np.cov(y.T)
    root = np.linalg.cholesky(covariance)
    z = rng(2).normal(size=(count, 6))
    wide = mean + z @ root.T
    log = -0.5 * (z**2).sum(axis=1) - np.log(np.diag(root)).sum() - 3 * np.log(2 * np.pi)
    positions = np.einsum("ai,nak->nik", free / np.sqrt(MASSES), wide.reshape(-1, 2, 3))
    repeated = np.broadcast_to(p[0], (count, 3, 3))
    value, _ = draw.log_density(positions, repeated, charges=CHARGES, noise=0.02)
    ratio = np.exp(np.nan_to_num(value - log, nan=-np.inf))
    assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / count**0.5
    assert effective_sample_size(normalised((value - log)[None]))[0] > 2000


def test_a_model_without_density_gives_draws_alone(ocs):
    blind = sampler.Sampler(trained(ocs, coordinates="centred"))
    x, log_q = blind(ocs["momenta"][:5], 3, noise=None, rng=rng(), **ABOUT)
    assert np.isfinite(x).all()
    assert log_q is None
    with pytest.raises(InvalidDataError, match="no density of positions"):
        blind.log_density(x[:, 0], ocs["momenta"][:5], charges=CHARGES, noise=None)


def test_several_threads_draw_as_one(draw, ocs):
    p, before = ocs["momenta"][:64], torch.get_num_threads()

    def drawn(seed):
        known = {"charges": CHARGES, "masses": MASSES, "noise": 0.02}
        return draw(p, 20, **known, rng=np.random.default_rng(seed))[0]

    torch.set_num_threads(3)
    try:
        alone = [drawn(seed) for seed in range(24)]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(drawn, range(24)))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(alone, together)


def test_other_ions_are_refused(draw, ocs):
    p = ocs["momenta"][:5]
    with pytest.raises(InvalidDataError, match="charges 2, 2, 2, these events have 2, 2, 3"):
        draw(p, 3, charges=np.array([2.0, 2, 3]), masses=MASSES, noise=None, rng=rng())
    with pytest.raises(InvalidDataError, match="masses in u 15.99, 12, 31.97, these"):
        draw(p, 3, charges=CHARGES, masses=MASSES[[1, 0, 2]], noise=None, rng=rng())
    with pytest.raises(InvalidDataError, match="atomic numbers 8, 6, 16, these"):
        draw.check(MASSES, CHARGES, [8, 6, 34])
    draw.check(MASSES, CHARGES, OCS.numbers)
    draw.check(MASSES * (1 + 1e-6), np.tile(CHARGES, (4, 1)))


def test_what_was_never_seen_is_known(draw, ocs):
    p = ocs["momenta"]
    assert draw.outside(p, 0.02).mean() < 0.01
    assert draw.outside(3 * p, 0.02).all()  # as of other units, or charges
    assert draw.outside(p, 0.2).all()  # noisier than any


# -- the command


def write(path, arrays):
    with Target(path, {"molecule": OCS.describe()}, {}, len(arrays["momenta"])) as out:
        for shard in out.missing():
            out.write(shard, arrays)
        out.finalize()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model, ocs):
    path = tmp_path_factory.mktemp("model")
    write(path / "ocs.h5", ocs)
    (path / "model").mkdir()
    about = model.representation
    seen = data.Events(path / "ocs.h5", about.needs, about.optional)
    model.save(path / "model", training={"seed": 3}, data=seen.identity)
    return path


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", os.devnull)  # files name the commit
    for name in ("model", "ocs.h5"):
        Path(name).symlink_to(folder / name)
    write("other.h5", events(7, 100))
    return tmp_path


def test_sampling_leaves_out_what_was_trained_on(here):
    said = as_json(run("sample model -n 5 --condition ocs.h5 -o draws.h5 --json"))
    held = dataset.open("draws.h5")
    mine = data.part_of(3, 0, N) == 2
    assert said["part"] == "test"
    assert held.n_events == mine.sum()
    assert np.array_equal(
        held["initial_positions"], dataset.open("ocs.h5")["initial_positions"][mine]
    )
    everything = as_json(
        run("sample model -n 1 --condition ocs.h5 -o all.h5 --part all --json")
    )
    assert everything["events"] == N


def test_sampling_knows_what_coulex_train_has_seen(here):
    run("train gaussian ocs.h5 -o trained --epochs 1 --noise 0.01:0.05 --seed 9")
    said = as_json(run("sample trained -n 1 --condition ocs.h5 -o draws.h5 --json"))
    assert said["part"] == "test"
    assert said["events"] == (data.part_of(9, 0, N) == 2).sum()


def test_the_first_events_of_a_seed_are_the_same_in_every_file(here):
    """More of them, or fewer, in another orientation: still those that were trained on."""
    line = "simulate OCS --charges 2,2,2 --ensemble gaussian --sigma 0.1"
    run(f"{line} -n 400 -o first.h5")
    run("train gaussian first.h5 -o trained --epochs 1 --batch-size 100 --noise 0.01:0.05")
    for options, known in (("", True), ("--orientation random", True), ("--seed 2", False)):
        run(f"{line} -n 500 {options} -o more.h5 --overwrite")
        done = run("sample trained -n 1 --condition more.h5 -o draws.h5 --overwrite --json")
        said = as_json(done)
        assert said["part"] == ("test" if known else None)
        assert ("with the same seed" in done.stderr) == known
        assert said["events"] == ((data.part_of(1, 0, 500) == 2).sum() if known else 500)


def test_sampling_others(here):
    line = "sample model -n 4 --condition other.h5 --noise 0.03"
    said = as_json(run(f"{line} -o draws.h5 --json"))
    assert (said["events"], said["draws"], said["part"]) == (100, 4, None)
    assert said["outside_training"] < 5
    assert said["has_density"]
    about = dataset.open("draws.h5").configuration
    told = json.loads(Path("model/model.json").read_text())
    assert about["sampler"]["sha256"] == told["sha256"]
    assert about["molecule"]["name"] == "OCS"
    run(f"{line} -o again.h5")
    run(f"{line} -o other_seed.h5 --seed 2")
    assert digest("draws.h5") == digest("again.h5") != digest("other_seed.h5")
    few = as_json(run(f"{line} -o few.h5 --events 10 --json"))
    assert few["events"] == 10
    assert np.array_equal(
        dataset.open("few.h5")["momenta"], dataset.open("draws.h5")["momenta"][:10]
    )


def test_sampling_without_what_it_needs(here):
    for line, said in (
        ("sample model -n 4 -o a.h5", "--condition FILE is needed"),
        ("sample model -n 0 --condition other.h5 -o a.h5", "at least 1"),
        ("sample model -n 1 --condition other.h5 -o a.h5 --part test", "--part test is of"),
        ("sample model -n 1 --condition other.h5 -o a.h5 --noise 0", "above 0"),
        (
            "sample model -n 1 --condition other.h5 -o a.h5 --noise .01 --add-noise .01",
            "one of them",
        ),
    ):
        assert said in run(line, 2).stderr


def test_sampling_what_the_model_does_not_know(here):
    arrays = events(7, 20)
    write("charged.h5", arrays | {"charges": np.array([2.0, 2.0, 3.0])})
    wrong = run("sample model -n 1 --condition charged.h5 -o a.h5", 1)
    assert len(wrong.stderr.strip().splitlines()) == 1
    assert "charges 2, 2, 2" in wrong.stderr
    write("far.h5", arrays | {"momenta": 4 * arrays["momenta"]})
    said = run("sample model -n 1 --condition far.h5 -o far_draws.h5")
    assert "20 of 20 events are unlike" in said.stderr
    assert dataset.open("far_draws.h5")["outside_training"].all()


def test_sampling_from_no_model(here):
    Path("empty").mkdir()
    assert "no model.json" in run("sample empty -n 1 --condition other.h5 -o a.h5", 1).stderr
    Path("model.pt").write_bytes(b"\x80\x04.")
    assert (
        "nothing is unpickled"
        in run("sample model.pt -n 1 --condition other.h5 -o a.h5", 4).stderr
    )
    assert not Path("a.h5").exists()


def test_sampling_over_what_is_there(here):
    run("sample model -n 1 --condition other.h5 -o a.h5")
    before = digest("a.h5")
    assert "exists" in run("sample model -n 1 --condition other.h5 -o a.h5", 1).stderr
    assert "draws" in run("sample model -n 2 --condition other.h5 -o a.h5 --resume", 4).stderr
    assert digest("a.h5") == before
    run("sample model -n 2 --condition other.h5 -o a.h5 --overwrite")
    assert digest("a.h5") != before
    run("sample model -n 2 --condition other.h5 -o a.h5 --resume")
