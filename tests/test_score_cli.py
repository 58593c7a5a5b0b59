"""`coulex score` on draws whose errors are known."""

from pathlib import Path

import numpy as np
import pytest
from geometries import OCS
from inverting import as_json, run
from models import PRIOR, events, trained

from coulex import dataset
from coulex.dataset import Target
from coulex.drawing import Drawing
from coulex.filling import fill
from coulex.frames import kabsch
from coulex.reconstruction import measured
from generative import judge, sampler

N, DRAWS, WIDTH = 400, 12, 0.05
KEYS = {
    *("mse", "mae", "mre", "mse_standardised", "distance_mae"),
    *("momentum_residual", "crps", "nll"),
}
ORIGIN = {"molecule": OCS.describe(), "ensemble": PRIOR.describe(), "start": "at rest"}


@pytest.fixture(scope="module")
def ocs():
    return events(5, N)


@pytest.fixture(scope="module")
def model():
    return trained(events(1, 2000))


def knowing(arrays, width):
    """Return a sampler that knows the truth, and draws about it."""
    both = zip(arrays["momenta"], arrays["initial_positions"], strict=True)
    known = {p.tobytes(): x for p, x in both}

    def draw(momenta, n, *, charges, masses, noise, rng):
        x = np.array([known[p.tobytes()] for p in momenta]).reshape(-1, 1, *momenta.shape[1:])
        return x + width * rng.normal(size=(len(x), n, *x.shape[2:])), None

    return draw


def written(path, arrays):
    with Target(path, ORIGIN, {}, len(arrays["momenta"])) as out:
        for shard in out.missing():
            out.write(shard, arrays)
        out.finalize()
    return dataset.open(path)


def drawn(path, arrays, *, width=WIDTH, frame="recoil", **options):
    """Write a file of draws about the truth."""
    source = measured(written(path.with_name(f"{path.stem}_events.h5"), arrays))
    known = {
        n: a for n, a in source.constants.items() if n in ("masses", "charges", "numbers")
    }
    seen = {"frame": frame, "axes": [0, 1], "coordinates": "centred"}
    described = {"model": "knowing", "sha256": "0", "representation": seen}
    made = {"source": source, "constants": known, "origin": ORIGIN, "draws": DRAWS}
    made |= {"sampler": knowing(arrays, width), "described": described}
    drawing = Drawing(**made | options)
    about = drawing.configuration(), {}, source.n_events
    with Target(path, *about, shard_events=drawing.shard_events) as out:
        fill(out, source, known, drawing.events, block=drawing.block)
        out.finalize()
    return path


def test_errors_of_known_draws(tmp_path, ocs):
    said = as_json(run(f"score {drawn(tmp_path / 'draws.h5', ocs)} --json"))
    assert (said["events"], said["draws"], said["left_out"]) == (N, DRAWS, 0)
    network, one, best = said["metrics"], said["one_draw"], said["best_of"]
    free = N * 9
    assert one["mse"] == pytest.approx(WIDTH**2, rel=4 * (2 / free) ** 0.5)
    assert network["mse"] == pytest.approx(WIDTH**2 / DRAWS, rel=4 * (2 / free) ** 0.5)
    # of a Gaussian at its own mean, the same for every number of draws
    expected = WIDTH * (2 / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi))
    assert network["crps"] == pytest.approx(expected, rel=0.03)
    assert one["crps"] == one["mae"]
    assert network["mse"] < best["mse"] < one["mse"]
    assert network["nll"] is None
    assert said["nll"]["why"] == "no --model to ask"


def test_keys_and_floors(tmp_path, ocs):
    said = as_json(run(f"score {drawn(tmp_path / 'draws.h5', ocs)} --json"))
    assert set(said["metrics"]) == KEYS == set(judge.COLUMNS)
    assert set(said["floors"]) == {"mean", "random", "noise_floor", "exact"}
    assert all(set(row) == KEYS for row in said["floors"].values())
    assert said["floors"]["mean"]["mse_standardised"] == pytest.approx(1, rel=1e-9)
    assert said["floors"]["random"]["mse_standardised"] == pytest.approx(2, rel=0.1)
    assert said["floors"]["random"]["crps"] < said["floors"]["mean"]["crps"]
    assert said["floors"]["noise_floor"]["mse"] == 0
    assert said["floors"]["noise_floor"]["momentum_residual"] < 1e-8
    # in the recoil frame, three ions lie in a plane
    assert said["mre_undefined"] == 3 * N


def test_solutions_are_the_exact_posterior_without_noise(tmp_path, ocs):
    said = as_json(run(f"score {drawn(tmp_path / 'draws.h5', ocs)} --json"))
    exact, about = said["floors"]["exact"], said["exact"]
    assert about["by"] == "all solutions"
    assert about["unsolved"] == 0
    assert exact["mse"] < 0.05 * said["metrics"]["mse"]  # 0, but for several solutions
    assert exact["momentum_residual"] < 1e-8


def test_the_frame_of_the_model_decides_what_components_are(tmp_path, ocs):
    one = as_json(run(f"score {drawn(tmp_path / 'a.h5', ocs)} --json"))
    two = as_json(run(f"score {drawn(tmp_path / 'b.h5', ocs, frame='given')} --json"))
    for key in ("distance_mae", "momentum_residual"):
        assert one["metrics"][key] == pytest.approx(two["metrics"][key], rel=1e-9)
    # molecules in all orientations: their mean, seen from outside, is nothing
    assert two["floors"]["mean"]["mse"] > 50 * one["floors"]["mean"]["mse"]
    assert two["mre_undefined"] == 0


def test_atoms_are_judged_after_the_best_rotation(tmp_path, ocs):
    path = drawn(tmp_path / "draws.h5", ocs)
    said = as_json(run(f"score {path} --json"))["atom_error"]
    data = dataset.open(path)
    x = data["solution_positions"].reshape(N, DRAWS, 3, 3)[:, 0]
    expected = np.sqrt((kabsch(x, data["initial_positions"])[1] ** 2).mean())
    assert said["one_draw"]["rms"] == pytest.approx(expected, rel=1e-9)
    assert said["noise_floor"]["percentile_99"] < 1e-7


def test_draws_that_are_too_sure_do_not_cover(tmp_path, ocs):
    """Draws about the truth itself are always right: they cover too much."""
    said = as_json(run(f"score {drawn(tmp_path / 'draws.h5', ocs)} --json"))
    assert said["calibration"]["coverage"]["distance_1"]["shares"][1] > 0.9
    assert said["calibration"]["uniformity"]["distance_1"] < 1e-6


def test_a_reference_may_hold_the_truth(tmp_path, ocs):
    path = drawn(tmp_path / "draws.h5", ocs)
    own = as_json(run(f"score {path} --json"))
    other = as_json(run(f"score {path} --reference {tmp_path}/draws_events.h5 --json"))
    assert other["metrics"] == own["metrics"]
    few = written(tmp_path / "few.h5", {**ocs, **_first(ocs, 10)})
    wrong = run(f"score {path} --reference {few.path}", 4)
    assert "not the same events" in wrong.stderr
    assert "not a file of draws" in run(f"score {few.path}", 1).stderr
    blind = {n: a for n, a in _first(ocs, 10).items() if n != "initial_positions"}
    blind |= {n: ocs[n] for n in ("masses", "charges", "numbers")}
    unknown = tmp_path / "unknown.h5"
    written(unknown, blind)
    assert "true positions" in run(f"score {path} --reference {unknown}", 1).stderr


def _first(arrays, count):
    return {n: arrays[n][:count] for n in ("initial_positions", "momenta")}


def test_the_first_events_only(tmp_path, ocs):
    said = as_json(run(f"score {drawn(tmp_path / 'draws.h5', ocs)} --events 100 --json"))
    assert said["events"] == 100


def test_events_without_all_draws_are_left_out(tmp_path, ocs):
    p = ocs["momenta"].copy()
    p[:7] = np.nan
    said = run(f"score {drawn(tmp_path / 'draws.h5', {**ocs, 'momenta': p})}")
    assert "7 events are left out" in said.stderr
    nothing = {**ocs, "momenta": np.full_like(p, np.nan)}
    refused = run(f"score {drawn(tmp_path / 'none.h5', nothing)}", 1)
    assert "0 events have all draws and a truth" in refused.stderr


# -- with noise, and a model


@pytest.fixture
def noisy(tmp_path, monkeypatch, model, ocs):
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    model.save(Path("model"))
    written("ocs.h5", ocs)
    run("sample model -n 200 --condition ocs.h5 --add-noise 0.03 -o draws.h5")


@pytest.mark.usefixtures("noisy")
def test_likelihood_and_weights(model):
    said = as_json(run("score draws.h5 --model model --json"))
    data = dataset.open("draws.h5")
    value, _ = sampler.Sampler(model).log_density(
        data["initial_positions"], data["momenta"], charges=data["charges"], noise=0.03
    )
    assert said["metrics"]["nll"] == pytest.approx(-value.mean(), abs=0.01)
    assert (said["nll"]["kind"], said["noise"]) == ("exact", 0.03)
    assert "density" in said["calibration"]["coverage"]
    assert said["exact"]["by"] == "draws weighted by the simulator"
    assert 0.05 < said["exact"]["effective_share"] <= 1
    # what no draws can beat but by chance
    assert said["rmse_over_exact"] > 0.9
    covered = said["calibration_exact"]["coverage"]["distance_3"]
    assert np.abs(np.subtract(covered["shares"], covered["levels"])).max() < 0.1
    # the truth misses the momenta by their noise, and the exact posterior less
    floors = said["floors"]
    assert floors["noise_floor"]["momentum_residual"] == pytest.approx(0.03, rel=0.3)
    assert floors["exact"]["momentum_residual"] < floors["noise_floor"]["momentum_residual"]


@pytest.mark.usefixtures("noisy")
def test_the_table_says_what_it_cannot(model):
    said = run("score draws.h5").stdout
    for word in ("best of 200", "other event", "no NLL: no --model", "noise 3 %", "coverage"):
        assert word in said
    assert "…" not in said
    Path("other").mkdir()
    trained(events(2, 2000)).save(Path("other"))
    assert "not the model" in run("score draws.h5 --model other", 4).stderr
    run("validate draws.h5")


@pytest.mark.usefixtures("noisy")
def test_without_noise_there_is_no_likelihood():
    run("sample model -n 3 --condition ocs.h5 -o clean.h5")
    said = as_json(run("score clean.h5 --model model --json"))
    assert said["metrics"]["nll"] is None
    assert "no bound" in said["nll"]["why"]
